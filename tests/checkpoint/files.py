"""Weight files for tests: whole ones of each format, and hostile parts of them."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from sor_ppa.checkpoint import CheckpointError, read_checkpoint, save_safetensors


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


def _pickle(protocol: int, state: dict[str, torch.Tensor], path: Path) -> None:
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "a model zoo"}, protocol))


WRITERS: dict[str, Callable[[dict[str, torch.Tensor], Path], None]] = {
    "zip": torch.save,
    "legacy": partial(torch.save, _use_new_zipfile_serialization=False),
    "safetensors": lambda state, path: save_safetensors(path, state),
    **{f"pickle{n}": partial(_pickle, n) for n in range(6)},
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


def raw_pickle(function: Callable[..., Any], *arguments: Any) -> bytes:
    """A state dict whose only value is the call of a function."""
    return pickle.dumps(OrderedDict(weight=_Calls(function, *arguments)), 2)


def torch_zip(structure: bytes, name: str = "archive/data.pkl") -> bytes:
    """A torch archive around a given pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, structure)
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


def refusal(path: Path) -> str:
    """The message with which a file is refused: one line that begins with the file."""
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    return message.removeprefix(f"{path}: ")
