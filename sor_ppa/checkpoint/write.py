"""Writing weight files whole or not at all, each with its SHA-256 beside it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ..atomic import DiskFullError, atomic_write
from .errors import CheckpointError, quoted
from .info import INFO_KEY, CheckpointInfo

__all__ = ["check_sha256", "save_safetensors", "save_torch", "write_file"]


def save_torch(path: str | os.PathLike[str], data: Mapping[str, Any]) -> None:
    """Write a file with ``torch.save``; otherwise as ``save_safetensors``."""
    _write_with_checksum(path, lambda file: torch.save(dict(data), file))


def save_safetensors(
    path: str | os.PathLike[str], state: Mapping[str, torch.Tensor], info: CheckpointInfo | None = None
) -> None:
    """Write tensors as safetensors, and ``<path>.sha256`` beside the file.

    Args:
        path: the file to write.
        state: name -> tensor of any device and layout in memory; tied ones are written once each.
        info: what the weights were trained with; becomes metadata of the file.

    Raises:
        CheckpointError: if it cannot be written; the former file is then still there.
    """
    owned = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    metadata = {"format": "pt", **({INFO_KEY: json.dumps(asdict(info))} if info else {})}

    def write(file: Path) -> None:
        file.touch()
        mode = file.stat().st_mode  # as the umask says; the library writes for the owner alone
        save_file(owned, file, metadata=metadata)
        file.chmod(mode)

    _write_with_checksum(path, write)


def _write_with_checksum(path: str | os.PathLike[str], write: Callable[[Path], object]) -> None:
    checksum = _checksum_file(path)
    with write_file(path) as file:
        write(file)
        digest = _sha256(file)
        checksum.unlink(missing_ok=True)  # of the former file: a crash may leave none, but no wrong one
    with write_file(checksum) as file:
        file.write_text(f"{digest}  {os.path.basename(path)}\n")


@contextmanager
def write_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a file as ``atomic_write`` does; errors become a CheckpointError that names it."""
    try:
        with atomic_write(path) as file:
            yield file
    except DiskFullError as error:
        raise CheckpointError(str(error)) from None
    except Exception as error:  # torch and safetensors raise classes of their own
        raise CheckpointError(f"cannot be written ({error})", path) from None


def check_sha256(path: str | os.PathLike[str]) -> bool:
    """Compare a local file with ``<path>.sha256``; return False if there is none.

    Raises:
        CheckpointError: if they disagree.
    """
    checksum = _checksum_file(path)
    if not checksum.is_file() or not os.path.isfile(path):
        return False
    line = checksum.read_text(errors="replace")
    expected, found = line.partition(" ")[0].strip(), _sha256(path)
    if found == expected:
        return True
    if not checksum.is_file() or checksum.read_text(errors="replace") != line:  # just being written
        return False
    raise CheckpointError(
        f"found SHA-256 {found[:12]}..., expected {quoted(expected[:12])}... as in {checksum.name}: "
        "the file is damaged (or was replaced: then delete that checksum)"
    )


def _checksum_file(path: str | os.PathLike[str]) -> Path:
    return Path(f"{os.fspath(path)}.sha256")


def _sha256(path: str | os.PathLike[str]) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()
