"""The bytes of a weight file, read piece by piece and never past its end.

No memory map: a file that shrinks under one ends the process with a signal; here it is an error.
"""

from __future__ import annotations

import os
import stat
from types import TracebackType

import torch

from .errors import CheckpointError

__all__ = ["EXPECTED", "Bytes", "Source", "WeightFile"]

EXPECTED = "expected safetensors, a torch .pth or a detectron2 .pkl"
# One read call takes at most 2 GiB on Linux.
_PIECE = 2**30


class Source:
    """Bytes that can be read anywhere.

    Attributes:
        size: how many there are.
    """

    size: int

    def fill(self, target: memoryview, offset: int) -> None:
        """Read ``len(target)`` bytes from ``offset`` on into ``target``."""
        raise NotImplementedError

    def read(self, offset: int, count: int) -> bytearray:
        """Read ``count`` bytes, which must be there.

        Raises:
            CheckpointError: if they are not.
        """
        self.check(offset, count)
        content = bytearray(count)
        self.fill(memoryview(content), offset)
        return content

    def tensor(self, offset: int, count: int) -> torch.Tensor:
        """As ``read``, as a tensor (count,) uint8."""
        self.check(offset, count)
        content = torch.empty(count, dtype=torch.uint8)
        self.fill(_memory(content), offset)
        return content

    def fill_tensor(self, content: torch.Tensor, offset: int) -> None:
        """Fill a tensor (bytes,) uint8 from ``offset`` on."""
        self.check(offset, content.numel())
        self.fill(_memory(content), offset)

    def check(self, offset: int, count: int) -> None:
        """Raise unless ``count`` bytes lie behind ``offset``."""
        if offset < 0 or count < 0 or offset + count > self.size:
            raise CheckpointError(
                f"truncated or damaged: {count} bytes claimed at byte {offset}, "
                f"{max(self.size - offset, 0)} left"
            )


class Bytes(Source):
    """Bytes in memory."""

    def __init__(self, content: bytes | bytearray | memoryview) -> None:
        self.content = memoryview(content)
        self.size = len(content)

    def fill(self, target: memoryview, offset: int) -> None:
        target[:] = self.content[offset : offset + len(target)]


class WeightFile(Source):
    """A regular file, open for reading.

    Used as a context: leaving it without an error checks that the file is still what it was.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open.

        Raises:
            CheckpointError: if it is missing, not to be read, or a directory, a pipe, a device.
        """
        self.path = path
        try:
            _check_regular(os.stat(path), path)  # opening a device may do something
            # Were a pipe put in the file's place now, open() would wait for a writer without O_NONBLOCK.
            flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
            self.file = open(os.open(path, flags), "rb", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise CheckpointError(f"cannot be opened ({error.strerror}), {EXPECTED}", path) from None
        self.state = os.fstat(self.file.fileno())
        self.size = self.state.st_size

    def __enter__(self) -> WeightFile:
        _check_regular(self.state, self.path)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        now = os.fstat(self.file.fileno())
        self.file.close()
        changed = (now.st_size, now.st_mtime_ns) != (self.size, self.state.st_mtime_ns)
        if changed and (kind is None or issubclass(kind, Exception)):
            raise CheckpointError("changed while it was read (still being written?)", self.path) from None

    def fill(self, target: memoryview, offset: int) -> None:
        self.file.seek(offset)
        done = 0
        while done < len(target):
            count = self.file.readinto(target[done : done + _PIECE])
            if not count:
                raise CheckpointError(f"ends at byte {offset + done}, expected {self.size} bytes")
            done += count


def _check_regular(state: os.stat_result, path: str | os.PathLike[str]) -> None:
    if not stat.S_ISREG(state.st_mode):
        kind = "a directory" if stat.S_ISDIR(state.st_mode) else "not a regular file"
        raise CheckpointError(f"is {kind}, {EXPECTED}", path)


def _memory(content: torch.Tensor) -> memoryview:
    return content.numpy().data
