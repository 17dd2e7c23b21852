"""Picture files: which ones are meant, how they are read, what their results are called."""

from __future__ import annotations

import glob
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

__all__ = ["Fault", "ImageReadError", "expand_inputs", "read_image", "result_names", "to_rgb"]

# What a folder's pictures end in; a file named outright may end in anything.
_EXTENSIONS: Final = frozenset(
    (".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)


class ImageReadError(ValueError):
    """A file that cannot be read as a picture; the message is one line that names it."""


@dataclass(frozen=True)
class Fault:
    """Something among the inputs that cannot be used.

    Attributes:
        name: the input as it was given.
        reason: what is wrong with it.
    """

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def read_image(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read a picture of any mode as it is meant to be seen.

    EXIF rotation is applied; transparency shows white; 16-bit greys keep their upper eight bits
    and are not stretched; of several frames the first is taken.

    Args:
        path: of the file.

    Returns:
        (H, W, 3) uint8 BGR.

    Raises:
        ImageReadError: the file is missing, no picture, or damaged.
    """
    name = os.fspath(path)
    try:
        with Image.open(name) as picture:
            picture.load()
            rgb = to_rgb(_upright(picture))
    except FileNotFoundError:
        raise ImageReadError(f"{name}: no such file") from None
    except Image.UnidentifiedImageError:
        raise ImageReadError(f"{name}: not a picture that can be read") from None
    except Exception as error:  # a damaged file can raise anything in a decoder
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageReadError(f"{name}: cannot be read as a picture ({reason})") from error
    return np.ascontiguousarray(rgb[:, :, ::-1])


def _upright(picture: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # a picture with broken EXIF data is still a picture
        return picture


def to_rgb(picture: Image.Image) -> NDArray[np.uint8]:
    if picture.mode.startswith("I;16"):
        return _grey((np.asarray(picture).astype(np.uint16) >> 8).astype(np.uint8))
    if picture.mode == "I":
        # Pillow's 32-bit mode also stands for 16-bit files.
        values = np.asarray(picture)
        shift = 8 if values.max(initial=0) > 255 else 0
        return _grey(np.clip(values >> shift, 0, 255).astype(np.uint8))
    if picture.mode == "F":
        floats = np.nan_to_num(np.asarray(picture))
        scale = 255.0 if floats.max(initial=0) <= 1.0 else 1.0
        return _grey(np.clip(np.rint(floats * scale), 0, 255).astype(np.uint8))
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        paper = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return np.asarray(Image.alpha_composite(paper, rgba).convert("RGB"))
    return np.asarray(picture.convert("RGB"))


def _grey(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(values[:, :, None], 3, axis=2)


def expand_inputs(inputs: Iterable[str | os.PathLike[str]]) -> tuple[list[Path], list[Fault]]:
    """Turn what a user names into picture files, each once, in the order named.

    Args:
        inputs: files; folders (their pictures, not those of folders inside); globs (``**`` goes
            into folders inside); ``.txt`` lists of any of these, one a line, looked for beside
            the list and then from the working folder. Empty lines and lines that start with
            ``#`` are left out.

    Returns:
        The files, and what could not be used.
    """
    files: dict[str, Path] = {}
    faults: list[Fault] = []
    for item in inputs:
        for found in _expand(Path(item), Path(), lists=True):
            if isinstance(found, Fault):
                faults.append(found)
            else:
                files.setdefault(os.path.abspath(found), found)
    return list(files.values()), faults


def _expand(path: Path, beside: Path, *, lists: bool) -> Iterator[Path | Fault]:
    name = str(path)
    place = next((p for p in (beside / path, path) if p.exists()), None)
    if place is None:
        matches = _glob(beside / path) or _glob(path)
        if matches:
            yield from matches
        elif glob.has_magic(name):
            yield Fault(name, "no picture matches")
        else:
            yield Fault(name, "no such file or folder")
    elif place.is_dir():
        pictures = sorted(p for p in place.iterdir() if p.suffix.lower() in _EXTENSIONS and p.is_file())
        yield from pictures
        if not pictures:
            yield Fault(name, f"no pictures in this folder (folders inside it: {path / '**'})")
    elif place.suffix.lower() == ".txt":
        if lists:
            yield from _read_list(place)
        else:
            yield Fault(name, "a list inside a list")
    else:
        yield place


def _glob(pattern: Path) -> list[Path]:
    """Files that match; a pattern without an extension takes pictures only."""
    if not glob.has_magic(str(pattern)):
        return []
    matches = sorted(Path(p) for p in glob.glob(str(pattern), recursive=True))
    any_file = bool(pattern.suffix) and pattern.suffix != ".*"
    return [p for p in matches if p.is_file() and (any_file or p.suffix.lower() in _EXTENSIONS)]


def _read_list(path: Path) -> Iterator[Path | Fault]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        yield Fault(str(path), f"cannot be read as a list ({error})")
        return
    items = [line.strip() for line in lines]
    items = [item for item in items if item and not item.startswith("#")]
    if not items:
        yield Fault(str(path), "names no picture")
    for item in items:
        for found in _expand(Path(item), path.parent, lists=False):
            yield Fault(f"{path}: {found.name}", found.reason) if isinstance(found, Fault) else found


def result_names(files: Sequence[Path]) -> list[str]:
    """A name for the results of each picture: its stem, made longer only where stems clash.

    Clashing names take as many folders in front as tell them apart (``a_cat``, ``b_cat``), then
    the extension, then a number. Upper and lower case count as equal, as some file systems have it.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for i, file in enumerate(files):
        groups[file.stem.lower()].append(i)
    names = [""] * len(files)
    taken: set[str] = set()
    # Names that clash with nothing come first: they stay as they are.
    for group in sorted(groups.values(), key=len):
        for i, name in zip(group, _told_apart([files[i] for i in group]), strict=True):
            number, names[i] = 2, name
            while names[i].lower() in taken:
                number, names[i] = number + 1, f"{name}_{number}"
            taken.add(names[i].lower())
    return names


def _told_apart(files: Sequence[Path]) -> list[str]:
    """The shortest names that tell files of one stem apart."""
    paths = [Path(os.path.abspath(f)) for f in files]
    siblings = Counter(p.parent for p in paths)
    ends = [f"{p.stem}_{p.suffix.lstrip('.')}" if siblings[p.parent] > 1 else p.stem for p in paths]
    folders = [p.parts[1:-1] for p in paths]
    for depth in range(int(len(siblings) > 1), max(len(f) for f in folders) + 1):
        names = ["_".join([*f[max(len(f) - depth, 0) :], end]) for f, end in zip(folders, ends, strict=True)]
        if len({name.lower() for name in names}) == len(names):
            break
    return names
