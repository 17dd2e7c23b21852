"""The configuration files that are installed with the package."""

from __future__ import annotations

import os
from pathlib import Path

from detectron2.utils.file_io import PathManager

__all__ = ["find_config", "get_config_file"]

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def get_config_file(name: str | os.PathLike[str]) -> str:
    """Return the path of a configuration file of this package.

    Args:
        name: relative to ``configs/``, for example ``"sor/ppa.yaml"``, or with ``configs/`` in front.

    Raises:
        FileNotFoundError: there is no such file.
    """
    path = CONFIGS / os.fspath(name).removeprefix("configs/")
    if not path.is_file():
        known = sorted(str(file.relative_to(CONFIGS)) for file in CONFIGS.rglob("*.yaml"))
        raise FileNotFoundError(f"{os.fspath(name)}: expected one of {', '.join(known)}")
    return str(path)


def find_config(path: str | os.PathLike[str]) -> str | None:
    """Return the path of a configuration file, else of this package's file of that name; None for neither."""
    try:
        return os.fspath(path) if PathManager.isfile(os.fspath(path)) else get_config_file(path)
    except FileNotFoundError:
        return None
