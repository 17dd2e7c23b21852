"""What a pickle of plain values may name: containers, and numpy arrays as stand-ins that check themselves."""

import pickle
import re
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np


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
PLAIN_TYPES: dict[str, Callable[..., Any]] = {
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
    PLAIN_TYPES |= {name.replace(_ours, _other): function for name, function in PLAIN_TYPES.items()}
