"""Reading pickles of plain containers and numpy arrays; names are looked up in a table, never imported."""

import io
import pickle
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sized
from typing import IO, Any, ClassVar

import numpy as np

_PureUnpickler: Any = pickle._Unpickler  # the C one takes gigabytes for a large memo index
# These cannot be keys: the hash of nested tuples can take forever, and large integers can share one.
_KEYLESS: dict[type, Any] = {t: type(t.__name__, (t,), {"__hash__": None}) for t in (tuple, int, frozenset)}
_TUPLES = pickle.TUPLE + pickle.TUPLE1 + pickle.TUPLE2 + pickle.TUPLE3
_INTEGERS = pickle.INT + pickle.LONG + pickle.LONG1 + pickle.LONG4


class _Dtype:  # in place of numpy.dtype
    def __init__(self, code: Any, *_: object) -> None:
        if not isinstance(code, str) or not re.fullmatch("[biuf][1248]", code):
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


def _latin1(text: Any, _encoding: object = None) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")


def _array(data: Any, dtype: _Dtype, shape: Any = (), order: Any = "C") -> Any:
    return np.ndarray(shape, dtype.dtype, _latin1(data), order=order)  # a view of the data


# What a pickle may call, by the names of Python 3 and numpy 1; then also by those of Python 2 and numpy 2.
NAMES: dict[str, Callable[..., Any]] = {
    "_codecs.encode": _latin1,
    "builtins.bytes": lambda: b"",
    **dict.fromkeys(["builtins.set", "builtins.frozenset"], set),
    "collections.Counter": Counter,
    "collections.OrderedDict": OrderedDict,
    "numpy.dtype": _Dtype,
    **dict.fromkeys(["numpy.ndarray", "numpy.core.multiarray._reconstruct"], _Array),
    "numpy.core.multiarray.scalar": lambda dtype, data: _array(data, dtype).item(),
    "numpy.core.numeric._frombuffer": _array,
}
for _ours, _other in (("builtins.", "__builtin__."), ("numpy.core.", "numpy._core.")):
    NAMES |= {name.replace(_ours, _other): function for name, function in NAMES.items()}


def _keyless(load: Callable[[Any], None]) -> Callable[[Any], None]:
    def run(unpickler: Any) -> None:
        load(unpickler)
        value = unpickler.stack[-1]
        if not isinstance(value, int) or abs(value) >= 2**64:
            unpickler.stack[-1] = _KEYLESS[type(value)](value)

    return run


class RestrictedUnpickler(_PureUnpickler):
    """Unpickler that knows a table of names only and bounds its work by the size of the file."""

    def __init__(self, file: IO[bytes], size: int, names: Mapping[str, Callable[..., Any]] = NAMES) -> None:
        super().__init__(file, encoding="latin1")
        self.names, self.copies_left = names, 8 * size + 1000

    def find_class(self, module: str, name: str) -> Any:
        path = f"{module}.{name}"
        if path not in self.names:
            found = ascii(path[:80])[1:-1]  # one line, whatever the name is
            raise pickle.UnpicklingError(f"{found}, expected plain values (nothing was executed)")
        return self.names[path]

    def pop_counted(self) -> Any:
        value = self.stack.pop()
        self.copies_left -= sum(len(part) for part in (value, *value) if isinstance(part, Sized))
        if self.copies_left < 0:
            raise pickle.UnpicklingError("more copies than a file of its size needs")
        return value

    def load_reduce(self) -> None:
        arguments = self.pop_counted()
        self.stack[-1] = self.stack[-1](*arguments)

    def load_build(self) -> None:
        state, target = self.pop_counted(), self.stack[-1]
        if hasattr(target, "__setstate__") or not (isinstance(target, dict) and isinstance(state, dict)):
            type(target).__setstate__(target, state)  # attributes, such as torch's _metadata, are dropped

    dispatch: ClassVar[dict[int, Any]] = _PureUnpickler.dispatch | {
        **{op: _keyless(_PureUnpickler.dispatch[op]) for op in _TUPLES + _INTEGERS + pickle.FROZENSET},
        **dict.fromkeys(pickle.REDUCE + pickle.NEWOBJ, load_reduce),
        **dict.fromkeys(pickle.INST + pickle.OBJ + pickle.NEWOBJ_EX),  # other calls: plain values need none
        pickle.BUILD[0]: load_build,
        pickle.BYTEARRAY8[0]: _PureUnpickler.load_binbytes8,
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
