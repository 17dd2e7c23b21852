"""The two formats of ``torch.save``: a zip archive (since 1.6) and a chain of pickles (before)."""

from __future__ import annotations

from typing import Any

import torch

from .errors import CheckpointError, shown
from .pickle_machine import run_pickle
from .pickle_names import Budget, Storage, StorageType, allowed_names
from .source import Bytes, Source
from .zip_file import Archive

__all__ = ["read_torch_legacy", "read_torch_zip"]

# The pickle inside an archive holds structure only; the numbers lie beside it.
_MAX_STRUCTURE = 64 * 2**20
# Tensors may share a storage (tied weights), so they may be larger than the file together, but not by much.
_SHARING = 16
_PROTOCOL = 1001


def read_torch_zip(data: Source) -> Any:
    """Read an archive written by ``torch.save``.

    Every member that is used must lie inside the file uncompressed, be as large as its tensors need and
    agree with its checksum.

    Args:
        data: the file.

    Returns:
        The saved object, its tensors on the CPU.

    Raises:
        CheckpointError: if the archive is damaged or is no such archive.
    """
    archive = Archive(data)
    folders = [n.removesuffix("data.pkl") for n in archive.members if n.endswith("/data.pkl")]
    if len(folders) != 1:
        raise CheckpointError(
            f"a zip archive with {len(folders)} data.pkl, expected one (a torch .pth has it)"
        )
    folder = folders[0]
    if f"{folder}constants.pkl" in archive.members:
        raise CheckpointError("a TorchScript archive, which is a program, expected a state dict of tensors")
    structure = archive.read(f"{folder}data.pkl", _MAX_STRUCTURE)
    if f"{folder}byteorder" in archive.members:
        order = archive.read(f"{folder}byteorder", 16)
        if order != b"little":
            raise CheckpointError(f"byte order {shown(order)}, expected b'little' (load and save it again)")
    storages: dict[str, Storage] = {}

    def load_storage(key: Any) -> Storage:
        dtype, name, count, _view = _storage_key(key)
        if name not in storages:
            content = archive.tensor(f"{folder}data/{name}", data.size)
            if content.numel() != count * dtype.itemsize:
                raise CheckpointError(
                    f"storage {shown(name)} of {content.numel()} bytes, expected {count * dtype.itemsize}"
                )
            storages[name] = Storage(content, dtype)
        return storages[name] if storages[name].dtype == dtype else Storage(storages[name].raw, dtype)

    names = allowed_names(Budget(_SHARING * data.size))
    return run_pickle(Bytes(structure), names, load_storage)[0]


def read_torch_legacy(data: Source) -> Any:
    """Read a file written by ``torch.save`` before 1.6: five pickles, then the storages.

    Args:
        data: the file.

    Returns:
        The saved object, its tensors on the CPU.

    Raises:
        CheckpointError: if the file is damaged.
    """
    names = allowed_names(Budget(_SHARING * data.size))
    _magic, position = run_pickle(data, names)
    protocol, position = run_pickle(data, names, start=position)
    system, position = run_pickle(data, names, start=position)
    if protocol != _PROTOCOL:
        raise CheckpointError(f"torch file protocol {shown(protocol)}, expected {_PROTOCOL}")
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise CheckpointError("big-endian numbers, expected little-endian ones (load and save it again)")
    storages: dict[str, Storage] = {}
    claimed = Budget(data.size)

    def load_storage(key: Any) -> Storage:
        dtype, name, count, view = _storage_key(key)
        if name not in storages:
            claimed.spend(count * dtype.itemsize, f"storage {shown(name)}")
            storages[name] = Storage(torch.empty(count * dtype.itemsize, dtype=torch.uint8), dtype)
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
    if position != data.size:
        raise CheckpointError(f"damaged torch file: {data.size - position} bytes behind its end")
    return loaded


def _fill(storage: Storage, name: str, data: Source, position: int) -> int:
    """Read one storage of the older format; returns the offset behind it."""
    size = storage.raw.numel()
    count = int.from_bytes(data.read(position, 8), "little", signed=True)
    if count * storage.dtype.itemsize != size:
        raise CheckpointError(
            f"storage {shown(name)} of {count} elements, expected {size // storage.dtype.itemsize}"
        )
    data.fill_tensor(storage.raw, position + 8)
    return position + 8 + size


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
