"""Reading of pickles that hold plain data, and of nothing else.

A pickle is a program: loading one runs whatever its author chose. Here, no name of any module is
ever looked up but the few that pickles of plain containers need, so there is nothing to run.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .issues import DatasetError
from .reader import file_content

__all__ = ["read_plain_pickle"]


class _TextToBytes:
    """What ``_codecs.encode`` does in pickles of bytes; an object that no pickle can alter."""

    __slots__ = ()

    def __call__(self, text: str, encoding: str = "latin1") -> bytes:
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"bytes encoded as {encoding!r}")
        return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): dict,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("__builtin__", "frozenset"): frozenset,
    ("_codecs", "encode"): _TextToBytes(),
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            hint = "; write numpy values with .item() or .tolist()" if module.startswith("numpy") else ""
            what = f"it refers to {module}.{name}, which is not plain data{hint}"
            raise pickle.UnpicklingError(what) from None

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to objects outside the file")


def read_plain_pickle(path: Path) -> Any:
    """Load a pickle of dicts, lists, tuples, sets, strings, bytes, numbers, booleans and None.

    Args:
        path: the file.

    Raises:
        DatasetError: it is missing, broken, or holds anything else; nothing of it is run.
    """
    content = file_content(path)
    try:
        return _PlainUnpickler(io.BytesIO(content), encoding="latin1").load()
    except MemoryError:
        raise DatasetError(f"{path}: not a usable pickle (it claims to hold more than fits)") from None
    except Exception as error:  # broken pickles raise nearly everything
        reason = str(error) or type(error).__name__
        raise DatasetError(f"{path}: refused or broken pickle ({reason})") from None
