"""Image sizes from file headers, without decoding.

The size is that of the picture *as shown*: EXIF orientation is applied, because detectron2's
``read_image`` applies it, so that the sizes of a record and of the decoded image agree.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

__all__ = ["image_size", "image_sizes"]

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_START_OF_FRAME = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_XMP_ORIENTATION = re.compile(rb"tiff:Orientation")
_FIRST_READ = 2048


class _NeedsDecoder(Exception):
    """The header is one that this module leaves to Pillow."""


class _Window:
    """Random access to a file through as few reads as possible."""

    __slots__ = ("data", "fd", "start")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.start = 0
        self.data = os.pread(fd, _FIRST_READ, 0)

    def get(self, offset: int, count: int) -> bytes:
        begin = offset - self.start
        if begin < 0 or begin + count > len(self.data):
            self.start, begin = offset, 0
            self.data = os.pread(self.fd, max(count, 512), offset)
        piece = self.data[begin : begin + count]
        if len(piece) < count:
            raise _NeedsDecoder
        return piece


def _exif_orientation(tiff: bytes) -> int | None:
    """Orientation (1 to 8) in the first directory of a TIFF block, None if it has none."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 8:
        raise _NeedsDecoder
    (directory,) = struct.unpack_from(order + "I", tiff, 4)
    if directory + 2 > len(tiff):
        raise _NeedsDecoder
    (count,) = struct.unpack_from(order + "H", tiff, directory)
    if directory + 2 + 12 * count > len(tiff):
        raise _NeedsDecoder
    for index in range(count):
        tag, kind, number = struct.unpack_from(order + "HHI", tiff, directory + 2 + 12 * index)
        if tag == 0x0112:
            if kind != 3 or number != 1:
                raise _NeedsDecoder
            return int(struct.unpack_from(order + "H", tiff, directory + 10 + 12 * index)[0])
    return None


def _jpeg(window: _Window) -> tuple[int, int]:
    offset, orientation, xmp = 2, None, False
    while True:
        head = window.get(offset, 4)
        if head[0] != 0xFF:
            raise _NeedsDecoder
        marker = head[1]
        if marker == 0xFF:  # fill byte
            offset += 1
            continue
        if marker in _STANDALONE:
            offset += 2
            continue
        length = head[2] << 8 | head[3]
        if marker in _START_OF_FRAME:
            height, width = struct.unpack(">HH", window.get(offset + 5, 4))
            if not height or not width or (xmp and orientation is None):
                raise _NeedsDecoder
            return (width, height) if orientation in (5, 6, 7, 8) else (height, width)
        if marker == 0xDA or length < 2:  # the scan began before any frame
            raise _NeedsDecoder
        if marker == 0xE1 and length > 8:
            body = window.get(offset + 4, length - 2)
            if body[:6] == b"Exif\0\0":
                orientation = _exif_orientation(body[6:])
            elif _XMP_ORIENTATION.search(body):
                xmp = True
        offset += 2 + length


def _png(window: _Window) -> tuple[int, int]:
    header = window.get(8, 16)
    if header[4:8] != b"IHDR":
        raise _NeedsDecoder
    width, height = struct.unpack(">II", header[8:16])
    if not height or not width:
        raise _NeedsDecoder
    offset = 33
    while True:
        length, kind = struct.unpack(">I4s", window.get(offset, 8))
        if kind == b"IEND":
            return height, width
        if kind in (b"eXIf", b"tEXt", b"zTXt", b"iTXt"):  # may hold an orientation
            raise _NeedsDecoder
        offset += 12 + length


def _by_pillow(path: str) -> tuple[int, int]:
    from PIL import Image

    with Image.open(path) as image:
        width, height = image.size
        try:
            orientation = image.getexif().get(0x0112)
        except Exception:  # detectron2 takes unreadable EXIF as absent
            orientation = None
    return (width, height) if orientation in (5, 6, 7, 8) else (height, width)


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Size of an image from its header.

    JPEG and PNG headers are read directly; whatever is unusual in them, and every other format,
    goes to Pillow (which does not decode either, except for PNG files with an EXIF block).

    Args:
        path: the image file.

    Returns:
        (height, width) in pixels as shown.

    Raises:
        OSError: the file cannot be opened, or is not an image that Pillow can read.
    """
    path = os.fspath(path)
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        window = _Window(fd)
        if window.data[:3] == b"\xff\xd8\xff":
            return _jpeg(window)
        if window.data[:8] == _PNG_MAGIC:
            return _png(window)
    except (_NeedsDecoder, struct.error):
        pass
    finally:
        os.close(fd)
    return _by_pillow(path)


def _size_or_error(path: str) -> tuple[int, int] | OSError:
    try:
        return image_size(path)
    except OSError as error:
        return error
    except Exception as error:  # Pillow raises several kinds on broken files
        return OSError(f"{type(error).__name__}: {error}")


def image_sizes(paths: Sequence[str], workers: int | None = None) -> list[tuple[int, int] | OSError]:
    """Sizes of many images, read in parallel.

    Args:
        paths: N image files.
        workers: threads; by default four a core, 32 at most (the work is waiting for the disk).

    Returns:
        N times (height, width), or the error that reading this header raised.
    """
    if workers is None:
        workers = min(32, 4 * (os.cpu_count() or 1))
    if workers <= 1 or len(paths) < 64:
        return [_size_or_error(path) for path in paths]
    chunk = max(1, len(paths) // (workers * 4))
    parts = [paths[i : i + chunk] for i in range(0, len(paths), chunk)]
    with ThreadPoolExecutor(workers) as pool:
        found = pool.map(lambda part: [_size_or_error(path) for path in part], parts)
        return [size for part in found for size in part]
