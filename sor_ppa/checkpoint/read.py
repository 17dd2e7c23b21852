"""Reading a weight file of any supported format without running anything in it."""

from __future__ import annotations

import json
import os
import pickle
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from ..restricted_pickle import load_pickle
from .errors import CheckpointError, quoted
from .info import INFO_KEY, CheckpointInfo
from .rename import without_prefixes
from .torch_file import PLAIN_NAMES, load_torch_file
from .write import check_sha256

__all__ = ["Checkpoint", "read_checkpoint", "read_checkpoint_info", "read_weights"]

_EXPECTED = "expected safetensors, a torch .pth or a detectron2 .pkl"
# How files begin: both formats of torch, text behind the length of the header, all protocols of pickle.
_FORMATS = {
    "torch": re.compile(rb"PK\x03\x04|\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\."),
    "safetensors": re.compile(rb".{8}\{", re.DOTALL),
    "pickle": re.compile(rb"\x80[\x01-\x05]|\(dp|\(lp|[}\]]q|c[\w.]+\n[\w.]+\n"),
}
_OTHERS = {
    "a web page, probably the error page of a download": re.compile(rb"(?i)\s*<(!doctype html|html|\?xml)"),
    "a git-lfs pointer (run `git lfs pull`)": re.compile(rb"\s*version https://git-lfs"),
}
# Tensors may share memory (tied weights), so that together they are larger than the file, but not by much.
_SHARING = 16

# Keys under which training programs put the state dict; of several, the first of this list is taken.
_WRAPPERS = (
    *("model", "state_dict", "model_state_dict", "model_state", "blobs", "net", "network", "params"),
    *("weights", "checkpoint", "teacher", "model_ema", "state_dict_ema", "ema_state_dict", "ema"),
    *("student", "module"),
)
# Wrappers of torch around a whole model: DistributedDataParallel and torch.compile.
_MODULE_PREFIXES = ("module.", "_orig_mod.")
# A counter that torch.optim.swa_utils.AveragedModel puts beside ``module.``
_AVERAGED = "n_averaged"
_LEVELS = 4
_LONGEST_NAME = 512


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
        checkpoint = _read_unchecked(path, verified=check_sha256(path))
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
        return None if kind == "pickle" else _info_in(load_torch_file(path, check_crc=False, lazy=True))


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
    for kind, pattern in _FORMATS.items():
        if pattern.match(head):
            return kind
    found = next((text for text, pattern in _OTHERS.items() if pattern.match(head)), "")
    found = found or f"a file that begins {quoted(head[:16])}"
    raise CheckpointError(f"found {found}, {_EXPECTED}")


def _read_unchecked(path: str | os.PathLike[str], verified: bool) -> Checkpoint:
    kind = _detect_format(path)
    if kind == "safetensors":
        with safe_open(path, "pt") as file:
            info = _info_in(file.metadata())
            # a copy, because the library maps the file, which may be replaced or cut later
            loaded: Any = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    elif kind == "torch":
        loaded = load_torch_file(path, check_crc=not verified)
        info = _info_in(loaded)
    else:
        loaded, info = load_pickle(Path(path).read_bytes(), PLAIN_NAMES), None
    tensors, extras, location = _find_state_dict(loaded)
    extras.pop(INFO_KEY, None)
    if len(tensors) > 1:
        tensors.pop(_AVERAGED, None)
    return Checkpoint(without_prefixes(tensors, _MODULE_PREFIXES), kind, location, extras, info)


def _find_state_dict(loaded: Any) -> tuple[dict[str, torch.Tensor], dict[str, Any], str]:
    """Return the state dict in what a training program saved, the rest of the top level, and its location."""
    extras: dict[str, Any] = {}
    keys: list[str] = []
    while isinstance(loaded, dict) and len(keys) < _LEVELS and not _mostly_tensors(loaded):
        wrapper = next((key for key in _WRAPPERS if isinstance(loaded.get(key), dict)), None)
        if wrapper is None:
            break
        if not keys:
            extras = {str(key): value for key, value in loaded.items() if key != wrapper}
        keys.append(wrapper)
        loaded = loaded[wrapper]
    if not isinstance(loaded, dict):
        raise CheckpointError(f"found {quoted(loaded)}, expected a state dict of tensors")
    tensors = {}
    for name, value in loaded.items():
        tensor = _as_tensor(value, numbers=bool(keys))
        if tensor is None and keys:
            raise CheckpointError(f"parameter {quoted(name)}: found {quoted(value)}, expected a tensor")
        if tensor is None:
            extras[str(name)] = value
        elif isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME and name.isprintable():
            tensors[name] = tensor
        else:
            raise CheckpointError(f"found a parameter named {quoted(name)}, expected a printable name")
    if not tensors:
        names = ", ".join(quoted(key, 30) for key in list(loaded)[:8]) or "nothing"
        where = ".".join(keys) or "the top level"
        raise CheckpointError(f"found no tensors under {where} (but {names}), expected a state dict")
    return tensors, extras, ".".join(keys)


def _mostly_tensors(values: Mapping[Any, Any]) -> bool:
    return 2 * sum(isinstance(v, (torch.Tensor, np.ndarray)) for v in values.values()) > len(values)


def _as_tensor(value: Any, numbers: bool) -> torch.Tensor | None:
    if isinstance(value, torch.Tensor):
        return value.detach()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.array(value, value.dtype.newbyteorder("=")))
    return torch.tensor(value) if numbers and isinstance(value, (bool, int, float)) else None


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
            raise CheckpointError(f"parameter {quoted(name)}: expected a dense tensor, found another kind")
    if (claimed := sum(t.numel() * t.element_size() for t in tensors.values())) > _SHARING * size:
        raise CheckpointError(
            f"found tensors of {claimed} bytes, expected at most {_SHARING} times the file's"
        )
    for name, tensor in tensors.items():
        if allow_non_finite or not (tensor.is_floating_point() or tensor.is_complex()):
            continue
        finite = torch.isfinite(tensor.float() if tensor.element_size() == 1 else tensor)
        if not finite.all():
            count = f"{int((~finite).sum())} of {tensor.numel()} values"
            raise CheckpointError(
                f"parameter {quoted(name)} has {count} NaN or infinite, expected finite numbers"
            )
