"""Salient object detection sets: a folder of images and a folder of masks, paired by name.

Layouts that are found by themselves, under the folder of a set::

    images/ masks/                          as InSPyReNet's own data folders
    DUTS-TR-Image/ DUTS-TR-Mask/            DUTS
    HRSOD_test/ HRSOD_test_mask/            HRSOD (beside one another)
    image/ mask/                            UHRSD
    im/ gt/                                 DIS5K
    DUT-OMRON-image/ pixelwiseGT-new-PNG/   DUT-OMRON
    images/ ground_truth_mask/              ECSSD
    imgs/ gt/                               HKU-IS, DAVIS-S

Nothing is read before a set is used, and no image is decoded to list one.
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
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from .builtin import datasets_root
from .faults import DatasetError, FaultSink
from .image_size import image_sizes

__all__ = [
    "BUILTIN_SOD",
    "SODSource",
    "find_folders",
    "read_mask",
    "read_sod",
    "register_builtin_sod",
    "register_sod",
    "register_sod_from_config",
]

logger = logging.getLogger(__name__)

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
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
    "dis_tr": ("DIS-TR", "DIS5K/DIS-TR"),
    "dis_vd": ("DIS-VD", "DIS5K/DIS-VD"),
    "dis_te1": ("DIS-TE1", "DIS5K/DIS-TE1"),
    "dis_te2": ("DIS-TE2", "DIS5K/DIS-TE2"),
    "dis_te3": ("DIS-TE3", "DIS5K/DIS-TE3"),
    "dis_te4": ("DIS-TE4", "DIS5K/DIS-TE4"),
}
"""Name of each set -> folders to look in, in order, under the root, its Train_Dataset or Test_Dataset."""


def find_folders(folder: Path) -> tuple[Path, Path]:
    """The folders of images and of masks of a set.

    Args:
        folder: of the set.

    Raises:
        DatasetError: there is not exactly one of each.
    """
    beside = folder.with_name(folder.name + "_mask")  # HRSOD
    if beside.is_dir():
        return folder, beside
    inside = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    masks = [entry for entry in inside if _MASKS.fullmatch(entry.name)]
    images = [entry for entry in inside if _IMAGES.fullmatch(entry.name) and entry not in masks]
    if len(images) != 1 or len(masks) != 1:
        found = ", ".join(entry.name + "/" for entry in inside) or "no folder"
        raise DatasetError(f"{folder}: found {found}, expected one folder of images and one of masks")
    return images[0], masks[0]


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Sort key under which 2 comes before 10."""
    return [(0, int(part)) if part.isdigit() else (1, part.lower()) for part in re.split(r"(\d+)", name)]


def _pictures(folder: Path) -> dict[str, Path]:
    """Name without suffix -> file."""
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder")
    files = [entry for entry in folder.iterdir() if entry.suffix.lower() in SUFFIXES]
    return {entry.stem: entry for entry in sorted(files, key=lambda entry: _natural(entry.name))}


def read_sod(images: str | Path, masks: str | Path, *, sink: FaultSink | None = None) -> list[dict[str, Any]]:
    """List a set.

    Images without a mask are a fault; pairs of different size are left out with a warning (published code
    leaves them out silently); masks without an image are ignored.

    Args:
        images: folder of images.
        masks: folder of masks, with the same names.
        sink: collects faults; by default the first serious one raises.

    Returns:
        Dicts ``file_name, mask_file_name, image_id, height, width``, in natural order of names.

    Raises:
        DatasetError: a folder is missing or empty, or an image has no mask.
    """
    sink = sink or FaultSink()
    pictures, truths = _pictures(Path(images)), _pictures(Path(masks))
    if not pictures:
        raise DatasetError(f"{images}: found no image, expected files of {', '.join(SUFFIXES)}")
    lonely = [name for name in pictures if name not in truths]
    if lonely:
        more = f" (and {len(lonely) - 1} more)" if len(lonely) > 1 else ""
        sink.serious(
            "missing-mask", pictures[lonely[0]], detail=f"found no mask of this name in {masks}{more}"
        )
    names = [name for name in pictures if name in truths]
    sizes = image_sizes([str(pictures[name]) for name in names])
    mask_sizes = image_sizes([str(truths[name]) for name in names])
    records: list[dict[str, Any]] = []
    for name, size, mask_size in zip(names, sizes, mask_sizes, strict=True):
        for path, found in ((pictures[name], size), (truths[name], mask_size)):
            if isinstance(found, OSError):
                sink.serious("broken-image", path, detail=f"not a readable image ({found})")
        if isinstance(size, OSError) or isinstance(mask_size, OSError):
            continue
        if size != mask_size:
            detail = f"found {mask_size[0]} x {mask_size[1]} pixels, expected {size[0]} x {size[1]}"
            sink.mild("mask-size", truths[name], detail=detail)
            continue
        records.append(
            {
                "file_name": str(pictures[name]),
                "mask_file_name": str(truths[name]),
                "image_id": len(records),
                "height": size[0],
                "width": size[1],
            }
        )
    sink.summarise()
    logger.info("read %d images from %s", len(records), images)
    return records


def read_mask(path: str | Path) -> np.ndarray:
    """A mask file as grey values, (H, W) uint8, 0 = background, 255 = object.

    Raises:
        DatasetError: it is missing or not an image.
    """
    try:
        with Image.open(path) as image:
            grey = np.array(image.convert("L"))
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such mask") from None
    except Exception as error:
        raise DatasetError(f"{path}: not a readable mask ({error})") from error
    # Masks saved as 0 and 1 would be black.
    return grey * np.uint8(255) if grey.max(initial=0) == 1 else grey


@dataclass(frozen=True)
class SODSource:
    """Where a registered set comes from; calling it reads the set.

    Attributes:
        name: registered name.
        folders: folders to look in, in order, relative to the root or absolute.
        root: folder of the datasets ("" = by environment, when used).
    """

    name: str
    folders: tuple[str, ...]
    root: str = ""

    @property
    def path(self) -> Path:
        """Folder of the set.

        Raises:
            DatasetError: none of the folders is there.
        """
        root = datasets_root(self.root)
        for folder in self.folders:
            for parent in (root, root / "Train_Dataset", root / "Test_Dataset"):
                if (parent / folder).is_dir():
                    return parent / folder
        raise DatasetError(
            f"dataset {self.name}: no such folder: {root / self.folders[0]} (set DATASETS.ROOT or "
            f"DETECTRON2_DATASETS to the folder that holds {self.folders[0]}/)"
        )

    def __call__(self) -> list[dict[str, Any]]:
        """The set in detectron2's format."""
        return read_sod(*find_folders(self.path))


def register_sod(name: str, folders: str | os.PathLike[str] | Sequence[str], root: str = "") -> None:
    """Register a set by name and folder; safe to call again, also with another folder.

    Args:
        name: to register.
        folders: folder of the set, or several to look in, relative to the root or absolute.
        root: folder of the datasets ("" = by environment, when used).

    Raises:
        ValueError: the name belongs to a dataset of another kind.
    """
    current = DatasetCatalog.data.get(name)
    if current is not None and not isinstance(current, SODSource):
        raise ValueError(f"dataset {name}: the name is taken by a dataset of another kind")
    if current is not None:
        DatasetCatalog.remove(name)
    paths = (folders,) if isinstance(folders, (str, os.PathLike)) else tuple(folders)
    DatasetCatalog.register(name, SODSource(name, tuple(os.fspath(path) for path in paths), root))
    MetadataCatalog.get(name).set(thing_classes=["salient_obj"], evaluator_type="sod")


def register_builtin_sod(root: str = "") -> None:
    """Register the usual sets; names that somebody else has registered are left to them."""
    for name, folders in BUILTIN_SOD.items():
        current = DatasetCatalog.data.get(name)
        if current is not None and not isinstance(current, SODSource):
            logger.debug("dataset %s is registered elsewhere and stays as it is", name)
            continue
        register_sod(name, folders, root)


def register_sod_from_config(cfg: CfgNode) -> None:
    """Register the usual sets under ``DATASETS.ROOT`` and those of ``DATASETS.SOD``.

    Raises:
        ValueError: an entry of ``DATASETS.SOD`` that is not "name=folder".
    """
    register_builtin_sod(cfg.DATASETS.ROOT)
    for entry in cfg.DATASETS.SOD:
        name, separator, folder = str(entry).partition("=")
        if not separator or not name or not folder:
            raise ValueError(f"DATASETS.SOD: expected 'name=folder', found {entry!r}")
        register_sod(name, folder, cfg.DATASETS.ROOT)


register_builtin_sod()
