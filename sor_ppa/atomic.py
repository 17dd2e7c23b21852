"""Writing files whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["DiskFullError", "atomic_write", "write_json"]

_NEARLY_FULL = 64 * 1024


class DiskFullError(OSError):
    """There is no space left for a file; the message is ``disk full: <file>``."""


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary file beside ``path`` that takes its place when the block ends without an error.

    At every moment ``path`` is the former file or the whole new one, also after a crash. The temporary
    file is always ``<path>.part``; the next writer overwrites what a killed process left. A pipe or a device
    such as ``/dev/stdout`` is written directly.

    Args:
        path: the file to write.

    Yields:
        The path of the temporary file, which the block writes.

    Raises:
        DiskFullError: no space was left; whatever error the writer made of it is replaced.

    Example:
        >>> with atomic_write("ranks.json") as file:  # doctest: +SKIP
        ...     file.write_text("{}")
    """
    target = Path(path)
    if str(target).startswith(("/dev/", "/proc/")) or (target.exists() and not target.is_file()):
        yield target
        return
    temporary = Path(f"{target}.part")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except Exception as error:
        if _is_disk_full(error, target.parent):
            raise DiskFullError(f"disk full: {target}") from None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _is_disk_full(error: Exception, folder: Path) -> bool:
    """Tell whether an error comes from a full disk; torch and safetensors report it in words of their own."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return folder.is_dir() and shutil.disk_usage(folder).free < _NEARLY_FULL


def write_json(path: str | os.PathLike[str], content: Any, *, indent: int | None = None) -> None:
    """Write strict JSON atomically.

    Raises:
        ValueError: the content has NaN or infinities.
        DiskFullError: see :func:`atomic_write`.
    """
    with atomic_write(path) as part:
        part.write_text(json.dumps(content, indent=indent, allow_nan=False) + "\n", "utf-8")
