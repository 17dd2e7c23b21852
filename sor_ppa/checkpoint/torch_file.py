"""Reading files of ``torch.save`` with ``torch.load(weights_only=True)``, within limits."""

from __future__ import annotations

import os
import re
import threading
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import IO, Any

import torch

from ..pickled_types import PLAIN_TYPES
from ..restricted_pickle import RestrictedUnpickler
from .errors import CheckpointError, quoted

__all__ = ["PLAIN_NAMES", "load_torch_file"]


class _Attributes(dict[str, Any]):  # in place of argparse.Namespace
    def __setstate__(self, state: dict[str, Any]) -> None:
        self.update(state)


class _Text(str):
    def __new__(cls, text: str) -> _Text:
        return super().__new__(cls, text + "")  # nothing but text: that of nested lists can be endless


class _Anything(dict[Any, Any]):  # in place of torch's classes while a pickle is checked
    def __init__(self, *_: object) -> None:
        super().__init__()

    def __setstate__(self, _state: object) -> None:
        pass


_CONFIGS = (
    *("yacs.config.CfgNode", "fvcore.common.config.CfgNode", "detectron2.config.config.CfgNode"),
    *(f"{module}.utilities.parsing.AttributeDict" for module in ("pytorch_lightning", "lightning.pytorch")),
    *(f"{module}.utilities.data.AttributeDict" for module in ("lightning_fabric", "lightning.fabric")),
    *("easydict.EasyDict", "addict.addict.Dict"),
)
_PATHS = [f"pathlib{module}.{system}Path" for module in ("", "._local") for system in ("Posix", "Windows")]
_FACTORIES = [f"{m}.{name}" for m in ("builtins", "__builtin__") for name in ("dict", "list", "int", "float")]
# What training programs save beside the weights, and the plain values that take its place.
PLAIN_NAMES: dict[str, Callable[..., Any]] = {
    **PLAIN_TYPES,
    "argparse.Namespace": _Attributes,
    "torch.torch_version.TorchVersion": _Text,
    **dict.fromkeys(_CONFIGS, OrderedDict),
    **dict.fromkeys(_PATHS, lambda *parts: str(PurePosixPath(*parts))),
    **dict.fromkeys(["collections.defaultdict", *_FACTORIES], lambda _factory=None: OrderedDict()),
}
# ``torch.serialization.safe_globals`` changes a list of the whole process.
_SAFE_GLOBALS = threading.Lock()


def load_torch_file(path: str | os.PathLike[str], *, check_crc: bool = True, lazy: bool = False) -> Any:
    """Return the object that ``torch.save`` wrote, tensors on the CPU and everything else as plain values.

    Args:
        path: a file of either format of ``torch.save``.
        check_crc: compare the checksums of an archive, which torch does not do.
        lazy: map the tensors of an archive into memory instead of reading them.

    Raises:
        CheckpointError: if it holds code or other classes, or is no such file.
        Exception: whatever torch, zipfile and pickle raise for damaged files.
    """
    with open(path, "rb") as file:
        archive = file.read(4) == b"PK\x03\x04"
        file.seek(0)
        if archive:
            _check_archive(file, check_crc)
        else:
            for _ in range(5):  # magic number, protocol, system, the object, the keys of its storages
                _check_pickle(file, os.path.getsize(path))
    names: list[Any] = [(function, name) for name, function in PLAIN_NAMES.items()]
    with _SAFE_GLOBALS, torch.serialization.safe_globals(names), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "pickle_load_args", UserWarning)  # torch uses the encoding
        try:
            return torch.load(
                path, map_location="cpu", weights_only=True, mmap=archive and lazy, encoding="latin1"
            )
        except Exception as error:
            if found := re.search(r"GLOBAL (\S+)", str(error)):
                raise CheckpointError(
                    f"found {found[1]}, expected tensors and plain values (nothing was executed)"
                ) from None
            raise


def _check_archive(file: IO[bytes], check_crc: bool) -> None:
    with zipfile.ZipFile(file) as archive:
        members = {member.filename: member.file_size for member in archive.infolist()}
        folders = [name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl")]
        if len(folders) != 1:
            raise CheckpointError(
                f"found a zip archive with {len(folders)} data.pkl, expected one as in a .pth"
            )
        if f"{folders[0]}constants.pkl" in members:
            raise CheckpointError("found a TorchScript archive, which is a program, expected a state dict")
        if sum(member.file_size for member in archive.infolist()) > file.seek(0, os.SEEK_END):
            raise CheckpointError("found compressed members, expected a .pth as torch writes it")
        if check_crc and (damaged := archive.testzip()):
            raise CheckpointError(f"found {quoted(damaged)} with another checksum, expected a whole file")
        with archive.open(f"{folders[0]}data.pkl") as structure:
            _check_pickle(structure, members[f"{folders[0]}data.pkl"])


def _check_pickle(file: IO[bytes], size: int) -> None:
    """Read a pickle without its tensors: torch does not bound time and memory, this does."""
    unpickler: Any = _Walker(file, size)
    unpickler.load()
    if unpickler.proto > 2:
        raise CheckpointError(
            f"found pickle protocol {unpickler.proto}, expected 2 (save it again with torch.save's default)"
        )


class _Walker(RestrictedUnpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name == "_rebuild_from_type_v2":  # calls a function of the file
            return lambda function, _type, arguments, _state: function(*arguments)
        return PLAIN_NAMES.get(f"{module}.{name}") or _Anything

    def persistent_load(self, reference: Any) -> Any:
        """Check that the key of a storage, and of a part of another storage, can be hashed at once."""
        part = reference[-1]
        hash((reference[2], part[0] if isinstance(part, tuple) else None))
        return _Anything
