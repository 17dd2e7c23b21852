"""Registration of the ranking datasets in detectron2's catalogs.

Nothing is read before a dataset is used. The folder that holds the datasets is the ``root`` given to
``register_all`` (``train_net.py`` passes ``DATASETS.ROOT``), else ``$DETECTRON2_DATASETS``, else
``./datasets``; the environment is read when a dataset is used, not when it is registered.

``ANYTHING/annotations/rank_SPLIT.json`` (COCO with ranks) below that folder is registered as
``anything_SPLIT``, so that own datasets need no code.
"""

from __future__ import annotations

import gc
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from .assr import ASSR, SPLITS
from .coco import COCO, IRSR, SEQRANK, SIFR, read_coco_file
from .issues import DatasetError, IssueLog
from .painted import PAINTED
from .reader import Format
from .record import ImageRecord, to_detectron2
from .shards import SHARDS

logger = logging.getLogger(__name__)

FORMATS: dict[str, Format] = {
    "assr": ASSR, "irsr": IRSR, "sifr": SIFR, "seqrank": SEQRANK, "coco": COCO, "painted": PAINTED,
    "shards": SHARDS,
}  # fmt: skip
"""The formats that can be read, by name."""

_FAMILIES = (
    ("assr", "ASSR", "assr", SPLITS),
    ("irsr", "IRSR", "irsr", ("train", "test")),
    ("sifr", "SIFR", "sifr", SPLITS),
    ("assr_seqrank", "assr", "seqrank", SPLITS),
    ("irsr_seqrank", "irsr", "seqrank", SPLITS),
    ("painted_sor", "painted_sor", "painted", SPLITS),
    ("synthetic_sor", "synthetic_sor", "assr", SPLITS),
)

BUILTIN: dict[str, tuple[str, str, str]] = {
    f"{prefix}_{split}": (folder, kind, split)
    for prefix, folder, kind, splits in _FAMILIES
    for split in splits
}
"""Name of each dataset -> (folder under the root, format, split)."""


def datasets_root(root: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of the datasets: ``root``, else ``$DETECTRON2_DATASETS``, else ``datasets``."""
    return Path(root or os.environ.get("DETECTRON2_DATASETS") or "datasets").expanduser()


def missing_folder(name: str, root: Path, folder: str) -> DatasetError:
    """Return the error for a dataset whose folder does not exist."""
    return DatasetError(
        f"dataset {name}: expected the folder {root / folder}, found no such folder "
        f"(set DATASETS.ROOT or DETECTRON2_DATASETS to the folder that holds {folder}/)"
    )


@contextmanager
def _paused_garbage_collector() -> Iterator[None]:
    """Pause the cyclic garbage collector, which takes long while a million objects are made."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def register_source(
    name: str, source: Callable[[], list[dict[str, Any]]], evaluator_type: str, **metadata: Any
) -> bool:
    """Register a dataset in place of one of the same type; return False if the name is another type's.

    Args:
        name, source: of the dataset.
        evaluator_type, metadata: for ``MetadataCatalog``; by default there is one class.
    """
    current = DatasetCatalog.data.get(name)
    if not isinstance(current, (type(source), type(None))):
        return False
    metadata = {"thing_classes": ["salient_obj"], "evaluator_type": evaluator_type} | metadata
    if current is not None:
        DatasetCatalog.remove(name)
        known = MetadataCatalog.get(name)
        # detectron2 notes there where it wrote the old one as a COCO file, and refuses changed values
        if current != source or any(known.get(key, value) != value for key, value in metadata.items()):
            MetadataCatalog.remove(name)
    DatasetCatalog.register(name, source)
    MetadataCatalog.get(name).set(**metadata)
    return True


@dataclass(frozen=True)
class DatasetSource:
    """A registered ranking dataset; calling it reads the dataset in detectron2's format."""

    name: str
    folder: str  # under the root
    kind: str  # key of ``FORMATS``
    split: str  # in that folder
    root: str = ""  # see ``datasets_root``
    keep_rankless: bool = False  # whether objects without a rank are kept
    file: str = ""  # annotations at another place than the format's
    images: str = ""  # folder of the images of such a COCO file; "": found below the folder
    max_unreadable: float = 0.0  # share of the images that may be left out because they are broken

    @property
    def path(self) -> Path:
        """Folder of this dataset."""
        return datasets_root(self.root) / self.folder

    @property
    def missing(self) -> list[Path]:
        """Files and folders that a complete split has and this one lacks."""
        return [] if self.file else FORMATS[self.kind].missing(self.path, self.split)

    @_paused_garbage_collector()
    def read(self, issues: IssueLog | None = None, keep_rankless: bool | None = None) -> list[ImageRecord]:
        """Read the dataset as ``Format.read`` does; ``keep_rankless`` overrides the attribute."""
        if not self.path.is_dir():
            raise missing_folder(self.name, datasets_root(self.root), self.folder)
        keep = self.keep_rankless if keep_rankless is None else keep_rankless
        file, images = (Path(part) if part else None for part in (self.file, self.images))
        options: dict[str, Any] = {"keep_rankless": keep}
        options["issues"] = issues or IssueLog(max_unreadable=self.max_unreadable)
        if file and self.kind == "coco":
            return read_coco_file(file, self.path, self.split, images=images, **options)
        return FORMATS[self.kind].read(self.path, self.split, file=file, **options)

    @_paused_garbage_collector()
    def __call__(self) -> list[dict[str, Any]]:
        return [to_detectron2(record) for record in self.read()]


def _own_datasets(root: Path) -> dict[str, tuple[str, str, str]]:
    """Return the COCO files with ranks below the root: name -> (folder, format, split).

    The name of a published dataset is only taken if that dataset is absent; of equal names the first is.
    """
    found: dict[str, tuple[str, str, str]] = {}
    for file in sorted(root.glob("*/annotations/rank_*.json")):
        folder, split = file.parts[-3], file.stem.removeprefix("rank_")
        name = re.sub(r"[^a-z0-9_]+", "_", f"{folder}_{split}".lower())
        taken = found.get(name)
        if taken is None and name in BUILTIN:
            builtin_folder, kind, builtin_split = BUILTIN[name]
            if FORMATS[kind].path(root / builtin_folder, builtin_split).exists():
                taken = BUILTIN[name]
        if taken is None:
            found[name] = (folder, "coco", split)
        else:
            logger.warning("%s: not registered, dataset %s is that of %s", file, name, root / taken[0])
    return found


def register_all(root: str | os.PathLike[str] | None = None, *, keep_rankless: bool = False) -> None:
    """Register every ranking dataset, except names of other code; safe to call again with another root.

    Args:
        root: see ``datasets_root``.
        keep_rankless: keep objects without a rank (``gt_rank`` -1).
    """
    own = _own_datasets(datasets_root(root))
    for name, current in list(DatasetCatalog.data.items()):
        if isinstance(current, DatasetSource) and name not in BUILTIN and name not in own:
            DatasetCatalog.remove(name)
    for name, (folder, kind, split) in {**BUILTIN, **own}.items():
        source = DatasetSource(name, folder, kind, split, os.fspath(root or ""), keep_rankless)
        if not register_source(name, source, "sor"):
            logger.debug("dataset %s is registered elsewhere and not touched", name)


def register_from_config(cfg: CfgNode) -> None:
    """Register every ranking dataset as ``cfg.DATASETS`` says (ROOT, KEEP_RANKLESS)."""
    register_all(cfg.DATASETS.ROOT, keep_rankless=cfg.DATASETS.KEEP_RANKLESS)


def source_of(name: str) -> DatasetSource:
    """Return a registered ranking dataset, unread; raise ``DatasetError`` if the name is unknown."""
    source = DatasetCatalog.data.get(name)
    if not isinstance(source, DatasetSource):
        known = sorted(key for key, item in DatasetCatalog.data.items() if isinstance(item, DatasetSource))
        raise DatasetError(f"dataset {name}: expected one of {', '.join(known)}, found no such name")
    return source


def load_records(name: str) -> list[ImageRecord]:
    """Return the records of a registered ranking dataset; ``DatasetError`` if it cannot be used."""
    return source_of(name).read()


register_all()
