"""Picture files: which ones are meant, how they are read and written, what their results are called."""

from __future__ import annotations

import glob
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ..atomic import atomic_write
from ..tar_members import member_of

__all__ = [
    "BadInput",
    "ImageReadError",
    "check_not_inputs",
    "decode_image",
    "expand_inputs",
    "read_image",
    "result_names",
    "to_rgb",
    "write_image",
]

# Suffixes of the pictures in a folder; a file given by its own name may have any.
IMAGE_SUFFIXES = tuple(
    ".avif .bmp .gif .jp2 .jpeg .jpg .pgm .png .ppm .tif .tiff .webp".split()  # noqa: SIM905
)
_FEWEST_PIXELS = 16  # a smaller picture stands in for one that is missing


class ImageReadError(ValueError):
    """A file that cannot be read as a picture; the message is one line that names the file."""


@dataclass(frozen=True)
class BadInput:
    """An input that cannot be used.

    Attributes:
        name: the input as it was given.
        reason: why.
    """

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def read_image(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read a picture of any mode.

    EXIF rotation is applied, transparency is shown on white, 16-bit grays are reduced to their upper eight
    bits, and the first of several frames is taken.

    Args:
        path: of the file, or of one inside a tar file (``sor_ppa.tar_members``).

    Returns:
        (H, W, 3) uint8 BGR.

    Raises:
        ImageReadError: no such file, no picture, a damaged one, or one of a few pixels.
    """
    name = os.fspath(path)
    if (member := member_of(name)) is not None:
        try:
            content = BytesIO(member.read())
        except Exception as error:  # file systems of URLs raise many types
            raise ImageReadError(f"{name}: cannot be read ({' '.join(str(error).split())})") from error
        return decode_image(content, name)
    if not os.path.isfile(name):
        reason = "not a regular file" if os.path.exists(name) else "no such file"
        raise ImageReadError(f"{name}: {reason}")
    return decode_image(name, name)


def decode_image(
    source: str | BinaryIO, name: str, formats: tuple[str, ...] | None = None
) -> NDArray[np.uint8]:
    """Decode a picture as :func:`read_image` does.

    Args:
        source: path or opened file.
        name: of the picture, for errors.
        formats: names of Pillow's formats to try; None: all.
    """
    try:
        with Image.open(source, formats=formats) as picture:
            picture.load()
            rgb = to_rgb(_upright(picture))
    except Image.UnidentifiedImageError:
        raise ImageReadError(f"{name}: not a picture in a known format") from None
    except Exception as error:  # decoders raise many types for damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageReadError(f"{name}: cannot be read as a picture ({reason})") from error
    height, width = rgb.shape[:2]
    if height * width < _FEWEST_PIXELS:
        raise ImageReadError(f"{name}: expected at least {_FEWEST_PIXELS} pixels, found {width} x {height}")
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), np.uint8)  # numpy's flip takes 1 ms


def _upright(picture: Image.Image) -> Image.Image:
    with suppress(Exception):  # ignore broken EXIF data
        ImageOps.exif_transpose(picture, in_place=True)
    return picture


def to_rgb(picture: Image.Image) -> NDArray[np.uint8]:
    """Return a Pillow image of any mode as (H, W, 3) uint8 RGB; see :func:`read_image`."""
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.nan_to_num(np.asarray(picture).astype(np.float32))
        # Pillow opens 16-bit files in mode "I" or "I;16"; floats are in [0, 1] or in [0, 255].
        if picture.mode == "F":
            values = np.rint(values * (255 if values.max(initial=0) <= 1 else 1))
        elif picture.mode != "I" or values.max(initial=0) > 255:
            values = values // 256
        return np.repeat(np.clip(values, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))


def write_image(path: Path, image: NDArray[np.uint8]) -> None:
    """Write gray (H, W), RGB or RGBA (H, W, C) uint8 atomically, in the format of the suffix.

    Raises:
        OSError: the picture cannot be encoded or written.
    """
    if image.ndim == 3:
        image = image[:, :, [2, 1, 0, 3][: image.shape[2]]]
    options: list[int] = []
    if path.suffix == ".jpg":
        # Keep colors at full resolution, so that thin colored lines stay crisp.
        sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
        options = [cv2.IMWRITE_JPEG_QUALITY, 93, *sampling]
    done, data = cv2.imencode(path.suffix, image, options)
    if not done:
        raise OSError(f"{path}: a picture of shape {image.shape} cannot be encoded")
    with atomic_write(path) as file:
        file.write_bytes(data.tobytes())


def check_not_inputs(targets: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Raise ``ValueError`` if a result would overwrite an input."""
    known = {os.path.realpath(path) for path in inputs}
    for path in targets:
        if os.path.realpath(path) in known:
            raise ValueError(f"{path}: is an input and would be overwritten; choose another output folder")


def expand_inputs(
    inputs: Iterable[str | os.PathLike[str]], suffixes: tuple[str, ...] = IMAGE_SUFFIXES
) -> tuple[list[Path], list[BadInput]]:
    """Return the files that a user names, each once, in the given order.

    Args:
        inputs: files; folders (their pictures, not those of subfolders); globs (``**`` includes subfolders);
            ``.txt`` lists with one of these per line, relative to the list or to the working folder. Empty
            lines and lines that start with ``#`` are ignored.
        suffixes: of the files to take from folders.

    Returns:
        The files, and the inputs that cannot be used.
    """
    files: dict[str, Path] = {}
    faults: list[BadInput] = []
    for item in inputs:
        for found in _expand(Path(item), Path(), suffixes, lists=True):
            if isinstance(found, BadInput):
                faults.append(found)
            else:
                files.setdefault(os.path.abspath(found), found)
    return list(files.values()), faults


def _expand(path: Path, folder: Path, suffixes: tuple[str, ...], *, lists: bool) -> Iterator[Path | BadInput]:
    name = str(path)
    place = next((p for p in (folder / path, path) if p.exists()), None)
    if place is None:
        matches = _glob(folder / path, suffixes) or _glob(path, suffixes)
        yield from matches
        if not matches:
            yield BadInput(name, "no picture matches" if glob.has_magic(name) else "no such file or folder")
    elif place.is_dir():
        entries = sorted(p for p in place.iterdir() if p.name.lower().endswith(suffixes) and not p.is_dir())
        for entry in entries:
            yield entry if entry.is_file() else BadInput(str(entry), "not a regular file")
        if not entries:
            yield BadInput(name, f"no pictures in this folder (to include subfolders: {path / '**'})")
    elif not place.is_file():
        yield BadInput(name, "not a regular file")
    elif place.suffix.lower() != ".txt":
        yield place
    elif lists:
        yield from _read_list(place, suffixes)
    else:
        yield BadInput(name, "a list inside a list")


def _glob(pattern: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Return the files that match; a pattern without a suffix matches pictures only."""
    if not glob.has_magic(str(pattern)):
        return []
    any_file = pattern.suffix not in ("", ".*")
    matches = sorted(Path(p) for p in glob.glob(str(pattern), recursive=True))
    return [p for p in matches if p.is_file() and (any_file or p.name.lower().endswith(suffixes))]


def _read_list(path: Path, suffixes: tuple[str, ...]) -> Iterator[Path | BadInput]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        yield BadInput(str(path), f"cannot be read as a list ({error})")
        return
    items = [line for line in lines if line and not line.startswith("#")]
    if not items:
        yield BadInput(str(path), "names no picture")
    for item in items:
        for found in _expand(Path(item), path.parent, suffixes, lists=False):
            yield (BadInput(f"{path}: {found.name}", found.reason) if isinstance(found, BadInput) else found)


def result_names(files: Sequence[Path]) -> list[str]:
    """Return a name for the results of each picture: its stem, longer only if several files share it.

    Files with the same stem get the folders below their common one in front (``a_cat``, ``b_cat``), then the
    suffix, then a number. Upper and lower case count as equal, as on some file systems.
    """
    paths = [Path(os.path.abspath(file)) for file in files]
    groups: dict[str, list[int]] = defaultdict(list)
    for i, path in enumerate(paths):
        groups[path.stem.lower()].append(i)
    names: dict[int, str] = {}
    taken: set[str] = set()
    # Unique stems come first: they keep their names.
    for group in sorted(groups.values(), key=len):
        siblings = Counter(paths[i].parent for i in group)
        common = os.path.commonpath(list(siblings))
        for i in group:
            path = paths[i]
            name = "_".join([*path.parent.relative_to(common).parts, path.stem])
            if siblings[path.parent] > 1:
                name += f"_{path.suffix.lstrip('.')}"
            numbered = (name if n == 1 else f"{name}_{n}" for n in count(1))
            names[i] = next(candidate for candidate in numbered if candidate.lower() not in taken)
            taken.add(names[i].lower())
    return [names[i] for i in range(len(files))]
