"""Find images, read them, and read their sizes without decoding them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from ..visualization.files import ImageReadError, read_image
from .issues import DatasetError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_Error = TypeVar("_Error", bound=Exception)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".webp", ".tif", ".tiff")
_ORIENTATION = 0x0112  # EXIF tag; 5 to 8 swap the sides


def in_threads(
    function: Callable[[_Item], _Result], items: Iterable[_Item], errors: type[_Error]
) -> list[_Result | _Error]:
    """Return results or errors of a function that waits for the disk, of many items in parallel."""

    def result_or_error(item: _Item) -> _Result | _Error:
        try:
            return function(item)
        except errors as error:
            return error

    with ThreadPool(min(16, 4 * (os.cpu_count() or 1))) as pool:
        return pool.map(result_or_error, items)


def decoded_image(path: str) -> np.ndarray:
    """Return an image (H, W, 3), BGR uint8, as ``read_image`` reads it, or raise ``DatasetError``."""
    try:
        return read_image(path)
    except ImageReadError as error:
        reason = str(error).removeprefix(f"{path}: ")
        found = reason if reason == "no such file" else f"a broken file ({reason})"
        raise DatasetError(f"{path}: expected an image, found {found}") from error


def read_gray(path: str | os.PathLike[str]) -> np.ndarray:
    """Return an image of gray levels (H, W), uint8 or uint16; transparency is ignored.

    Raises:
        DatasetError: the file is missing or broken, or has colors.
    """
    try:
        with Image.open(path) as image:
            if image.mode == "1":
                image = image.convert("L")
            elif image.mode not in ("L", "I;16", "I"):
                image = image.convert("RGB")
            pixels = np.array(image)
    except Exception as error:  # Pillow raises many kinds on broken files
        found = "no such file" if isinstance(error, FileNotFoundError) else "a broken file"
        raise DatasetError(f"{path}: expected an image, found {found}") from None
    if pixels.ndim == 2:
        return pixels.astype(np.uint16) if pixels.dtype == np.int32 else pixels
    if (pixels != pixels[..., :1]).any():
        raise DatasetError(f"{path}: expected gray levels, found colors")
    return np.ascontiguousarray(pixels[..., 0])


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return the (height, width) of an image in pixels from its header.

    EXIF orientation is applied, as in decoding, except where a PNG file holds it after the pixels.

    Raises:
        OSError: the file cannot be opened or is not an image.
    """
    try:
        with Image.open(path) as image:
            return upright_size(image)
    except OSError:
        raise
    except Exception as error:  # Pillow raises many kinds on broken files
        raise OSError(f"{type(error).__name__}: {error}") from None


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return the (height, width) of an opened image; see :func:`image_size`."""
    orientation = None
    with suppress(Exception):  # decoding ignores EXIF that cannot be read
        # the method of the base class, because that of PNG files decodes the image
        orientation = Image.Image.getexif(image).get(_ORIENTATION)
    return image.size if orientation in (5, 6, 7, 8) else image.size[::-1]


def image_sizes(paths: Iterable[str | os.PathLike[str]]) -> list[tuple[int, int] | OSError]:
    """Return (height, width) of each image, or the error that reading its header raised."""
    return in_threads(image_size, paths, OSError)


def image_finder(folder: Path) -> Callable[[str], str]:
    """Return a function from the name that annotations give an image to its path in a folder.

    Annotations of ASSR and SeqRank leave out the suffix ``.jpg``. If there is no such file, the name itself
    and the other suffixes are tried. The folder may be absent.
    """
    present = set(os.listdir(folder)) if folder.is_dir() else set()
    suffixes = (".jpg", "", *IMAGE_SUFFIXES, *map(str.upper, IMAGE_SUFFIXES))

    def find(name: str) -> str:
        candidates = [f"{name}{suffix}" for suffix in suffixes]
        return os.path.join(folder, next((file for file in candidates if file in present), candidates[0]))

    return find
