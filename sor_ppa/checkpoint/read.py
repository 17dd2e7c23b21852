"""Reading a weight file of any supported format without running anything in it."""

from __future__ import annotations

import json
import os
import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from ..restricted_pickle import load_pickle
from .errors import CheckpointError, shown
from .info import INFO_KEY, CheckpointInfo
from .torch_file import PLAIN_NAMES, load_torch_file
from .unwrap import find_state_dict, strip_prefixes
from .write import check_sha256

__all__ = ["Checkpoint", "read_checkpoint", "read_checkpoint_info", "read_weights"]

_EXPECTED = "expected safetensors, a torch .pth or a detectron2 .pkl"
_LEGACY_TORCH = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
_PICKLE = re.compile(rb"\x80[\x01-\x05]|\(dp|\(lp|[}\]]q|c[\w.]+\n[\w.]+\n")
# Tensors may share memory (tied weights), so that together they are larger than the file, but not by much.
_SHARING = 16


@dataclass(frozen=True)
class Checkpoint:
    """A weight file that has been read.

    Attributes:
        tensors: parameter name, as in the file, -> tensor on the CPU.
        format: ``safetensors``, ``torch`` or ``pickle``.
        location: keys under which the state dict was found, joined by dots; empty: at the top.
        extras: what else was found at the top: optimizer, iteration, author ...
        info: what the file was trained with, if training here wrote it.
    """

    tensors: dict[str, torch.Tensor]
    format: str
    location: str = ""
    extras: dict[str, Any] = field(default_factory=dict)
    info: CheckpointInfo | None = None


def read_checkpoint(path: str | os.PathLike[str], *, allow_non_finite: bool = False) -> Checkpoint:
    """Read a weight file; its content, not its name, tells the format.

    Read are safetensors, both formats of ``torch.save``, and pickles of numpy arrays (the model zoos of
    detectron2 and Detectron, Python 2 included). If ``<path>.sha256`` exists, the file must agree with it.

    Args:
        path: a local file.
        allow_non_finite: accept NaN and infinite parameters.

    Raises:
        CheckpointError: in one line, if the file cannot be read, is damaged, or holds anything but weights.
    """
    with _one_line_errors(path):
        checkpoint = _read(path, verified=check_sha256(path))
        _check_tensors(checkpoint.tensors, os.path.getsize(path), allow_non_finite)
        return checkpoint


def read_weights(path: str | os.PathLike[str], *, allow_non_finite: bool = False) -> dict[str, torch.Tensor]:
    """Return the parameters of a weight file; see ``read_checkpoint``."""
    return read_checkpoint(path, allow_non_finite=allow_non_finite).tensors


def read_checkpoint_info(path: str | os.PathLike[str]) -> CheckpointInfo | None:
    """Return what a checkpoint was trained with; None for files from elsewhere.

    Tensors are not read, except from files of torch before 1.6, and the SHA-256 is not checked.

    Args:
        path: a local file.

    Raises:
        CheckpointError: as ``read_checkpoint``.
    """
    with _one_line_errors(path):
        kind = _detect_format(path)
        if kind == "safetensors":
            with safe_open(path, "pt") as file:
                return _info_in(file.metadata())
        if kind == "pickle":
            return None
        return _info_in(load_torch_file(path, check_crc=False, lazy=True))


@contextmanager
def _one_line_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except CheckpointError as error:
        raise error.at(path) from None
    except OSError as error:
        raise CheckpointError(f"cannot be read ({error.strerror or error}), {_EXPECTED}", path) from None
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"found {_first_line(error)}", path) from None
    except Exception as error:  # damaged files raise nearly everything
        reason = f"{type(error).__name__}: {_first_line(error)}"
        raise CheckpointError(f"damaged ({reason}), {_EXPECTED}", path) from None


def _first_line(error: Exception) -> str:
    """Return the line of torch's long messages that says what is wrong."""
    text = str(error).rpartition("WeightsUnpickler error:")[2].strip()
    return text.split("\n")[0].split(". ")[0]


def _detect_format(path: str | os.PathLike[str]) -> str:
    if os.path.exists(path) and not os.path.isfile(path):  # opening a pipe would wait for ever
        raise CheckpointError(f"is not a file, {_EXPECTED}")
    with open(path, "rb") as file:
        head = file.read(512)
    if not head:
        raise CheckpointError(f"is empty, {_EXPECTED}")
    if head.startswith((b"PK\x03\x04", _LEGACY_TORCH)):
        return "torch"
    if head[8:9] == b"{":  # behind the length of the header
        return "safetensors"
    if _PICKLE.match(head):
        return "pickle"
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<?xml")):
        found = "a web page, probably the error page of a download"
    elif text.startswith(b"version https://git-lfs"):
        found = "a git-lfs pointer (run `git lfs pull`)"
    else:
        found = f"a file that begins {shown(head[:16])}"
    raise CheckpointError(f"found {found}, {_EXPECTED}")


def _read(path: str | os.PathLike[str], verified: bool) -> Checkpoint:
    kind = _detect_format(path)
    info: CheckpointInfo | None = None
    if kind == "safetensors":
        with safe_open(path, "pt") as file:
            info = _info_in(file.metadata())
            # a copy, because the library maps the file, which may be replaced or cut later
            loaded: Any = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    elif kind == "torch":
        loaded = load_torch_file(path, check_crc=not verified)
        info = _info_in(loaded)
    else:
        loaded = load_pickle(Path(path).read_bytes(), PLAIN_NAMES)
    tensors, extras, location = find_state_dict(loaded)
    extras.pop(INFO_KEY, None)
    return Checkpoint(strip_prefixes(tensors), kind, location, extras, info)


def _info_in(values: Any) -> CheckpointInfo | None:
    """Return the info in the metadata of a safetensors file or in the object of a torch file."""
    found = values.get(INFO_KEY) if isinstance(values, dict) else None
    if found is None:
        return None
    return CheckpointInfo.from_dict(json.loads(found) if isinstance(found, str) else found)


def _check_tensors(tensors: dict[str, torch.Tensor], size: int, allow_non_finite: bool) -> None:
    """Refuse tensors that are no plain arrays, claim more than the file can hold, or are not finite."""
    for name, tensor in tensors.items():
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise CheckpointError(f"parameter {shown(name)}: expected a dense tensor, found another kind")
    if (claimed := sum(t.numel() * t.element_size() for t in tensors.values())) > _SHARING * size:
        raise CheckpointError(
            f"found tensors of {claimed} bytes, expected at most {_SHARING} times the file's"
        )
    for name, tensor in tensors.items():
        if allow_non_finite or not (tensor.is_floating_point() or tensor.is_complex()):
            continue
        values = tensor.float() if tensor.element_size() == 1 else tensor
        # a sum is quicker; it may overflow, but with a NaN or an infinity in it it is never finite
        if not torch.isfinite(values.sum()) and (count := int((~torch.isfinite(values)).sum())):
            raise CheckpointError(
                f"parameter {shown(name)} has {count} of {tensor.numel()} values NaN or infinite, "
                "expected finite numbers"
            )
