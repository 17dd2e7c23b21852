"""Salient object detection sets: a folder of images and a folder of masks, paired by name.

Layouts that are recognized below the folder of a set::

    images/ masks/                          InSPyReNet's own data folders
    DUTS-TR-Image/ DUTS-TR-Mask/            DUTS
    HRSOD_test/ HRSOD_test_mask/            HRSOD (beside one another)
    image/ mask/                            UHRSD
    im/ gt/                                 DIS5K
    DUT-OMRON-image/ pixelwiseGT-new-PNG/   DUT-OMRON
    images/ ground_truth_mask/              ECSSD
    imgs/ gt/                               HKU-IS, DAVIS-S
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from PIL import Image

from .builtin import datasets_root, missing_folder, register_source
from .images import IMAGE_SUFFIXES, image_sizes
from .issues import DatasetError, IssueLog

logger = logging.getLogger(__name__)

_IMAGES = re.compile(r"(images?|imgs?|im|.*[-_]images?)", re.IGNORECASE)
_MASKS = re.compile(r"(masks?|gts?|ground_?truth(_masks?)?|.*[-_](masks?|gt)|pixelwisegt.*)", re.IGNORECASE)

BUILTIN_SOD: dict[str, tuple[str, ...]] = {
    "duts_tr": ("DUTS-TR", "DUTS/DUTS-TR"),
    "duts_te": ("DUTS-TE", "DUTS/DUTS-TE"),
    "dut_omron": ("DUT-OMRON",),
    "ecssd": ("ECSSD",),
    "hku_is": ("HKU-IS",),
    "pascal_s": ("PASCAL-S",),
    "davis_s": ("DAVIS-S",),
    "hrsod_tr": ("HRSOD-TR", "HRSOD/HRSOD_train"),
    "hrsod_te": ("HRSOD-TE", "HRSOD/HRSOD_test"),
    "uhrsd_tr": ("UHRSD-TR", "UHRSD_TR_2K", "UHRSD/UHRSD_TR_2K"),
    "uhrsd_te": ("UHRSD-TE", "UHRSD_TE_2K", "UHRSD/UHRSD_TE_2K"),
    **{
        f"dis_{part.lower()}": (f"DIS-{part}", f"DIS5K/DIS-{part}")
        for part in ("TR", "VD", "TE1", "TE2", "TE3", "TE4")
    },
}
"""Name of each set -> folders to try, in order, under the root, its Train_Dataset or Test_Dataset."""


def find_folders(folder: Path) -> tuple[Path, Path]:
    """Return the folders of images and of masks of a set; ``DatasetError`` unless there is one of each."""
    beside = folder.with_name(folder.name + "_mask")  # HRSOD
    if beside.is_dir():
        return folder, beside
    inside = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    masks = [entry for entry in inside if _MASKS.fullmatch(entry.name)]
    images = [entry for entry in inside if _IMAGES.fullmatch(entry.name) and entry not in masks]
    if len(images) != 1 or len(masks) != 1:
        found = ", ".join(entry.name + "/" for entry in inside) or "no folder"
        raise DatasetError(f"{folder}: expected one folder of images and one of masks, found {found}")
    return images[0], masks[0]


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Return a sort key under which 2 comes before 10."""
    return [(0, int(part)) if part.isdigit() else (1, part.lower()) for part in re.split(r"(\d+)", name)]


def _pictures(folder: Path) -> dict[str, Path]:
    """Return name without suffix -> file, in natural order."""
    if not folder.is_dir():
        raise DatasetError(f"{folder}: expected a folder of images, found no such folder")
    files = [entry for entry in folder.iterdir() if entry.suffix.lower() in IMAGE_SUFFIXES]
    return {entry.stem: entry for entry in sorted(files, key=lambda entry: _natural(entry.name))}


def read_sod(images: str | Path, masks: str | Path, max_unreadable: float = 0.0) -> list[dict[str, Any]]:
    """List a set from its folders of images and of masks, which have the same names.

    Pairs of different size are left out with a warning (published code leaves them out silently); masks
    without an image are ignored.

    Args:
        images, masks: folders.
        max_unreadable: share of the pairs that may hold a broken file; they are left out and logged.

    Returns:
        Dicts ``file_name, mask_file_name, image_id, height, width``, in natural order of names.

    Raises:
        DatasetError: a folder is missing or empty, an image has no mask, or too many files are broken.
    """
    pictures, truths = _pictures(Path(images)), _pictures(Path(masks))
    if not pictures:
        raise DatasetError(f"{images}: expected files of {', '.join(IMAGE_SUFFIXES)}, found no image")
    lonely = [picture for name, picture in pictures.items() if name not in truths]
    if lonely:
        more = f" (and {len(lonely) - 1} more)" if len(lonely) > 1 else ""
        raise DatasetError(f"{lonely[0]}: expected a mask of this name in {masks}, found none{more}")
    pairs = [(picture, truths[name]) for name, picture in pictures.items()]
    files = [path for pair in pairs for path in pair]
    sizes = image_sizes(files)
    broken = [
        f"{path}: expected an image, found a broken file ({size})"
        for path, size in zip(files, sizes, strict=True)
        if isinstance(size, OSError)
    ]
    if len(broken) > max_unreadable * len(pairs):
        raise DatasetError(broken[0])
    for line in broken:
        logger.warning("%s; left out", line)
    log = IssueLog()
    records: list[dict[str, Any]] = []
    for (picture, mask), first, size in zip(pairs, sizes[::2], sizes[1::2], strict=True):
        if isinstance(first, OSError) or isinstance(size, OSError):
            continue
        height, width = first
        if size != first:
            detail = f"expected {height} x {width} pixels, found {size[0]} x {size[1]}"
            log.at(mask).omit("mask-size", "", detail)
            continue
        names = {"file_name": str(picture), "mask_file_name": str(mask)}
        records.append({**names, "image_id": len(records), "height": height, "width": width})
    log.log_left_out()
    logger.info("read %d images from %s", len(records), images)
    return records


def read_mask(path: str | Path) -> np.ndarray:
    """Return a mask file, (H, W) uint8, 0 = background, 255 = object, or raise ``DatasetError``."""
    try:
        with Image.open(path) as image:
            gray = np.array(image.convert("L"))
    except FileNotFoundError:
        raise DatasetError(f"{path}: expected a mask, found no such file") from None
    except Exception as error:
        raise DatasetError(f"{path}: expected a mask, found a broken file ({error})") from error
    return gray * np.uint8(255) if gray.max(initial=0) == 1 else gray  # some masks are saved as 0 and 1


@dataclass(frozen=True)
class SODSource:
    """A registered set; calling it reads the set in detectron2's format."""

    name: str
    folders: tuple[str, ...]  # to try, in order, relative to the root or absolute
    root: str = ""  # see ``datasets_root``
    max_unreadable: float = 0.0  # see ``read_sod``

    @property
    def path(self) -> Path:
        """Folder of the set; ``DatasetError`` if none of the folders exists."""
        root = datasets_root(self.root)
        for folder in self.folders:
            for parent in (root, root / "Train_Dataset", root / "Test_Dataset"):
                if (parent / folder).is_dir():
                    return parent / folder
        raise missing_folder(self.name, root, self.folders[0])

    def __call__(self) -> list[dict[str, Any]]:
        return read_sod(*find_folders(self.path), self.max_unreadable)


def register_sod(name: str, folders: str | os.PathLike[str] | Sequence[str], root: str = "") -> None:
    """Register a set by name and folder, or several folders to try; safe to call again.

    Folders are absolute or relative to the root (see ``datasets_root``).

    Raises:
        ValueError: the name belongs to a dataset of another kind.
    """
    paths = [folders] if isinstance(folders, (str, os.PathLike)) else folders
    if not register_source(name, SODSource(name, tuple(str(path) for path in paths), root), "sod"):
        found = "one that is taken by another kind of dataset"
        raise ValueError(f"dataset {name}: expected a new name, found {found}")


def register_builtin_sod(root: str = "") -> None:
    """Register the usual sets; names that other code has registered are not touched."""
    for name, folders in BUILTIN_SOD.items():
        register_source(name, SODSource(name, folders, root), "sod")


def register_sod_from_config(cfg: CfgNode) -> None:
    """Register the usual sets under ``DATASETS.ROOT`` and those of ``DATASETS.SOD`` ("name=folder")."""
    register_builtin_sod(cfg.DATASETS.ROOT)
    for entry in cfg.DATASETS.SOD:
        name, _, folder = str(entry).partition("=")
        if not name or not folder:
            raise ValueError(f"DATASETS.SOD: expected 'name=folder', found {entry!r}")
        register_sod(name, folder, cfg.DATASETS.ROOT)


register_builtin_sod()
