"""Reading pickles of plain containers and numpy arrays; names are looked up in a table, never imported.

Python's pure unpickler does the reading: the C one allocates gigabytes for a large memo index.
"""

import io
import pickle
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sized
from typing import IO, Any, ClassVar

import numpy as np

__all__ = ["NAMES", "RestrictedUnpickler", "load_pickle"]

# These cannot be keys: the hash of nested tuples can take forever, and large integers can share one.
_Tuple: Any = type("_Tuple", (tuple,), {"__hash__": None})
_LargeInt: Any = type("_LargeInt", (int,), {"__hash__": None})
_TUPLES = (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3)
_INTEGERS = (pickle.INT, pickle.LONG, pickle.LONG1, pickle.LONG4)


def _integer(value: int) -> int:
    return value if abs(value) < 2**64 else _LargeInt(value)


class _Dtype:  # in place of numpy.dtype
    def __init__(self, code: Any, *_: object) -> None:
        if not isinstance(code, str) or np.dtype(code).kind not in "biufc":
            raise pickle.UnpicklingError("an array of other values, expected numbers")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array(np.ndarray):  # in place of numpy.ndarray
    def __new__(cls, *_: object) -> "_Array":
        return super().__new__(cls, 0)

    def __setstate__(self, state: Any) -> None:
        version, shape, dtype, fortran, data = state
        super().__setstate__((version, shape, dtype.dtype, fortran, data))  # compares the sizes
        self.flags.writeable = False  # for other operations of the pickle


def _array(data: Any, dtype: _Dtype, shape: Any = (), order: str = "C") -> Any:
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", data))
    return array.item() if shape == () and array.dtype.kind != "c" else array


# What a pickle may call, by the names of Python 3 and numpy 1; then also by those of Python 2 and numpy 2.
NAMES: dict[str, Callable[..., Any]] = {
    "_codecs.encode": lambda text, _encoding="latin1": text.encode("latin-1"),
    "builtins.bytes": lambda: b"",
    "builtins.set": set,
    "builtins.frozenset": set,
    "collections.Counter": Counter,
    "collections.OrderedDict": OrderedDict,
    "numpy.dtype": _Dtype,
    "numpy.ndarray": _Array,
    "numpy.core.multiarray._reconstruct": _Array,
    "numpy.core.multiarray.scalar": lambda dtype, data: _array(data, dtype),
    "numpy.core.numeric._frombuffer": _array,
}
for _ours, _other in (("builtins.", "__builtin__."), ("numpy.core.", "numpy._core.")):
    NAMES |= {name.replace(_ours, _other): function for name, function in NAMES.items()}

_PureUnpickler: Any = pickle._Unpickler  # its stack and its table of operations are not in its types
_LOAD: dict[int, Callable[[Any], None]] = _PureUnpickler.dispatch


def _converted(load: Callable[[Any], None], kind: Callable[[Any], Any]) -> Callable[[Any], None]:
    def run(unpickler: Any) -> None:
        load(unpickler)
        unpickler.stack[-1] = kind(unpickler.stack[-1])

    return run


class RestrictedUnpickler(_PureUnpickler):
    """Unpickler that knows a table of names only and bounds its work by the size of the file."""

    def __init__(self, file: IO[bytes], size: int, names: Mapping[str, Callable[..., Any]] = NAMES) -> None:
        super().__init__(file, encoding="latin1")
        self.names, self.copies_left = names, 4 * size + 1000

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in self.names:
            raise pickle.UnpicklingError(f"{module}.{name}, expected plain values (nothing was executed)")
        return self.names[f"{module}.{name}"]

    def count_copies(self, values: Any) -> None:
        self.copies_left -= sum(len(value) for value in values if isinstance(value, Sized))
        if self.copies_left < 0:
            raise pickle.UnpicklingError("more copies than a file of its size needs")

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        self.count_copies(arguments)
        self.stack[-1] = self.stack[-1](*arguments)

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        self.count_copies(state if isinstance(state, tuple) else [state])
        if isinstance(target, dict) and not hasattr(target, "__setstate__"):
            dict(state)  # attributes, such as torch's _metadata, are dropped
        else:
            type(target).__setstate__(target, state)

    dispatch: ClassVar[dict[int, Any]] = {
        **_LOAD,
        **{op[0]: _converted(_LOAD[op[0]], _Tuple) for op in _TUPLES},
        **{op[0]: _converted(_LOAD[op[0]], _integer) for op in _INTEGERS},
        pickle.FROZENSET[0]: _converted(_LOAD[pickle.FROZENSET[0]], set),
        pickle.REDUCE[0]: load_reduce,
        pickle.NEWOBJ[0]: load_reduce,
        pickle.BUILD[0]: load_build,
        pickle.BYTEARRAY8[0]: _LOAD[pickle.BINBYTES8[0]],
        # other ways to call a name; plain values do without them
        **{op[0]: None for op in (pickle.INST, pickle.OBJ, pickle.NEWOBJ_EX)},
    }


def load_pickle(content: bytes, names: Mapping[str, Callable[..., Any]] = NAMES) -> Any:
    """Return what a pickle of plain values holds; ``names`` maps ``module.name`` to what takes its place.

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
