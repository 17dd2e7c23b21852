"""The configuration files that are installed with the package."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["get_config_file"]

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def get_config_file(name: str | os.PathLike[str]) -> str:
    """Return the path of a configuration file of this package.

    Args:
        name: relative to ``configs/``, for example ``"sor/ppa.yaml"``.

    Raises:
        FileNotFoundError: there is no such file.
    """
    path = CONFIGS / name
    if not path.is_file():
        known = sorted(str(file.relative_to(CONFIGS)) for file in CONFIGS.rglob("*.yaml"))
        raise FileNotFoundError(f"{os.fspath(name)}: expected one of {', '.join(known)}")
    return str(path)
