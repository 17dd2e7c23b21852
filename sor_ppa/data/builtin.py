"""Registration of the datasets in detectron2's catalogs.

Nothing is read before a dataset is used. The folder that holds the datasets is the ``root`` given to
``register_all`` (``train_net.py`` passes ``DATASETS.ROOT``), else ``$DETECTRON2_DATASETS``, else
``./datasets``; the environment is looked at when a dataset is used, not when it is registered.

Below that folder, ``ANYTHING/annotations/rank_SPLIT.json`` (COCO with ranks) is registered as well, as
``anything_SPLIT``, so that a dataset of one's own needs no code.
"""

from __future__ import annotations

import functools
import gc
import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from .assr import SPLITS
from .cache import cached_records
from .faults import DatasetError, FaultSink
from .formats import FORMATS
from .record import ImageRecord, to_detectron2

__all__ = [
    "BUILTIN",
    "DatasetSource",
    "datasets_root",
    "load_records",
    "register_all",
    "register_from_config",
    "source_of",
]

logger = logging.getLogger(__name__)

THING_CLASSES = ["salient_obj"]

_Result = TypeVar("_Result")

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
    """The folder that holds the datasets: ``root``, else ``$DETECTRON2_DATASETS``, else ``datasets``."""
    return Path(root or os.environ.get("DETECTRON2_DATASETS") or "datasets").expanduser()


def _without_collector(function: Callable[..., _Result]) -> Callable[..., _Result]:
    """Pause the cyclic garbage collector in a function that makes a million objects and no cycle."""

    @functools.wraps(function)
    def paused(*args: Any, **kwargs: Any) -> _Result:
        if not gc.isenabled():
            return function(*args, **kwargs)
        gc.disable()
        try:
            return function(*args, **kwargs)
        finally:
            gc.enable()

    return paused


@dataclass(frozen=True)
class DatasetSource:
    """Where a registered dataset comes from; calling it reads the dataset.

    Attributes:
        name: registered name.
        folder: folder under the root.
        kind: a key of ``FORMATS``.
        split: split in that folder.
        root: folder of the datasets ("" = by environment, when used).
        keep_rankless: whether objects without a rank are kept.
        cache: whether large datasets are cached.
    """

    name: str
    folder: str
    kind: str
    split: str
    root: str = ""
    keep_rankless: bool = False
    cache: bool = True

    @property
    def path(self) -> Path:
        """Folder of this dataset."""
        return datasets_root(self.root) / self.folder

    def _check_folder(self) -> None:
        if not self.path.is_dir():
            raise DatasetError(
                f"dataset {self.name}: no such folder: {self.path} (set DATASETS.ROOT or DETECTRON2_DATASETS "
                f"to the folder that holds {self.folder}/)"
            )

    def read(self, sink: FaultSink | None = None, keep_rankless: bool | None = None) -> list[ImageRecord]:
        """Read the dataset from its files.

        Args:
            sink: collects faults; by default the first serious one raises.
            keep_rankless: overrides the attribute.

        Raises:
            DatasetError: it is missing or broken.
        """
        self._check_folder()
        keep = self.keep_rankless if keep_rankless is None else keep_rankless
        return FORMATS[self.kind].read(self.path, self.split, keep_rankless=keep, sink=sink)

    @_without_collector
    def records(self) -> list[ImageRecord]:
        """The dataset, from the cache where that is valid.

        Raises:
            DatasetError: it is missing or broken.
        """
        self._check_folder()
        if not self.cache:
            return self.read()
        kind = FORMATS[self.kind]
        contents, stamped = kind.contents(self.path, self.split), kind.stamps(self.path, self.split)
        key = (self.kind, os.fspath(self.path), os.path.realpath(self.path), self.split, self.keep_rankless)
        return cached_records(self.name, key, contents, stamped, self.read)

    @_without_collector
    def __call__(self) -> list[dict[str, Any]]:
        """The dataset in detectron2's format."""
        return [to_detectron2(record) for record in self.records()]


def _is_there(root: Path, folder: str, kind: str, split: str) -> bool:
    """Whether a dataset has any of its annotation files."""
    files = [*FORMATS[kind].contents(root / folder, split), *FORMATS[kind].stamps(root / folder, split)]
    return any(os.path.isfile(file) for file in files)


def _own_datasets(root: Path) -> dict[str, tuple[str, str, str]]:
    """COCO files with ranks below the root: name -> (folder, format, split).

    A published dataset that is there keeps its name; of two folders with one name the first has it.
    """
    found: dict[str, tuple[str, str, str]] = {}
    for file in sorted(root.glob("*/annotations/rank_*.json")):
        folder, split = file.parts[-3], file.stem.removeprefix("rank_")
        name = re.sub(r"[^a-z0-9_]+", "_", f"{folder}_{split}".lower())
        if name in found:
            logger.warning("%s: not registered, dataset %s is that of %s", file, name, root / found[name][0])
        elif name in BUILTIN and _is_there(root, *BUILTIN[name]):
            logger.warning(
                "%s: not registered, dataset %s is that of %s", file, name, root / BUILTIN[name][0]
            )
        else:
            found[name] = (folder, "coco", split)
    return found


def register_all(
    root: str | os.PathLike[str] | None = None, *, keep_rankless: bool = False, cache: bool = True
) -> None:
    """Register every dataset of this package; safe to call again, also with another root.

    Names that somebody else has registered are left to them.

    Args:
        root: folder of the datasets; None or "": by environment, when used.
        keep_rankless: keep objects without a rank (``gt_rank`` -1).
        cache: cache large datasets.
    """
    own = _own_datasets(datasets_root(root))
    for name, current in list(DatasetCatalog.data.items()):
        if isinstance(current, DatasetSource) and name not in BUILTIN and name not in own:
            DatasetCatalog.remove(name)
    for name, (folder, kind, split) in {**BUILTIN, **own}.items():
        current = DatasetCatalog.data.get(name)
        if current is not None and not isinstance(current, DatasetSource):
            logger.debug("dataset %s is registered elsewhere and stays as it is", name)
            continue
        if current is not None:
            DatasetCatalog.remove(name)
        source = DatasetSource(name, folder, kind, split, os.fspath(root or ""), keep_rankless, cache)
        DatasetCatalog.register(name, source)
        MetadataCatalog.get(name).set(thing_classes=list(THING_CLASSES), evaluator_type="sor")


def register_from_config(cfg: CfgNode) -> None:
    """Register every dataset as ``cfg.DATASETS`` says (ROOT, KEEP_RANKLESS, CACHE)."""
    register_all(cfg.DATASETS.ROOT, keep_rankless=cfg.DATASETS.KEEP_RANKLESS, cache=cfg.DATASETS.CACHE)


def source_of(name: str) -> DatasetSource:
    """Where a registered dataset of this package comes from.

    Raises:
        DatasetError: the name is unknown here.
    """
    source = DatasetCatalog.data.get(name)
    if not isinstance(source, DatasetSource):
        known = sorted(key for key, item in DatasetCatalog.data.items() if isinstance(item, DatasetSource))
        raise DatasetError(f"dataset {name}: found no such name, expected one of {', '.join(known)}")
    return source


def load_records(name: str) -> list[ImageRecord]:
    """Records of a registered dataset of this package.

    Raises:
        DatasetError: the name is unknown here, or the dataset is missing or broken.
    """
    return source_of(name).records()


register_all()
