"""What the names in a weight file's pickle stand for: tensors, arrays, plain containers, nothing else.

Every entry is a constant or a small function of this file; no function of numpy or torch is called with
values from the file before they are checked.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .errors import CheckpointError, shown
from .pickle_machine import Buildable, Call, checked_keys

__all__ = ["Budget", "Storage", "StorageType", "allowed_names"]

_MAX_DIMS = 32
# Bytes above which a string of bytes is not copied again to make an array.
_LARGE = 2**16
_STORAGE_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}
# Those that torch of the running version has; the last ones are younger than torch 2.0.
_TENSOR_DTYPES = (
    *("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"),
    *("complex64", "complex128", "uint16", "uint32", "uint64"),
    *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"),
)


# Dicts by another name, in which training programs keep their configuration; they become dicts.
_DICTS = (
    *("yacs.config.CfgNode", "fvcore.common.config.CfgNode", "detectron2.config.config.CfgNode"),
    *(
        "pytorch_lightning.utilities.parsing.AttributeDict",
        "lightning.pytorch.utilities.parsing.AttributeDict",
    ),
    *("lightning_fabric.utilities.data.AttributeDict", "lightning.fabric.utilities.data.AttributeDict"),
    *("easydict.EasyDict", "addict.addict.Dict"),
)
_PATHS = ("pathlib", "pathlib._local")


class Budget:
    """How many bytes a file may still ask for; a small file must not fill the memory."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.left = limit

    def spend(self, count: int, what: str) -> None:
        """Take ``count`` bytes for ``what``.

        Raises:
            CheckpointError: if the file has asked for more than its limit.
        """
        self.left -= count
        if self.left < 0:
            raise CheckpointError(
                f"{what} needs {count} bytes, more than this file can hold (at most {self.limit} in all)"
            )


@dataclass(frozen=True)
class StorageType:
    """The type of a torch storage, as named in the file."""

    dtype: torch.dtype


@dataclass(frozen=True)
class Storage:
    """The bytes behind one or more tensors.

    Attributes:
        raw: (bytes,) uint8.
        dtype: element type that the file declares.
    """

    raw: torch.Tensor
    dtype: torch.dtype


def allowed_names(budget: Budget) -> Mapping[str, object]:
    """The name table for one file.

    Args:
        budget: bytes that tensors, arrays and copies may take in all.

    Returns:
        ``module.name`` -> ``Call`` (may be called), or a constant.
    """
    rebuild = _Rebuild(budget)
    names: dict[str, object] = {
        "_codecs.encode": Call(rebuild.encode),
        "collections.Counter": Call(rebuild.counter),
        "collections.OrderedDict": Call(rebuild.mapping),
        "collections.defaultdict": Call(_empty_dict),
        "argparse.Namespace": Call(_Namespace),
        "numpy.dtype": Call(_Dtype),
        "numpy.ndarray": "numpy.ndarray",
        "torch.Size": Call(rebuild.sequence),
        "torch.torch_version.TorchVersion": Call(_text),
        "torch.device": Call(_device),
        "torch._utils._rebuild_parameter": Call(_parameter),
        "torch._utils._rebuild_tensor": Call(rebuild.tensor),
        "torch._utils._rebuild_tensor_v2": Call(rebuild.tensor),
        "torch._utils._rebuild_tensor_v3": Call(rebuild.tensor_with_dtype),
        "torch.storage.UntypedStorage": StorageType(torch.uint8),
    }
    names.update(dict.fromkeys(_DICTS, Call(_empty_dict)))
    names.update(
        {f"{module}.{kind}Path": Call(rebuild.path) for module in _PATHS for kind in ("Posix", "Windows")}
    )
    for core in ("numpy.core", "numpy._core"):
        names[f"{core}.multiarray._reconstruct"] = Call(rebuild.array)
        names[f"{core}.multiarray.scalar"] = Call(rebuild.scalar)
        names[f"{core}.numeric._frombuffer"] = Call(rebuild.array_from_buffer)
    for module in ("builtins", "__builtin__"):
        names[f"{module}.set"] = names[f"{module}.frozenset"] = Call(rebuild.plain_set)
        names[f"{module}.bytes"] = Call(_no_bytes)
        names.update({f"{module}.{kind}": kind for kind in ("dict", "list", "int", "float", "str")})
    for module in ("torch", "torch.cuda"):
        names.update({f"{module}.{name}": StorageType(dtype) for name, dtype in _STORAGE_DTYPES.items()})
    names.update({f"torch.{name}": getattr(torch, name) for name in _TENSOR_DTYPES if hasattr(torch, name)})
    return names


def _empty_dict(_factory: object = None) -> dict[Any, Any]:
    return {}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise CheckpointError(f"damaged pickle: text made of {shown(value)}")
    return value


def _no_bytes() -> bytes:
    """Python 3 writes empty bytes as a call in protocols 0 to 2."""
    return b""


def _device(kind: str, index: int | None = None) -> str:
    return kind if index is None else f"{kind}:{index}"


def _parameter(data: torch.Tensor, _requires_grad: bool, _hooks: object) -> torch.Tensor:
    if not isinstance(data, torch.Tensor):
        raise CheckpointError(f"a parameter made of {shown(data)}, expected a tensor")
    return data


def _natural_numbers(values: Iterable[Any], what: str) -> tuple[int, ...]:
    numbers = tuple(values)
    if len(numbers) > _MAX_DIMS:
        raise CheckpointError(f"{what} of {len(numbers)} dimensions, expected at most {_MAX_DIMS}")
    for number in numbers:
        if type(number) is not int or not 0 <= number < 2**63:
            raise CheckpointError(f"{what} contains {shown(number)}, expected natural numbers")
    return numbers


class _Namespace(Buildable):
    """``argparse.Namespace``, which many training codes save beside the weights; becomes a dict."""

    def build(self, state: Any) -> dict[str, Any]:
        if type(state) is not dict:
            raise CheckpointError(f"a Namespace made of {shown(state)}, expected a dict")
        return dict(state)


class _Dtype(Buildable):
    """A numpy dtype; numbers only, little endian only."""

    _CODE = re.compile(r"[<|=]?([biufc])(\d{1,2})")

    def __init__(self, code: Any, _align: object = False, _copy: object = False) -> None:
        text = {"?": "b1", "bool": "b1"}.get(code, code) if isinstance(code, str) else ""
        if text.startswith(">"):
            raise CheckpointError("big-endian numbers, expected little-endian ones (load and save it again)")
        if self._CODE.fullmatch(text) is None:
            kind = " (an object array could run code)" if text.startswith("O") else ""
            raise CheckpointError(f"an array of numpy type {shown(code)}{kind}, expected numbers")
        self.dtype = np.dtype(text)

    def build(self, state: Any) -> np.dtype[Any]:
        if type(state) is not tuple or len(state) < 2:
            raise CheckpointError("damaged pickle: a numpy type without its state")
        if state[1] == ">":
            raise CheckpointError("big-endian numbers, expected little-endian ones (load and save it again)")
        if state[1] not in ("<", "|", "="):
            raise CheckpointError(f"byte order {shown(state[1])} of a numpy type, expected '<' or '|'")
        return self.dtype


class _Array(Buildable):
    """A numpy array between its creation and its state; becomes a tensor."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget

    def build(self, state: Any) -> torch.Tensor:
        if type(state) is not tuple or len(state) != 5:
            raise CheckpointError("damaged pickle: a numpy array without its state")
        _version, shape, dtype, fortran, data = state
        return _array(data, dtype, shape, "F" if fortran else "C", self.budget)


def _array(data: Any, dtype: Any, shape: Any, order: Any, budget: Budget) -> torch.Tensor:
    if isinstance(dtype, _Dtype):  # a type of one byte may come without state
        dtype = dtype.dtype
    if not isinstance(dtype, np.dtype):
        raise CheckpointError(f"an array of type {shown(dtype)}, expected numbers")
    if isinstance(data, str):  # Python 2
        budget.spend(len(data), "an array")
        data = bytearray(data, "latin-1")
    if not isinstance(data, (bytes, bytearray)):
        raise CheckpointError(f"an array made of {shown(data)}, expected bytes")
    shape = _natural_numbers(shape, "shape of an array")
    expected = math.prod(shape) * dtype.itemsize
    if expected != len(data):
        raise CheckpointError(f"an array of shape {shown(shape)} needs {expected} bytes, found {len(data)}")
    budget.spend(expected, f"an array of shape {shown(shape)}")
    values = np.frombuffer(data, dtype).reshape(shape, order="F" if order == "F" else "C")
    # Large pieces (bytearray) belong to the file's reader alone; two arrays of one piece are tied weights.
    owned = isinstance(data, bytearray) and values.flags["C_CONTIGUOUS"]
    return torch.from_numpy(values if owned else values.copy(order="C"))


class _Rebuild:
    """The functions that copy data; they share the file's budget."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget

    # -- plain values

    def encode(self, text: str, encoding: str = "latin1") -> bytearray | bytes:
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise CheckpointError(f"damaged pickle: bytes written as {shown(encoding)}, expected latin1")
        self.budget.spend(len(text), "a string")
        return bytearray(text, "latin-1") if len(text) > _LARGE else text.encode("latin-1")

    def sequence(self, items: Any = ()) -> tuple[Any, ...]:
        if not isinstance(items, (list, tuple)):
            raise CheckpointError(f"damaged pickle: a sequence made of {shown(items)}")
        self.budget.spend(8 * len(items), "a sequence")
        return tuple(items)

    def mapping(self, items: Any = ()) -> dict[Any, Any]:
        pairs = [(k, v) for k, v in self.sequence(items) if isinstance(k, (str, int, float))]
        checked_keys([k for k, _ in pairs])
        return dict(pairs)

    def path(self, *parts: Any) -> str:
        if not all(isinstance(part, str) for part in parts):
            raise CheckpointError("damaged pickle: a path that is no text")
        self.budget.spend(sum(map(len, parts)) + len(parts), "a path")
        return "/".join(parts).replace("//", "/", 1)

    def counter(self, counts: Any = None) -> Counter[Any]:
        if not isinstance(counts, (dict, type(None))):
            raise CheckpointError(f"damaged pickle: a Counter made of {shown(counts)}, expected a dict")
        self.budget.spend(64 * len(counts or ()), "a Counter")
        return Counter(counts)

    def plain_set(self, items: Any = ()) -> set[Any]:
        return set(checked_keys([i for i in self.sequence(items) if isinstance(i, (str, int, float))]))

    # -- numpy

    def array(self, kind: Any, _shape: Any, _code: Any) -> _Array:
        if kind != "numpy.ndarray":
            raise CheckpointError(f"an array of class {shown(kind)}, expected numpy.ndarray")
        return _Array(self.budget)

    def array_from_buffer(self, data: Any, dtype: Any, shape: Any, order: Any) -> torch.Tensor:
        return _array(data, dtype, shape, order, self.budget)

    def scalar(self, dtype: Any, data: Any) -> bool | int | float | complex:
        return _array(data, dtype, (), "C", self.budget).item()

    # -- torch

    def tensor(
        self, storage: Any, offset: Any, size: Any, stride: Any, *_grad_hooks_metadata: object
    ) -> torch.Tensor:
        if not isinstance(storage, Storage):
            raise CheckpointError(f"a tensor made of {shown(storage)}, expected a storage")
        return self._view(storage.raw, storage.dtype, offset, size, stride)

    def tensor_with_dtype(
        self,
        storage: Any,
        offset: Any,
        size: Any,
        stride: Any,
        _grad: object,
        _hooks: object,
        dtype: Any,
        _metadata: object = None,
    ) -> torch.Tensor:
        if not isinstance(storage, Storage) or not isinstance(dtype, torch.dtype):
            raise CheckpointError(
                f"a tensor made of {shown(storage)} as {shown(dtype)}, expected a storage and a type"
            )
        return self._view(storage.raw, dtype, offset, size, stride)

    def _view(
        self, raw: torch.Tensor, dtype: torch.dtype, offset: Any, size: Any, stride: Any
    ) -> torch.Tensor:
        size = _natural_numbers(size, "shape of a tensor")
        stride = _natural_numbers(stride, "stride of a tensor")
        (offset,) = _natural_numbers((offset,), "offset of a tensor")
        if len(size) != len(stride):
            raise CheckpointError(f"a tensor of {len(size)} dimensions with {len(stride)} strides")
        count = math.prod(size)
        held = raw.numel() // dtype.itemsize
        if count == 0:
            self.budget.spend(8 * max(size), "an empty tensor")
            return torch.empty(size, dtype=dtype)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if last >= held or count > held:
            raise CheckpointError(
                f"a tensor of shape {shown(size)} reaches element {last}, its storage holds {held}"
            )
        self.budget.spend(count * dtype.itemsize, f"a tensor of shape {shown(size)}")
        typed = raw.view(dtype)
        return typed.as_strided(size, stride, typed.storage_offset() + offset)
