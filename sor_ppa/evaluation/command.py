"""Scoring files: pairs images with predictions, scores them in parallel, reports every problem once."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .ground_truth import ImageTruth, to_rle, truth_from_dict
from .image import ImageScores
from .prediction_files import Identity, Instances, find_maps, read_instances, read_map, stem
from .scorer import RankingScorer
from .sod import SODScorer, sod_state
from .truth_files import InputError, read_truth

NOTES = ("tied ground-truth ranks",)
"""Kinds of problems that belong to the data set, not to the predictions; ``--strict`` passes them."""

Problem = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Task:
    """One image and its prediction (a map's path, instances, or None for no prediction)."""

    record: Mapping[str, Any]
    prediction: Path | Instances | None


@dataclass(slots=True)
class Outcome:
    """What the command found.

    Attributes:
        kind: "maps", "levels" (of maps, as instances) or "instances".
        rank_by: the field that ordered instances, None for maps.
        images: images of the ground truth.
        rows: scored images (see ``report.write_per_image``).
        problems: (kind, line) each.
        scorer: the averages.
        sod: averages of the detection measures, None if not asked for.
    """

    kind: str
    rank_by: str | None
    images: int
    rows: list[dict[str, Any]]
    problems: list[Problem]
    scorer: RankingScorer
    sod: SODScorer | None

    def counts(self) -> dict[str, int]:
        """How many problems of each kind."""
        return dict(sorted(Counter(kind for kind, _ in self.problems).items()))

    def faulty(self) -> bool:
        """Whether ``--strict`` fails."""
        return any(kind not in NOTES for kind, _ in self.problems)


@dataclass(slots=True)
class Settings:
    """What each worker needs.

    Attributes:
        metrics, variants: of ``RankingScorer``.
        kind: as in ``Outcome``.
        sod: compute the detection measures.
    """

    metrics: Any
    variants: Any
    kind: str
    sod: bool
    scorer: RankingScorer = field(init=False)

    def __post_init__(self) -> None:
        self.scorer = RankingScorer(self.metrics, self.variants, on_map=self.kind == "maps")


def score_files(
    predictions: Path,
    truth: str,
    *,
    metrics: Any = None,
    variants: Any = None,
    sod: bool = False,
    levels: bool = False,
    rank_by: str = "auto",
    missing: str = "auto",
    workers: int = 1,
    progress: bool = False,
) -> Outcome:
    """Scores a folder of painted maps or a JSON file of instances.

    Args:
        predictions: folder or file.
        truth: JSON file or registered data set (see ``truth_files.read_truth``).
        metrics, variants: as in ``RankingScorer``.
        sod: also the detection measures, against the union of ranked objects.
        levels: grey levels of maps are taken for instances (see ``ImageScores.from_levels``).
        rank_by: as in ``prediction_files.read_instances``.
        missing: images without a prediction are left out ("skip") or scored as an empty prediction
            ("empty"); "auto" leaves out images without a map, while an image without an instance in a
            JSON file has no predictions and is scored as such.
        workers: processes.
        progress: show a progress bar on stderr.

    Raises:
        InputError, ValueError: something that makes the whole run senseless, in one line.
    """
    records = read_truth(truth)
    folder = predictions.is_dir()
    kind = ("levels" if levels else "maps") if folder else "instances"
    settings = Settings(metrics, variants, kind, sod)
    problems: list[Problem] = []
    order: str | None = None
    if missing == "auto":
        missing = "skip" if folder else "empty"
    if folder:
        tasks = _pair_maps(records, find_maps(predictions), missing, problems)
    else:
        if not predictions.exists():
            raise InputError(f"{predictions}: expected a folder of maps or a JSON file, found nothing")
        found, order = read_instances(predictions, rank_by)
        tasks = _pair_instances(records, found, str(predictions), missing, problems)
    scorer = RankingScorer(metrics, variants, on_map=kind == "maps")
    detection = SODScorer() if sod else None
    rows = []
    for row, row_problems in _progress(_run(tasks, settings, workers), len(tasks), progress):
        problems += row_problems
        if row is None:
            continue
        scorer.add_scores(row["scores"])
        if detection is not None:
            detection.add_state(row.pop("sod"))
        rows.append(row)
    return Outcome(kind, order, len(records), rows, problems, scorer, detection)


def _pair_maps(
    records: list[dict[str, Any]], maps: Mapping[str, Path], missing: str, problems: list[Problem]
) -> list[Task]:
    names: dict[str, str] = {}
    tasks = []
    for record in records:
        name = stem(str(record["file_name"]))
        if name in names:
            raise InputError(
                f"{record['file_name']}: expected one image named {name}, found {names[name]} as well"
            )
        names[name] = str(record["file_name"])
        if name not in maps:
            problems.append(("missing prediction", f"{record['file_name']}: no map {name}.png"))
            if missing == "skip":
                continue
        tasks.append(Task(record, maps.get(name)))
    problems += [
        ("extra prediction", f"{path}: no image of that name in the ground truth")
        for name, path in maps.items()
        if name not in names
    ]
    return tasks


def _pair_instances(
    records: list[dict[str, Any]],
    found: dict[Identity, Instances],
    source: str,
    missing: str,
    problems: list[Problem],
) -> list[Task]:
    tasks = []
    left = dict(found)
    stems: dict[str, list[Identity]] = {}
    for identity in found:
        if isinstance(identity, str):
            stems.setdefault(stem(identity), []).append(identity)
    for record in records:
        ids = (record["image_id"], str(record["image_id"]))
        keys = [key for key in ids if key in left] or stems.get(stem(str(record["file_name"])), [])
        matches = list(dict.fromkeys(keys))
        if len(matches) > 1:
            raise InputError(f"{source}: expected one name for {record['file_name']}, found {matches}")
        if matches and matches[0] not in left:
            raise InputError(f"{source}: expected {matches[0]!r} to name one image, found two")
        if not matches:
            problems.append(("missing prediction", f"{record['file_name']}: no instance in {source}"))
            if missing == "skip":
                continue
        tasks.append(Task(record, left.pop(matches[0]) if matches else None))
    problems += [
        ("extra prediction", f"{source}: image {identity!r} is not in the ground truth") for identity in left
    ]
    return tasks


def _run(
    tasks: list[Task], settings: Settings, workers: int
) -> Iterator[tuple[dict[str, Any] | None, list[Problem]]]:
    if workers <= 1 or len(tasks) < 2:
        yield from (score_task(task, settings) for task in tasks)
        return
    with multiprocessing.Pool(workers) as pool:
        chunk = max(1, min(32, len(tasks) // (4 * workers)))
        yield from pool.imap(partial(score_task, settings=settings), tasks, chunksize=chunk)


def _progress(items: Iterable[Any], total: int, show: bool) -> Iterable[Any]:
    from tqdm import tqdm

    return tqdm(items, total=total, unit="image", disable=not show)


def score_task(task: Task, settings: Settings) -> tuple[dict[str, Any] | None, list[Problem]]:
    """Scores one image.

    Returns:
        Its row, or None where it cannot be scored, and its problems.
    """
    problems: list[Problem] = []
    try:
        truth = truth_from_dict(task.record)
    except ValueError as error:
        return None, [("bad ground truth", str(error))]
    if len(np.unique(truth.dense_ranks)) < len(truth.dense_ranks):
        line = f"{truth.name}: ground-truth ranks tie {_ties(truth.dense_ranks)}"
        problems.append(("tied ground-truth ranks", line))
    try:
        if settings.kind == "instances":
            image = _instance_image(task, truth, problems)
        else:
            image = _map_image(task, truth, levels=settings.kind == "levels")
    except _SizeError as error:
        return None, [*problems, ("wrong size", str(error))]
    except ValueError as error:
        kind = "bad prediction" if settings.kind == "instances" else "unreadable prediction"
        return None, [*problems, (kind, str(error))]
    row: dict[str, Any] = {
        "image_id": truth.image_id,
        "name": truth.name,
        "n_gt": image.n_gt,
        "n_pred": None if image.is_map else image.n_pred,
        "scores": settings.scorer.score(image),
    }
    if settings.sod:
        grey = image.saliency_map("assr" if settings.kind == "instances" else "map")
        row["sod"] = sod_state(grey, image.regions.image(image.gt_union))
    return row, problems


class _SizeError(ValueError):
    pass


def _map_image(task: Task, truth: ImageTruth, *, levels: bool) -> ImageScores:
    path = task.prediction
    grey = read_map(path) if isinstance(path, Path) else np.zeros(truth.size, np.uint8)
    if grey.shape != truth.size:
        raise _SizeError(_wrong_size(str(path), truth, grey.shape))
    read = ImageScores.from_levels if levels else ImageScores.from_map
    return read(truth.ranked_masks(), truth.dense_ranks, grey)


def _instance_image(task: Task, truth: ImageTruth, problems: list[Problem]) -> ImageScores:
    instances = task.prediction if isinstance(task.prediction, Instances) else Instances()
    for segmentation, where in zip(instances.segmentations, instances.where, strict=True):
        if isinstance(segmentation, Mapping):
            size = segmentation.get("size")
            if isinstance(size, list) and len(size) == 2 and tuple(size) != truth.size:
                raise _SizeError(_wrong_size(where, truth, tuple(size)))
    rles = [
        to_rle(segmentation, truth.height, truth.width, where)
        for segmentation, where in zip(instances.segmentations, instances.where, strict=True)
    ]
    scores = np.array(instances.scores, np.float64)
    image = ImageScores.from_rles(
        truth.ranked_rles, truth.dense_ranks, rles, scores, truth.size, np.array(instances.confidences)
    )
    if len(np.unique(scores)) < len(scores):
        problems.append(("tied ranks", f"{truth.name}: predicted ranks tie {_ties(scores)}"))
    return image


def _wrong_size(what: str, truth: ImageTruth, size: tuple[int, ...]) -> str:
    expected = f"{truth.height} x {truth.width}"
    return (
        f"{what}: expected the size of {truth.name}, {expected} (height x width), found {size[0]} x {size[1]}"
    )


def _ties(values: np.ndarray) -> str:
    found, count = np.unique(values, return_counts=True)
    return ", ".join(
        f"({times} x {abs(value):g})" for value, times in zip(found, count, strict=True) if times > 1
    )
