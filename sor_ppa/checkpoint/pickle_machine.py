"""A pickle interpreter that cannot run code.

Python's ``pickle`` imports and calls whatever a file names; its C version also allocates what a file claims.
This machine knows the opcodes that weight files use. It imports nothing: a name in the file is looked up in
a table given by the caller, and only entries of that table that are ``Call`` objects can be called. Every
length is checked against the bytes that are really there. Containers are plain ``dict``, ``list``, ``tuple``
and ``set``; keys are strings, numbers, bytes or None.

Opcodes and their meaning: the Python standard library's ``pickletools``.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import CheckpointError, shown
from .source import Source

__all__ = ["Buildable", "Call", "checked_keys", "run_pickle"]

# Weight files have thousands of opcodes; a file with more than this is built to exhaust memory or patience.
_MAX_OPCODES = 2_000_000
# Bytes that the objects of a pickle may take beside their content, beyond twice the size of the file.
_OBJECTS = 64 * 2**20
_WINDOW = 2**16
_MAX_INT_BYTES = 1024
_KEY_TYPES = (str, int, float, bytes, type(None))


@dataclass(frozen=True)
class Call:
    """An entry of the name table that a pickle may call."""

    function: Callable[..., Any]


class Buildable:
    """A half-made object: ``build`` gets the pickled state and returns the value that takes its place."""

    def build(self, state: Any) -> Any:
        raise NotImplementedError


def run_pickle(
    data: Source,
    names: Mapping[str, object],
    persistent_load: Callable[[Any], Any] | None = None,
    start: int = 0,
) -> tuple[Any, int]:
    """Interpret one pickle.

    Args:
        data: the file.
        names: ``module.name`` -> what the name stands for; any other name is refused.
        persistent_load: called with each persistent id (torch writes storages this way).
        start: offset of the first opcode in ``data``.

    Returns:
        The object, and the offset behind the pickle's last byte.

    Raises:
        CheckpointError: for anything not on the list, and for damaged data.
    """
    return _Machine(data, names, persistent_load, start).run()


class _Machine:
    def __init__(
        self,
        data: Source,
        names: Mapping[str, object],
        persistent_load: Callable[[Any], Any] | None,
        start: int,
    ) -> None:
        self.data = data
        self.window, self.window_start = b"", start
        self.names = names
        self.persistent_load = persistent_load
        self.position = start
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        # Half-made object -> the memo entries that must follow when it is finished.
        self.unfinished: dict[int, list[int]] = {}

    def run(self) -> tuple[Any, int]:
        objects = _OBJECTS + 2 * self.data.size
        for _ in range(_MAX_OPCODES):
            opcode = self.take(1)[0]
            if opcode == _STOP:
                return self.result(), self.position
            handler, cost = _HANDLERS.get(opcode, _UNKNOWN)
            objects -= cost
            if objects < 0:
                raise CheckpointError(
                    f"pickle of too many objects for a file of {self.data.size} bytes, expected a weight file"
                )
            if handler is None:
                raise CheckpointError(
                    f"pickle opcode 0x{opcode:02x} at byte {self.position - 1}, which no weight file uses"
                )
            handler(self)
        raise CheckpointError(f"pickle of more than {_MAX_OPCODES} operations, expected a weight file")

    def result(self) -> Any:
        value = self.pop()
        if self.stack or self.marks:
            raise CheckpointError(
                f"damaged pickle: it ends at byte {self.position - 1} in the middle of an object"
            )
        return value

    # -- bytes

    def take(self, count: int) -> bytes | bytearray:
        """The next bytes; large pieces in memory of their own (``bytearray``)."""
        begin = self.position - self.window_start
        end = begin + count
        if end > len(self.window) or count < 0:
            self.data.check(self.position, count)
            if count > _WINDOW:
                piece = self.data.read(self.position, count)
                self.position += count
                return piece
            self.refill()
            begin, end = 0, count
        self.position += count
        return self.window[begin:end]

    def refill(self) -> None:
        left = self.data.size - self.position
        self.window, self.window_start = (
            bytes(self.data.read(self.position, min(_WINDOW, left))),
            self.position,
        )

    def number(self, layout: str) -> Any:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def line(self) -> bytes:
        begin = self.position - self.window_start
        found = self.window.find(b"\n", begin)
        if found < 0:
            self.refill()
            begin, found = 0, self.window.find(b"\n")
        if found >= 0:
            self.position = self.window_start + found + 1
            return self.window[begin:found]
        # Only the arrays of protocol 0 have lines as long as this.
        count = len(self.window)
        pieces = [self.window]
        while found < 0 and self.position + count < self.data.size:
            size = min(_WINDOW, self.data.size - self.position - count)
            piece = bytes(self.data.read(self.position + count, size))
            found = piece.find(b"\n")
            pieces.append(piece if found < 0 else piece[:found])
            count += size if found < 0 else found + 1
        if found < 0:
            raise CheckpointError(f"truncated or damaged pickle: no line end behind byte {self.position}")
        self.position += count
        return b"".join(pieces)

    # -- stack

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if not self.stack:
            raise CheckpointError(f"damaged pickle: nothing on the stack at byte {self.position - 1}")
        return self.stack.pop()

    def top(self, kind: type) -> Any:
        """The value on top of the stack, which must be exactly of this kind."""
        if not self.stack or type(self.stack[-1]) is not kind:
            raise CheckpointError(
                f"damaged pickle: no {kind.__name__} on the stack at byte {self.position - 1}"
            )
        return self.stack[-1]

    def pop_mark(self) -> list[Any]:
        if not self.marks:
            raise CheckpointError(f"damaged pickle: no mark at byte {self.position - 1}")
        items = self.stack
        self.stack = self.marks.pop()
        return items

    def store(self, index: int) -> None:
        if not self.stack:
            raise CheckpointError(f"damaged pickle: nothing to remember at byte {self.position - 1}")
        value = self.stack[-1]
        self.memo[index] = value
        if isinstance(value, Buildable):
            self.unfinished.setdefault(id(value), []).append(index)

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise CheckpointError(f"damaged pickle: memo {index} is not set at byte {self.position - 1}")
        self.push(self.memo[index])

    # -- objects

    def name(self, module: str, name: str) -> None:
        full = f"{module}.{name}"
        if full not in self.names:
            raise CheckpointError(
                f"found {shown(full)} in a pickle, expected tensors, arrays and plain values only "
                "(nothing was executed)"
            )
        self.push(self.names[full])

    def global_name(self) -> None:
        module, name = self.line(), self.line()
        self.name(module.decode("utf-8", "replace"), name.decode("utf-8", "replace"))

    def stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise CheckpointError(f"damaged pickle: a global without a name at byte {self.position - 1}")
        self.name(module, name)

    def call(self) -> None:
        arguments, target = self.pop(), self.pop()
        if not isinstance(target, Call) or type(arguments) is not tuple:
            raise CheckpointError(
                f"pickle calls {shown(target)}, expected only the rebuilding of tensors and arrays "
                "(nothing was executed)"
            )
        self.push(target.function(*arguments))

    def build(self) -> None:
        state = self.pop()
        if not self.stack:
            raise CheckpointError(f"damaged pickle: nothing to build at byte {self.position - 1}")
        value = self.stack[-1]
        if isinstance(value, Buildable):
            finished = value.build(state)
            self.stack[-1] = finished
            for index in self.unfinished.pop(id(value), ()):
                self.memo[index] = finished
        elif type(value) is not dict:  # attributes of a dict (torch's _metadata) are left out
            raise CheckpointError(
                f"pickle sets attributes of a {type(value).__name__}, expected plain values only"
            )

    def persistent(self) -> None:
        key = self.pop()
        if self.persistent_load is None:
            raise CheckpointError("pickle refers to data outside itself, expected all of it inside")
        self.push(self.persistent_load(key))

    # -- containers

    def set_item(self) -> None:
        value, key = self.pop(), self.pop()
        self.update([key, value])

    def update(self, items: list[Any]) -> None:
        target = self.top(dict)
        target.update(_pairs(items))

    def append(self) -> None:
        value = self.pop()
        self.top(list).append(value)

    def append_all(self) -> None:
        items = self.pop_mark()
        self.top(list).extend(items)

    def add_all(self) -> None:
        items = self.pop_mark()
        self.top(set).update(checked_keys(items))

    def tuple_of(self, count: int) -> None:
        if len(self.stack) < count:
            raise CheckpointError(f"damaged pickle: a tuple of {count} at byte {self.position - 1}")
        items = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        self.push(items)

    def mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def drop(self) -> None:
        self.pop()

    def drop_to_mark(self) -> None:
        self.pop_mark()

    def duplicate(self) -> None:
        value = self.pop()
        self.stack += [value, value]

    # -- scalars

    def text_int(self) -> None:
        text = self.line()
        self.push(text == b"01" if text in (b"00", b"01") else _int(text))

    def text_string(self) -> None:
        text = self.line().strip()
        if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in (b"'", b'"'):
            raise CheckpointError(f"damaged pickle: an unquoted string at byte {self.position}")
        self.push(codecs.escape_decode(text[1:-1])[0].decode("latin-1"))

    def binary_int(self, layout: str) -> None:
        count = self.number(layout)
        if not 0 <= count <= _MAX_INT_BYTES:
            raise CheckpointError(
                f"an integer of {count} bytes in a pickle, expected at most {_MAX_INT_BYTES}"
            )
        self.push(int.from_bytes(self.take(count), "little", signed=True))

    def protocol(self) -> None:
        version = self.take(1)[0]
        if version > 5:
            raise CheckpointError(f"pickle protocol {version}, expected 0 to 5")

    def frame(self) -> None:
        self.data.check(self.position, self.number("<Q"))


def _int(text: bytes) -> int:
    text = text.strip().removesuffix(b"L")
    if len(text) > _MAX_INT_BYTES:
        raise CheckpointError(
            f"an integer of {len(text)} digits in a pickle, expected at most {_MAX_INT_BYTES}"
        )
    return int(text)


def checked_keys(keys: list[Any]) -> list[Any]:
    """The same keys of a dict or a set; raises for those that could do harm."""
    for key in keys:
        if not isinstance(key, _KEY_TYPES):
            raise CheckpointError(f"a {type(key).__name__} as key in a pickle, expected a string or a number")
        if isinstance(key, int) and not -(2**63) <= key < 2**64:  # many of one hash take forever
            raise CheckpointError(f"{shown(key)} as key in a pickle, expected a string or a number")
    return keys


def _pairs(items: list[Any]) -> dict[Any, Any]:
    if len(items) % 2:
        raise CheckpointError(f"damaged pickle: {len(items)} keys and values, expected pairs")
    return dict(zip(checked_keys(items[::2]), items[1::2], strict=True))


_STOP = ord(".")

# About how many bytes an opcode's object takes in memory, beside its content in the file.
_COSTS = {
    **dict.fromkeys(b"(}])dlt\x85\x86\x87R\x81pqr\x94", 96),
    **dict.fromkeys(b"\x8f\x91", 240),
    **dict.fromkeys(b"ILFJMG\x8a\x8bSTUVX\x8c\x8dBC\x8e\x96", 56),
    **dict.fromkeys(b"2Kgh", 8),
}
_UNKNOWN: tuple[Callable[[_Machine], None] | None, int] = (None, 0)

_HANDLERS: dict[int, tuple[Callable[[_Machine], None] | None, int]] = {
    opcode[0]: (handler, _COSTS.get(opcode[0], 8))
    for opcode, handler in {
        # structure
        b"\x80": _Machine.protocol,
        b"\x95": _Machine.frame,
        b"(": _Machine.mark,
        b"0": _Machine.drop,
        b"1": _Machine.drop_to_mark,
        b"2": _Machine.duplicate,
        # memo
        b"p": lambda m: m.store(_int(m.line())),
        b"q": lambda m: m.store(m.number("<B")),
        b"r": lambda m: m.store(m.number("<I")),
        b"\x94": lambda m: m.store(len(m.memo)),
        b"g": lambda m: m.recall(_int(m.line())),
        b"h": lambda m: m.recall(m.number("<B")),
        b"j": lambda m: m.recall(m.number("<I")),
        # constants and numbers
        b"N": lambda m: m.push(None),
        b"\x88": lambda m: m.push(True),
        b"\x89": lambda m: m.push(False),
        b"I": _Machine.text_int,
        b"L": lambda m: m.push(_int(m.line())),
        b"F": lambda m: m.push(float(m.line())),
        b"J": lambda m: m.push(m.number("<i")),
        b"K": lambda m: m.push(m.number("<B")),
        b"M": lambda m: m.push(m.number("<H")),
        b"G": lambda m: m.push(m.number(">d")),
        b"\x8a": lambda m: m.binary_int("<B"),
        b"\x8b": lambda m: m.binary_int("<i"),
        # strings; those of Python 2 are bytes, read as latin-1
        b"S": _Machine.text_string,
        b"T": lambda m: m.push(str(m.take(m.number("<i")), "latin-1")),
        b"U": lambda m: m.push(str(m.take(m.number("<B")), "latin-1")),
        b"V": lambda m: m.push(m.line().decode("raw-unicode-escape")),
        b"X": lambda m: m.push(str(m.take(m.number("<I")), "utf-8", "surrogatepass")),
        b"\x8c": lambda m: m.push(str(m.take(m.number("<B")), "utf-8", "surrogatepass")),
        b"\x8d": lambda m: m.push(str(m.take(m.number("<Q")), "utf-8", "surrogatepass")),
        b"B": lambda m: m.push(m.take(m.number("<I"))),
        b"C": lambda m: m.push(m.take(m.number("<B"))),
        b"\x8e": lambda m: m.push(m.take(m.number("<Q"))),
        b"\x96": lambda m: m.push(m.take(m.number("<Q"))),
        # containers
        b"}": lambda m: m.push({}),
        b"]": lambda m: m.push([]),
        b")": lambda m: m.push(()),
        b"\x8f": lambda m: m.push(set()),
        b"d": lambda m: m.push(_pairs(m.pop_mark())),
        b"l": lambda m: m.push(m.pop_mark()),
        b"t": lambda m: m.push(tuple(m.pop_mark())),
        b"\x85": lambda m: m.tuple_of(1),
        b"\x86": lambda m: m.tuple_of(2),
        b"\x87": lambda m: m.tuple_of(3),
        b"\x91": lambda m: m.push(frozenset(checked_keys(m.pop_mark()))),
        b"s": _Machine.set_item,
        b"u": lambda m: m.update(m.pop_mark()),
        b"a": _Machine.append,
        b"e": _Machine.append_all,
        b"\x90": _Machine.add_all,
        # names, calls, state
        b"c": _Machine.global_name,
        b"\x93": _Machine.stack_global,
        b"R": _Machine.call,
        b"\x81": _Machine.call,
        b"b": _Machine.build,
        b"Q": _Machine.persistent,
    }.items()
}
