"""What is fuzzed: the code that reads a damaged file or a random value, and the errors that it may raise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from sor_ppa import evaluation
from sor_ppa.checkpoint import CheckpointError, read_checkpoint
from sor_ppa.config import ConfigError, check_config, load_config
from sor_ppa.config.allowed import ALONE, flat
from sor_ppa.data import DatasetError
from sor_ppa.data.builtin import FORMATS
from sor_ppa.data.issues import IssueLog
from sor_ppa.data.masks import segmentation_mask
from sor_ppa.evaluation.command import score_files
from sor_ppa.visualization.files import ImageReadError, read_image

from .mutate import VALUES, damaged_bytes, damaged_json

CONFIGS = ("sor/ppa.yaml", "sor/demo.yaml", "salience_detr/demo.yaml")


@dataclass(frozen=True)
class Target:
    """One entrance of the package.

    Attributes:
        run: takes the folder of the corpus, the damaged file and the random source of the case.
        documented: the errors that are no findings.
        files: globs below the corpus of what is damaged; none for targets that read no file.
    """

    run: Callable[[Path, Path, Random], Any]
    documented: tuple[type[Exception], ...]
    files: tuple[str, ...] = ()

    def case(self, corpus: Path, random: Random) -> bool:
        """Run one case in a corpus of one's own; return whether it was refused.

        Raises:
            Exception: anything but a documented error.
        """
        if not self.files:
            return self._refused(corpus, corpus, random)
        path = random.choice(sorted(path for glob in self.files for path in corpus.glob(glob)))
        content = path.read_bytes()
        json = path.suffix == ".json" and random.random() < 0.8
        path.write_bytes(damaged_json(content, random) if json else damaged_bytes(content, random))
        try:
            return self._refused(corpus, path, random)
        finally:
            path.write_bytes(content)

    def _refused(self, corpus: Path, path: Path, random: Random) -> bool:
        try:
            self.run(corpus, path, random)
        except self.documented as error:
            if "\n" in str(error) or len(str(error)) > 2000:
                raise AssertionError(f"expected one line of at most 2000 characters: {error!r}") from error
            return True
        return False


def _dataset(kind: str) -> Target:
    def read(corpus: Path, path: Path, random: Random) -> None:
        FORMATS[kind].read(corpus / kind, "train", issues=IssueLog(collect=True))  # reports every fault
        for record in FORMATS[kind].read(corpus / kind, "train", keep_rankless=True):  # raises the first
            for item in record.objects:
                segmentation_mask(item.segmentation, record.height, record.width)

    annotations = tuple(f"{kind}/**/*.{suffix}" for suffix in ("json", "txt", "pkl", "pickle", "png"))
    return Target(read, (DatasetError,), annotations)


def _predictions(corpus: Path, path: Path, random: Random) -> None:
    score_files(path, str(corpus / "coco/annotations/rank_train.json"), metrics=["all"])


def _truth(corpus: Path, path: Path, random: Random) -> None:
    score_files(corpus / "files/instances.json", str(path))


def _config_file(corpus: Path, path: Path, random: Random) -> None:
    check_config(load_config(path))


_DEFAULTS = dict(flat(load_config("")))


def _overrides(corpus: Path, path: Path, random: Random) -> None:
    options = []
    for _ in range(random.randint(1, 3)):
        other = _DEFAULTS[random.choice(list(_DEFAULTS))]
        value = random.choice((other, random.choice(VALUES)))
        options += [random.choice(list(ALONE)), value if isinstance(value, str) else repr(value)]
    check_config(load_config(random.choice(CONFIGS), options))


def _metrics(corpus: Path, path: Path, random: Random) -> None:
    rng = np.random.default_rng(random.getrandbits(32))
    size, objects, found = (
        (random.randint(1, 9), random.randint(1, 9)),
        random.randint(0, 4),
        random.randint(0, 4),
    )
    arrays: list[Any] = [
        rng.random((objects, *size)) < 0.4,
        rng.permutation(objects),
        rng.random((found, *size)) < 0.4,
        rng.normal(size=found),
    ]
    if random.random() < 0.6:
        place, value = random.randrange(4), random.choice((*VALUES, np.zeros(0), np.full((2, 3, 4), np.nan)))
        arrays[place] = value if random.random() < 0.5 else [*arrays[place].tolist(), value]
    name = random.choice(("sa_sor", "sor", "mae", "f_measure", "iou", "ndcg"))
    score = getattr(evaluation, name)(*arrays)
    assert score.value is None or np.isnan(score.value) or -1 <= score.value <= 1, score


TARGETS = {
    **{f"dataset {kind}": _dataset(kind) for kind in FORMATS},
    "predictions": Target(_predictions, (ValueError, OSError), ("files/instances.json",)),
    "ground truth": Target(_truth, (ValueError, OSError), ("coco/annotations/*.json",)),
    "weights": Target(lambda _, path, __: read_checkpoint(path), (CheckpointError,), ("weights/*",)),
    "pictures": Target(lambda _, path, __: read_image(path), (ImageReadError,), ("pictures/*",)),
    "config files": Target(_config_file, (ConfigError,), ("files/*.yaml",)),
    "config keys": Target(_overrides, (ConfigError,)),
    "metrics": Target(_metrics, (ValueError,)),
}
