"""Reading pickles of plain containers and numpy arrays without running anything in them.

Names in a file are looked up in a table, never imported. Python's pure implementation does the reading: the C
one allocates gigabytes for a large memo index. Keys are scalars: hashing a nest of tuples can take forever.
"""

import io
import math
import pickle
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence, Sized
from typing import IO, Any, ClassVar

import numpy as np

__all__ = ["NAMES", "RestrictedUnpickler", "load_pickle"]


class _Dtype:  # in place of numpy.dtype
    def __init__(self, code: str, *_: object) -> None:
        self.dtype = np.dtype(code)
        if self.dtype.kind not in "biufc":
            raise pickle.UnpicklingError(f"an array of type {self.dtype}, expected numbers")

    def __setstate__(self, state: Sequence[Any]) -> None:
        self.dtype = self.dtype.newbyteorder(">" if state[1] == ">" else "=")


class _Array(np.ndarray):  # in place of numpy.ndarray
    def __new__(cls, *_: object) -> "_Array":
        return super().__new__(cls, 0)

    def __setstate__(self, state: Sequence[Any]) -> None:
        _, shape, dtype, fortran, data = state
        content = data.encode("latin-1") if isinstance(data, str) else bytes(data)  # str: Python 2
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.dtype.itemsize != len(content):
            raise pickle.UnpicklingError(f"{len(content)} bytes for an array of another size")
        checked: Any = (1, shape, dtype.dtype, bool(fortran), content)
        super().__setstate__(checked)


def _array(data: str | bytes, dtype: _Dtype, shape: Sequence[int] = (), order: str = "C") -> _Array:
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", data))
    return array


# What a pickle may call, by the names that Python 2 and 3, numpy 1 and 2 write.
NAMES: Mapping[str, Callable[..., Any]] = {
    "_codecs.encode": lambda text, _encoding="latin1": text.encode("latin-1"),
    "collections.Counter": Counter,
    "collections.OrderedDict": OrderedDict,
    "numpy.dtype": _Dtype,
    "numpy.ndarray": _Array,
    **{f"{module}.bytes": lambda: b"" for module in ("builtins", "__builtin__")},
    **{f"{module}.set": set for module in ("builtins", "__builtin__")},
    **{f"{module}.frozenset": frozenset for module in ("builtins", "__builtin__")},
    **{f"numpy.{core}.multiarray._reconstruct": _Array for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _array for core in ("core", "_core")},
    **{
        f"numpy.{core}.multiarray.scalar": lambda t, data: _array(data, t).item()
        for core in ("core", "_core")
    },
}


_PureUnpickler: Any = pickle._Unpickler  # its stack and its table of operations are not in its types


class RestrictedUnpickler(_PureUnpickler):
    """Unpickler that knows a table of names only and bounds its work by the size of the file."""

    def __init__(self, file: IO[bytes], size: int, names: Mapping[str, Callable[..., Any]] = NAMES) -> None:
        super().__init__(file, encoding="latin1")
        self.size, self.names, self.copies_left = size, names, 4 * size + 1000

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in self.names:
            raise pickle.UnpicklingError(f"{module}.{name}, expected plain values (nothing was executed)")
        return self.names[f"{module}.{name}"]

    def keys(self, items: Sequence[Any]) -> Sequence[Any]:
        for key in items:  # numbers are bounded because large ones can share a hash
            number = isinstance(key, (int, float)) and abs(key) < 2**64
            if not (number or key is None or isinstance(key, (str, bytes))):
                raise pickle.UnpicklingError(f"a key of type {type(key).__name__}, expected text or a number")
        return items

    def check_values(self, values: tuple[Any, ...]) -> None:
        """Refuse arguments or a state that would take long to hash or to copy."""
        self.copies_left -= sum(len(value) for value in values if isinstance(value, Sized))
        if self.copies_left < 0:
            raise pickle.UnpicklingError("more copies than a file of its size needs")
        for items in values:
            if isinstance(items, (list, tuple)):  # of a set, or pairs [key, value] of a dict
                self.keys([item[0] if isinstance(item, list) and item else item for item in items])

    def set_items(self, items: Sequence[Any]) -> None:
        if not isinstance(self.stack[-1], dict):
            raise pickle.UnpicklingError(f"items of a {type(self.stack[-1]).__name__}, expected a dict")
        for key, value in zip(self.keys(items[::2]), items[1::2], strict=True):
            self.stack[-1][key] = value

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self.set_items(items)

    def load_frozenset(self) -> None:
        items = self.pop_mark()
        self.append(frozenset(self.keys(items)))

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        self.check_values(state if isinstance(state, tuple) else (state,))
        if hasattr(type(target), "__setstate__"):
            target.__setstate__(state)
        elif not isinstance(target, dict):  # attributes of a dict, such as torch's _metadata, are dropped
            raise pickle.UnpicklingError(f"the state of a {type(target).__name__}, expected plain values")

    def load_reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.check_values(arguments)
        self.append(function(*arguments))

    def load_bytearray8(self) -> None:
        self.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    dispatch: ClassVar[dict[int, Any]] = {
        **_PureUnpickler.dispatch,
        pickle.DICT[0]: load_dict,
        pickle.SETITEM[0]: lambda self: self.set_items([self.stack.pop(-2), self.stack.pop()]),
        pickle.SETITEMS[0]: lambda self: self.set_items(self.pop_mark()),
        pickle.ADDITEMS[0]: lambda self: set.update(self.metastack[-1][-1], self.keys(self.pop_mark())),
        pickle.FROZENSET[0]: load_frozenset,
        pickle.BUILD[0]: load_build,
        pickle.REDUCE[0]: load_reduce,
        pickle.NEWOBJ[0]: load_reduce,
        pickle.BYTEARRAY8[0]: load_bytearray8,
        # other ways to call a name; plain values do without them
        **{op[0]: None for op in (pickle.INST, pickle.OBJ, pickle.NEWOBJ_EX)},
        **{op[0]: None for op in (pickle.EXT1, pickle.EXT2, pickle.EXT4)},
    }


def load_pickle(content: bytes, names: Mapping[str, Callable[..., Any]] = NAMES) -> Any:
    """Return what a pickle of plain values holds: containers, scalars, numpy arrays.

    Args:
        content: the whole file.
        names: ``module.name`` -> what takes its place.

    Raises:
        pickle.UnpicklingError: in one line, if it is damaged or holds anything else.
    """
    file = io.BytesIO(content)
    unpickler = RestrictedUnpickler(file, len(content), names)
    try:
        value = unpickler.load()
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # damaged pickles raise nearly everything
        raise pickle.UnpicklingError(f"a damaged pickle ({type(error).__name__})") from None
    if unpickler.stack or unpickler.metastack or file.read(1):
        raise pickle.UnpicklingError("a damaged pickle that ends too early")
    return value
