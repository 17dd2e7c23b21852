"""Datasets of users, by name, format and path: ``"NAME=FORMAT:PATH"`` or ``"NAME=FORMAT:PATH:PART"``.

========= ========================= =======================================================
format    path                      part
========= ========================= =======================================================
detection COCO file with classes    folder of its images (default: found beside the file)
coco      COCO file with ranks      as above
others    folder, or annotations    split (default: what follows the last "_" of the name)
sod       folder                    none
========= ========================= =======================================================

Paths are relative to the working folder or, if there is nothing, to the folder of the datasets.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json

from .builtin import FORMATS, DatasetSource, datasets_root, register_from_config, register_source
from .coco import image_folder
from .issues import DatasetError, expected
from .reader import json_file
from .sod import SODSource, register_sod, register_sod_from_config

__all__ = ["DetectionSource", "allow_unreadable", "register_datasets", "register_own"]

DETECTION, SOD = "detection", "sod"


@dataclass(frozen=True)
class DetectionSource:
    """A COCO file with classes; calling it reads the file in detectron2's format."""

    name: str
    file: str
    images: str = ""  # folder of the images; "": found beside the file

    def metadata(self) -> dict[str, Any]:
        """Return what detectron2's evaluator and mapper ask for; ``DatasetError`` for a broken file."""
        content = json_file(Path(self.file), "images", "annotations", "categories")
        try:
            classes = {int(item["id"]): str(item["name"]) for item in content["categories"]}
            first = [str(item["file_name"]) for item in content["images"][:1]]
        except (KeyError, TypeError, ValueError):
            wanted = "categories with id and name, images with file_name"
            raise DatasetError(f"{self.file}: {expected(wanted, content['categories'])}") from None
        numbers = sorted(classes)
        return {
            "json_file": self.file,
            "image_root": self.images or str(image_folder(_root(Path(self.file)), _split(self.name), first)),
            "evaluator_type": "coco",
            "thing_classes": [classes[number] for number in numbers],
            "thing_dataset_id_to_contiguous_id": {number: i for i, number in enumerate(numbers)},
        }

    def __call__(self) -> list[dict[str, Any]]:
        return load_coco_json(self.file, MetadataCatalog.get(self.name).image_root, self.name)


def _split(name: str) -> str:
    return name.rpartition("_")[2]


def _root(file: Path) -> Path:
    """Return the folder of a dataset whose annotations are in a file."""
    return file.parent.parent if file.parent.name == "annotations" else file.parent


def register_own(entry: str, root: str | os.PathLike[str] = "", *, keep_rankless: bool = False) -> str:
    """Register a dataset and return its name; safe to call again.

    Args:
        entry: ``"NAME=FORMAT:PATH"`` or ``"NAME=FORMAT:PATH:PART"``.
        root: see ``datasets_root``.
        keep_rankless: keep objects without a rank.

    Raises:
        DatasetError: something else, nothing at the path, or a name of other code.
    """
    name, _, where = entry.partition("=")
    kind, _, where = where.partition(":")
    place, _, part = where.partition(":")
    kinds = (*FORMATS, DETECTION, SOD)
    if not name or kind not in kinds or not place:
        wanted = f"'name=format:path' with a format of {', '.join(kinds)}"
        raise DatasetError(f"DATASETS.OWN: {expected(wanted, entry)}")
    path = Path(place) if Path(place).exists() else datasets_root(root) / place
    if not path.exists():
        raise DatasetError(f"dataset {name}: expected {path}, found no such file or folder")
    path = path.absolute()
    source: Any
    if kind == SOD:
        register_sod(name, str(path))
        return name
    if kind == DETECTION:
        source = DetectionSource(name, str(path), part)
        metadata = source.metadata()
    else:
        file = str(path) if path.is_file() else ""
        images = part if file and kind == "coco" else ""
        folder = str(_root(path) if file else path)
        split = _split(name) if images or not part else part
        source = DatasetSource(name, folder, kind, split, "", keep_rankless, file, images)
        metadata = {"evaluator_type": "sor", "thing_classes": ["salient_obj"]}
    if not register_source(name, source, **metadata):
        raise DatasetError(f"dataset {name}: expected a new name, found one of another kind of dataset")
    return name


def register_datasets(cfg: CfgNode) -> None:
    """Register all datasets as ``cfg.DATASETS`` says: the known ones, saliency sets, and the user's own."""
    register_from_config(cfg)
    register_sod_from_config(cfg)
    entries: Sequence[str] = cfg.DATASETS.OWN
    for entry in entries:
        register_own(entry, cfg.DATASETS.ROOT, keep_rankless=cfg.DATASETS.KEEP_RANKLESS)


def allow_unreadable(cfg: CfgNode) -> None:
    """Let datasets for training alone lack a share of their images, ``DATALOADER.MAX_UNREADABLE``."""
    for name in set(cfg.DATASETS.TRAIN) - set(cfg.DATASETS.TEST):
        source = DatasetCatalog.data.get(name)
        if isinstance(source, (DatasetSource, SODSource)):
            DatasetCatalog.data[name] = replace(source, max_unreadable=cfg.DATALOADER.MAX_UNREADABLE)
