"""Weight files for tests: whole ones of each format, and hostile or damaged parts of them."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sor_ppa.checkpoint import CheckpointError, read_checkpoint, save_safetensors

__all__ = [
    "FORMATS",
    "WRITERS",
    "example",
    "raw_pickle",
    "refusal",
    "safetensors_bytes",
    "tensor_pickle",
    "torch_zip",
    "write",
]


def example() -> dict[str, torch.Tensor]:
    """A small state dict with several types, a scalar and an empty tensor."""
    generator = torch.Generator().manual_seed(0)
    return {
        "conv.weight": torch.randn(4, 3, 3, 3, generator=generator),
        "conv.bias": torch.randn(4, generator=generator).double(),
        "norm.weight": torch.randn(4, generator=generator).half(),
        "norm.num_batches_tracked": torch.tensor(7),
        "empty": torch.empty(0, 5),
    }


def _legacy(state: dict[str, torch.Tensor], path: Path) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


def _pickle(protocol: int) -> Callable[[dict[str, torch.Tensor], Path], None]:
    def writer(state: dict[str, torch.Tensor], path: Path) -> None:
        arrays = {name: tensor.numpy() for name, tensor in state.items()}
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "a model zoo"}, protocol))

    return writer


WRITERS: dict[str, Callable[[dict[str, torch.Tensor], Path], None]] = {
    "zip": torch.save,
    "legacy": _legacy,
    "safetensors": lambda state, path: save_safetensors(path, state),
    **{f"pickle{n}": _pickle(n) for n in range(6)},
}
# One for each way of reading.
FORMATS = ("zip", "legacy", "safetensors", "pickle0", "pickle2", "pickle4")


def write(kind: str, path: Path, state: dict[str, torch.Tensor] | None = None) -> Path:
    """Write a whole file of one kind, without its checksum."""
    WRITERS[kind](example() if state is None else state, path)
    Path(f"{path}.sha256").unlink(missing_ok=True)
    return path


class _Calls:
    """An object whose pickle calls ``function(*arguments)`` when it is loaded."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.reduced


def raw_pickle(function: Callable[..., Any], *arguments: Any, protocol: int = 2) -> bytes:
    """A state dict whose only value is the call of a function."""
    return pickle.dumps(OrderedDict(weight=_Calls(function, *arguments)), protocol)


def torch_zip(structure: bytes, members: dict[str, bytes] | None = None, folder: str = "archive") -> bytes:
    """A torch archive around a given pickle.

    Args:
        structure: content of ``data.pkl``.
        members: further members, by their name below the folder.
        folder: name of the archive's folder.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(f"{folder}/data.pkl", structure)
        archive.writestr(f"{folder}/version", "3\n")
        for name, content in (members or {}).items():
            archive.writestr(f"{folder}/{name}", content)
    return buffer.getvalue()


def tensor_pickle(
    count: Any = 4, size: Any = (4,), stride: Any = (1,), offset: Any = 0, key: str = "0"
) -> bytes:
    """The pickle of ``{"weight": tensor}`` with a float storage, in the words of ``torch.save``."""

    class Storage:
        pass

    storage = Storage()

    class Tensor:
        def __reduce__(self) -> tuple[Any, ...]:
            return torch._utils._rebuild_tensor_v2, (storage, offset, size, stride, False, OrderedDict())

    class Pickler(pickle.Pickler):
        def persistent_id(self, item: Any) -> Any:
            return ("storage", torch.FloatStorage, key, "cpu", count) if item is storage else None

    buffer = io.BytesIO()
    Pickler(buffer, 2).dump({"weight": Tensor()})
    return buffer.getvalue()


def safetensors_bytes(header: Any, content: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with any header; ``length`` overrides the true header length."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + content


def refusal(path: Path) -> str:
    """The message with which a file is refused: one line that begins with the file."""
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    return message.removeprefix(f"{path}: ")
