"""What a checkpoint was trained with: configuration, class names and version."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from .errors import CheckpointError, quoted

__all__ = ["INFO_KEY", "CheckpointInfo"]

# Where it is kept: beside ``model`` in .pth files; as JSON text in the metadata of safetensors.
INFO_KEY = "sor_ppa"


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint was trained with.

    Attributes:
        config: the configuration as YAML text (``cfg.dump()``).
        class_names: names of the classes, in the order of their numbers.
        version: version of sor_ppa that wrote the file.
    """

    config: str
    class_names: tuple[str, ...] = ()
    version: str = field(default_factory=lambda: str(import_module("sor_ppa").__version__))

    @classmethod
    def from_dict(cls, values: Any) -> CheckpointInfo:
        """Return the info that ``dataclasses.asdict`` gave.

        Raises:
            CheckpointError: if it is something else.
        """
        keys = ("config", "class_names", "version")
        config, names, version = (values.get(k) if isinstance(values, dict) else None for k in keys)
        if isinstance(names, (list, tuple)) and all(isinstance(v, str) for v in (config, version, *names)):
            return cls(str(config), tuple(names), str(version))
        raise CheckpointError(f"{INFO_KEY}: found {quoted(values)}, expected text under {', '.join(keys)}")
