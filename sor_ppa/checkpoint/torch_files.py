"""The two formats of ``torch.save``: a zip archive (since 1.6) and a chain of pickles (before)."""

from __future__ import annotations

import os
import zipfile
import zlib
from typing import Any

import torch

from .errors import CheckpointError, shown
from .pickle_machine import run_pickle
from .pickle_names import Budget, Storage, StorageType, allowed_names

__all__ = ["read_torch_legacy", "read_torch_zip"]

# The pickle inside an archive holds structure only; the numbers lie beside it.
_MAX_STRUCTURE = 64 * 2**20
_LOCAL_HEADER = 30
# Tensors may share a storage (tied weights), so they may be larger than the file together, but not by much.
_SHARING = 16
_PROTOCOL = 1001


def read_torch_zip(path: str | os.PathLike[str], data: memoryview) -> Any:
    """Read an archive written by ``torch.save``.

    Every member that is used must lie inside the file uncompressed, be as large as its tensors need and
    agree with its checksum.

    Args:
        path: the file, for its table of contents.
        data: its bytes.

    Returns:
        The saved object, its tensors on the CPU.

    Raises:
        CheckpointError: if the archive is damaged or is no such archive.
    """
    archive = _Archive(path, data)
    structure = archive.member("data.pkl", _MAX_STRUCTURE)
    if archive.has("byteorder") and bytes(archive.member("byteorder", 16)) != b"little":
        raise CheckpointError(
            f"byte order {shown(bytes(archive.member('byteorder', 16)))}, expected b'little' "
            "(load and save it again)"
        )
    storages: dict[str, Storage] = {}

    def load_storage(key: Any) -> Storage:
        dtype, name, count, _view = _storage_key(key)
        if name not in storages:
            content = archive.member(f"data/{name}", len(data))
            if len(content) != count * dtype.itemsize:
                raise CheckpointError(
                    f"storage {shown(name)} of {len(content)} bytes, expected {count * dtype.itemsize}"
                )
            storages[name] = Storage(_copy(content), dtype)
        return storages[name] if storages[name].dtype == dtype else Storage(storages[name].raw, dtype)

    return run_pickle(structure, allowed_names(Budget(_SHARING * len(data))), load_storage)[0]


def read_torch_legacy(data: memoryview) -> Any:
    """Read a file written by ``torch.save`` before 1.6: five pickles, then the storages.

    Args:
        data: bytes of the file.

    Returns:
        The saved object, its tensors on the CPU.

    Raises:
        CheckpointError: if the file is damaged.
    """
    names = allowed_names(Budget(_SHARING * len(data)))
    _magic, position = run_pickle(data, names)
    protocol, position = run_pickle(data, names, start=position)
    system, position = run_pickle(data, names, start=position)
    if protocol != _PROTOCOL:
        raise CheckpointError(f"torch file protocol {shown(protocol)}, expected {_PROTOCOL}")
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise CheckpointError("big-endian numbers, expected little-endian ones (load and save it again)")
    storages: dict[str, Storage] = {}
    claimed = Budget(len(data))

    def load_storage(key: Any) -> Storage:
        dtype, name, count, view = _storage_key(key)
        if name not in storages:
            claimed.spend(count * dtype.itemsize, f"storage {shown(name)}")
            storages[name] = Storage(torch.zeros(count * dtype.itemsize, dtype=torch.uint8), dtype)
        whole = storages[name]
        if view is None:
            return whole
        begin, end = (n * dtype.itemsize for n in (view[0], view[0] + view[1]))
        if end > whole.raw.numel():
            raise CheckpointError(
                f"part {shown(view)} of storage {shown(name)}, which holds {count} elements"
            )
        return Storage(whole.raw[begin:end], dtype)

    loaded, position = run_pickle(data, names, load_storage, position)
    order, position = run_pickle(data, names, start=position)
    if not isinstance(order, list) or sorted(map(str, order)) != sorted(storages):
        raise CheckpointError("damaged torch file: its list of storages does not agree with its tensors")
    for name in order:
        position = _fill(storages[name], name, data, position)
    return loaded


def _fill(storage: Storage, name: str, data: memoryview, position: int) -> int:
    """Copy one storage of the older format; returns the offset behind it."""
    size = storage.raw.numel()
    begin = position + 8
    count = int.from_bytes(data[position:begin], "little", signed=True)
    if count * storage.dtype.itemsize != size:
        raise CheckpointError(
            f"storage {shown(name)} of {count} elements, expected {size // storage.dtype.itemsize}"
        )
    if begin + size > len(data):
        raise CheckpointError(
            f"truncated: storage {shown(name)} needs {size} bytes, {len(data) - begin} left"
        )
    storage.raw.numpy()[:] = data[begin : begin + size]
    return begin + size


def _storage_key(key: Any) -> tuple[torch.dtype, str, int, tuple[int, int] | None]:
    """Check a persistent id: ``("storage", type, key, location, elements[, view])``."""
    if not isinstance(key, tuple) or len(key) not in (5, 6) or key[0] != "storage":
        raise CheckpointError("a saved module or an unknown reference, expected a state dict of tensors")
    _, kind, name, _location, count = key[:5]
    if not isinstance(kind, StorageType) or not isinstance(name, str):
        raise CheckpointError(f"a storage of type {shown(kind)}, expected numbers")
    if type(count) is not int or not 0 <= count < 2**60:
        raise CheckpointError(f"a storage of {shown(count)} elements, expected a natural number")
    view = key[5] if len(key) == 6 else None
    if view is None:
        return kind.dtype, name, count, None
    if not isinstance(view, tuple) or len(view) != 3 or not all(type(n) is int and n >= 0 for n in view[1:]):
        raise CheckpointError(f"damaged torch file: a part of storage {shown(name)} without its range")
    return kind.dtype, name, count, (view[1], view[2])


def _copy(content: memoryview) -> torch.Tensor:
    """Bytes of the file -> a tensor (bytes,) uint8 of its own."""
    tensor = torch.empty(len(content), dtype=torch.uint8)
    tensor.numpy()[:] = content
    return tensor


class _Archive:
    """Members of a torch zip archive, by their name below its only folder."""

    def __init__(self, path: str | os.PathLike[str], data: memoryview) -> None:
        self.data = data
        try:
            with zipfile.ZipFile(path) as archive:
                entries = archive.infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise CheckpointError(
                f"truncated or damaged zip archive ({error}), expected a torch .pth"
            ) from None
        folders = [e.filename.removesuffix("/data.pkl") for e in entries if e.filename.endswith("/data.pkl")]
        if len(folders) != 1:
            raise CheckpointError(
                f"a zip archive with {len(folders)} data.pkl, expected one (a torch .pth has it)"
            )
        prefix = folders[0] + "/"
        self.entries: dict[str, zipfile.ZipInfo] = {}
        for entry in entries:
            name = entry.filename.removeprefix(prefix)
            if name in self.entries:
                raise CheckpointError(f"a zip archive with two members {shown(name)}, expected one")
            self.entries[name] = entry
        if self.has("constants.pkl"):
            raise CheckpointError(
                "a TorchScript archive, which is a program, expected a state dict of tensors"
            )

    def has(self, name: str) -> bool:
        return name in self.entries

    def member(self, name: str, limit: int) -> memoryview:
        """Bytes of one member, checked.

        Args:
            name: below the archive's folder.
            limit: largest size in bytes.
        """
        entry = self.entries.get(name)
        if entry is None:
            raise CheckpointError(f"damaged zip archive: no member {shown(name)}")
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise CheckpointError(
                f"member {shown(name)} is compressed ({entry.compress_size} to {entry.file_size} bytes), "
                "expected stored members as torch writes them"
            )
        begin = entry.header_offset
        header = self.data[begin : begin + _LOCAL_HEADER]
        if len(header) < _LOCAL_HEADER or header[:4] != b"PK\x03\x04" or entry.flag_bits & 1:
            raise CheckpointError(f"damaged zip archive: member {shown(name)} is not at byte {begin}")
        begin += (
            _LOCAL_HEADER + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        )
        if entry.file_size > min(limit, len(self.data) - begin):
            raise CheckpointError(
                f"member {shown(name)} claims {entry.file_size} bytes, expected at most "
                f"{min(limit, len(self.data) - begin)}"
            )
        content = self.data[begin : begin + entry.file_size]
        if zlib.crc32(content) != entry.CRC:
            raise CheckpointError(f"damaged: member {shown(name)} does not agree with its checksum")
        return content
