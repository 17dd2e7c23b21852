"""Reading and writing safetensors: a JSON header that says where each tensor lies, then the numbers.

The format has no checksum. Found out here: a header that is no JSON, unknown types, impossible shapes, ranges
that overlap, leave gaps or end outside the file. Flipped bits in the numbers show only if they make one
NaN or infinite, or if the file was written by ``write_safetensors``, which stores a CRC-32 in the metadata.
Numbers are little endian by definition; nothing in a file could say otherwise.

Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .errors import CheckpointError, shown
from .source import Source

__all__ = ["read_safetensors", "write_safetensors"]

# A header has some 100 bytes a tensor; JSON takes up to thirty times its size in memory.
_MAX_HEADER = 8 * 2**20
_CHECKSUM = "crc32"
_DTYPES = {
    name: getattr(torch, torch_name)
    for name, torch_name in {
        **{"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"},
        **{"I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool"},
        **{"U16": "uint16", "U32": "uint32", "U64": "uint64", "C64": "complex64"},
        **{"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"},
    }.items()
    if hasattr(torch, torch_name)
}


def read_safetensors(data: Source) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Read a safetensors file.

    Args:
        data: the file.

    Returns:
        Name -> tensor (in memory of its own), and the file's metadata.

    Raises:
        CheckpointError: if header and size do not agree with each other or with the checksum.
    """
    length = int.from_bytes(data.read(0, 8), "little")
    if length > min(_MAX_HEADER, data.size - 8):
        raise CheckpointError(
            f"truncated or damaged safetensors: a header of {length} bytes, expected at most "
            f"{min(_MAX_HEADER, data.size - 8)}"
        )
    try:
        header = json.loads(bytes(data.read(8, length)), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"damaged safetensors: its header is no JSON ({error})") from None
    if not isinstance(header, dict):
        raise CheckpointError(
            f"damaged safetensors: its header is {shown(header)}, expected names and ranges"
        )
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise CheckpointError("damaged safetensors: its metadata are not strings")
    tensors = _tensors(header, data, 8 + length)
    if _CHECKSUM in metadata and (found := checksum(tensors)) != metadata[_CHECKSUM]:
        raise CheckpointError(f"damaged: checksum {found}, expected {shown(metadata[_CHECKSUM])}")
    return tensors, metadata


def write_safetensors(tensors: Mapping[str, torch.Tensor], path: str | os.PathLike[str]) -> None:
    """Write tensors and a checksum over them; the file appears whole or not at all.

    Args:
        tensors: name -> tensor of any device and layout in memory; tied ones are written once each.
        path: the file to write.

    Raises:
        CheckpointError: if the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    owned = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    temporary = Path(path).with_name(f".{Path(path).name}.{os.getpid()}.part")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # what the user's umask says; the library writes for the owner alone
        save_file(owned, temporary, metadata={"format": "pt", _CHECKSUM: checksum(owned)})
        temporary.chmod(mode)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot be written ({error})", path) from None
    finally:
        temporary.unlink(missing_ok=True)


def checksum(tensors: Mapping[str, torch.Tensor]) -> str:
    """CRC-32 over names and bytes of contiguous CPU tensors, in the order of the names; eight hex digits."""
    crc = 0
    for name in sorted(tensors):
        crc = zlib.crc32(name.encode("utf-8", "surrogatepass"), crc)
        tensor = tensors[name]
        if tensor.numel():
            crc = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, crc)
    return f"{crc:08x}"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    items = dict(pairs)
    if len(items) != len(pairs):
        raise ValueError("a name stands in it twice")
    return items


def _tensors(header: Mapping[str, Any], data: Source, start: int) -> dict[str, torch.Tensor]:
    size = data.size - start
    entries = sorted((_entry(name, info, size) for name, info in header.items()), key=lambda e: e[3:])
    tensors = {}
    position = 0
    for name, dtype, shape, begin, end in entries:
        if begin != position:
            relation = "overlaps the one before" if begin < position else "leaves a gap behind the one before"
            raise CheckpointError(
                f"damaged safetensors: {shown(name)} {relation} (byte {begin}, expected {position})"
            )
        raw = data.tensor(start + begin, end - begin)
        tensors[name] = raw.view(dtype).reshape(shape) if end > begin else torch.empty(shape, dtype=dtype)
        position = end
    if position != size:
        raise CheckpointError(f"damaged safetensors: {size} bytes of numbers, expected {position}")
    return {name: tensors[name] for name in header}


def _entry(name: str, info: Any, size: int) -> tuple[str, torch.dtype, tuple[int, ...], int, int]:
    where = f"damaged safetensors: {shown(name)}"
    if not isinstance(info, dict) or not {"dtype", "shape", "data_offsets"} <= set(info):
        raise CheckpointError(f"{where} lacks dtype, shape or data_offsets")
    dtype, shape, offsets = info["dtype"], info["shape"], info["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise CheckpointError(f"{where} has type {shown(dtype)}, expected one of {', '.join(_DTYPES)}")
    if not _naturals(shape) or len(shape) > 32:
        raise CheckpointError(f"{where} has a shape that is no list of natural numbers")
    if not _naturals(offsets) or len(offsets) != 2 or not offsets[0] <= offsets[1] <= size:
        raise CheckpointError(f"{where} lies outside the file, which has {size} bytes of numbers")
    needed = math.prod(shape) * _DTYPES[dtype].itemsize
    if needed != offsets[1] - offsets[0]:
        raise CheckpointError(
            f"{where} of shape {shown(tuple(shape))} needs {needed} bytes, found {offsets[1] - offsets[0]}"
        )
    return name, _DTYPES[dtype], tuple(shape), offsets[0], offsets[1]


def _naturals(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 2**63 for v in values)
