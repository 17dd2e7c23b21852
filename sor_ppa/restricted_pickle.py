"""Reading pickles of plain containers and numpy arrays; names are looked up in a table, never imported."""

import io
import pickle
from collections.abc import Callable, Mapping, Sized
from typing import IO, Any, ClassVar

from .pickled_types import PLAIN_TYPES

_PureUnpickler: Any = pickle._Unpickler  # the C one takes gigabytes for a large memo index
# These cannot be keys: the hash of nested tuples can take forever, and large integers can share one.
_KEYLESS: dict[type, Any] = {t: type(t.__name__, (t,), {"__hash__": None}) for t in (tuple, int, frozenset)}
_TUPLES = pickle.TUPLE + pickle.TUPLE1 + pickle.TUPLE2 + pickle.TUPLE3
_INTEGERS = pickle.INT + pickle.LONG + pickle.LONG1 + pickle.LONG4


def _keyless(load: Callable[[Any], None]) -> Callable[[Any], None]:
    def run(unpickler: Any) -> None:
        load(unpickler)
        value = unpickler.stack[-1]
        if not isinstance(value, int) or abs(value) >= 2**64:
            unpickler.stack[-1] = _KEYLESS[type(value)](value)

    return run


class RestrictedUnpickler(_PureUnpickler):
    """Unpickler that knows a table of names only and bounds its work by the size of the file."""

    def __init__(
        self, file: IO[bytes], size: int, names: Mapping[str, Callable[..., Any]] = PLAIN_TYPES
    ) -> None:
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


def load_pickle(content: bytes, names: Mapping[str, Callable[..., Any]] = PLAIN_TYPES) -> Any:
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
