"""Reading a weight file of any supported format without running anything in it."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field
from typing import Any

import torch

from .errors import CheckpointError, shown
from .formats import Format, detect_format
from .pickle_machine import run_pickle
from .pickle_names import Budget, allowed_names
from .safetensors_file import read_safetensors
from .source import Source, WeightFile
from .torch_files import read_torch_legacy, read_torch_zip
from .unwrap import find_state_dict, strip_prefixes

__all__ = ["Checkpoint", "read_checkpoint", "read_weights"]

# Bytes that decoding a pickle of arrays may take, as a multiple of its size (Python 2 strings are copied).
_PICKLE_COPIES = 4
# What the checks of damaged input can run into; anything else is an error of ours.
_DAMAGE = (
    *(ValueError, TypeError, LookupError, ArithmeticError, AttributeError, EOFError, RecursionError),
    *(RuntimeError, struct.error, MemoryError),
)


@dataclass(frozen=True)
class Checkpoint:
    """A weight file that has been read.

    Attributes:
        tensors: parameter name, as in the file, -> tensor on the CPU.
        format: the file's format.
        location: keys under which the state dict stood, joined by dots; empty: at the top.
        extras: what else stood at the top: optimizer, iteration, author ...
        metadata: metadata of a safetensors file.
    """

    tensors: dict[str, torch.Tensor]
    format: Format
    location: str = ""
    extras: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)


def read_checkpoint(path: str | os.PathLike[str], *, allow_non_finite: bool = False) -> Checkpoint:
    """Read a weight file; its content, not its name, tells the format.

    Read are safetensors, both formats of ``torch.save``, and pickles of numpy arrays (the model zoos of
    detectron2 and Detectron, Python 2 included). Nothing in a file can run code.

    Args:
        path: a local file.
        allow_non_finite: accept NaN and infinite parameters.

    Returns:
        The parameters and what was saved beside them.

    Raises:
        CheckpointError: in one line, if the file cannot be read, is damaged, or holds anything but weights.
    """
    kind = "weight"
    try:
        with WeightFile(path) as source:
            form = detect_format(source)
            kind = form.value
            checkpoint = _read(source, form)
        if not allow_non_finite:
            _check_finite(checkpoint.tensors)
    except CheckpointError as error:
        raise error.at(path) from None
    except OSError as error:
        raise CheckpointError(f"cannot be read ({error.strerror or error})", path) from None
    except _DAMAGE as error:
        reason = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"damaged {kind} file ({reason}), expected a whole one", path) from None
    return checkpoint


def read_weights(path: str | os.PathLike[str], *, allow_non_finite: bool = False) -> dict[str, torch.Tensor]:
    """The parameters of a weight file; see ``read_checkpoint``."""
    return read_checkpoint(path, allow_non_finite=allow_non_finite).tensors


def _read(source: Source, form: Format) -> Checkpoint:
    if form is Format.SAFETENSORS:
        tensors, metadata = read_safetensors(source)
        if not tensors:
            raise CheckpointError("holds no tensors, expected a state dict")
        tensors, rest, _ = find_state_dict(tensors)
        return Checkpoint(strip_prefixes(tensors), form, extras=rest, metadata=metadata)
    if form is Format.TORCH_ZIP:
        loaded = read_torch_zip(source)
    elif form is Format.TORCH_LEGACY:
        loaded = read_torch_legacy(source)
    else:
        loaded, end = run_pickle(source, allowed_names(Budget(_PICKLE_COPIES * source.size)))
        if end != source.size:
            raise CheckpointError(f"damaged pickle: {source.size - end} bytes behind its end")
    tensors, extras, location = find_state_dict(loaded)
    return Checkpoint(strip_prefixes(tensors), form, location, extras)


def _check_finite(tensors: dict[str, torch.Tensor]) -> None:
    for name, tensor in tensors.items():
        if not (tensor.is_floating_point() or tensor.is_complex()):
            continue
        if tensor.element_size() == 1:
            tensor = tensor.float()
        # A sum of finite numbers may overflow, but one with a NaN or an infinity in it is never finite.
        wide = None if tensor.is_complex() else torch.float32 if tensor.element_size() < 8 else torch.float64
        if torch.isfinite(tensor.sum(dtype=wide)):
            continue
        count = tensor.numel() - int(torch.isfinite(tensor).sum())
        if count:
            raise CheckpointError(
                f"parameter {shown(name)} has {count} of {tensor.numel()} values NaN or infinite, "
                "expected finite numbers"
            )
