"""Registration of the datasets in detectron2's catalogs.

Nothing is read before a dataset is used. The folder that holds the datasets is the ``root`` given to
``register_all`` (``train_net.py`` passes ``DATASETS.ROOT``), else ``$DETECTRON2_DATASETS``, else
``./datasets``; the environment is looked at when a dataset is used, not when it is registered.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from .assr import SPLITS, read_assr
from .faults import DatasetError
from .record import ImageRecord, to_detectron2

__all__ = [
    "BUILTIN",
    "DatasetSource",
    "datasets_root",
    "load_records",
    "register_all",
    "register_from_config",
]

logger = logging.getLogger(__name__)

THING_CLASSES = ["salient_obj"]

BUILTIN: dict[str, tuple[str, str]] = {
    f"{prefix}_{split}": (folder, split)
    for prefix, folder in (("assr", "ASSR"), ("synthetic_sor", "synthetic_sor"))
    for split in SPLITS
}
"""Name of each dataset -> (folder under the root, split)."""


def datasets_root(root: str | os.PathLike[str] | None = None) -> Path:
    """The folder that holds the datasets: ``root``, else ``$DETECTRON2_DATASETS``, else ``datasets``."""
    return Path(root or os.environ.get("DETECTRON2_DATASETS") or "datasets").expanduser()


@dataclass(frozen=True)
class DatasetSource:
    """Where a registered dataset comes from; calling it reads the dataset.

    Attributes:
        name: registered name.
        folder: folder under the root.
        split: split in that folder.
        root: folder of the datasets ("" = by environment, when used).
        keep_rankless: whether objects without a rank are kept.
    """

    name: str
    folder: str
    split: str
    root: str = ""
    keep_rankless: bool = False

    @property
    def path(self) -> Path:
        """Folder of this dataset."""
        return datasets_root(self.root) / self.folder

    def records(self) -> list[ImageRecord]:
        """Read the dataset.

        Raises:
            DatasetError: it is missing or broken.
        """
        if not self.path.is_dir():
            raise DatasetError(
                f"dataset {self.name}: no such folder: {self.path} (set DATASETS.ROOT or DETECTRON2_DATASETS "
                f"to the folder that holds {self.folder}/)"
            )
        return read_assr(self.path, self.split, keep_rankless=self.keep_rankless)

    def __call__(self) -> list[dict[str, Any]]:
        """The dataset in detectron2's format."""
        return [to_detectron2(record) for record in self.records()]


def register_all(root: str | os.PathLike[str] | None = None, *, keep_rankless: bool = False) -> None:
    """Register every dataset of this package; safe to call again, also with another root.

    Names that somebody else has registered are left to them.

    Args:
        root: folder of the datasets; None or "": by environment, when used.
        keep_rankless: keep objects without a rank (``gt_rank`` -1).
    """
    for name, (folder, split) in BUILTIN.items():
        current = DatasetCatalog.data.get(name)
        if current is not None and not isinstance(current, DatasetSource):
            logger.debug("dataset %s is registered elsewhere and stays as it is", name)
            continue
        if current is not None:
            DatasetCatalog.remove(name)
        DatasetCatalog.register(
            name, DatasetSource(name, folder, split, os.fspath(root or ""), keep_rankless)
        )
        MetadataCatalog.get(name).set(thing_classes=list(THING_CLASSES), evaluator_type="sor")


def register_from_config(cfg: CfgNode) -> None:
    """Register every dataset as ``cfg.DATASETS`` says (ROOT, KEEP_RANKLESS)."""
    register_all(cfg.DATASETS.ROOT, keep_rankless=cfg.DATASETS.KEEP_RANKLESS)


def load_records(name: str) -> list[ImageRecord]:
    """Records of a registered dataset of this package.

    Raises:
        DatasetError: the name is unknown here, or the dataset is missing or broken.
    """
    source = DatasetCatalog.data.get(name)
    if not isinstance(source, DatasetSource):
        raise DatasetError(f"dataset {name}: not one of {', '.join(BUILTIN)}")
    return source.records()


register_all()
