"""Scoring of files: pairs images with predictions, scores them in parallel, reports every problem once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from ..data.masks import remember_runs
from ..data.sod import read_mask
from ..visualization.files import write_image
from .checks import Identity, InputError, SizeError, expect, expect_size
from .ground_truth import ImageTruth, read_truth, truth_from_dict
from .image import ImageRuns, ImageScores, grouped
from .pictures import RankedMasks, draw_beside_truth, score_line, worst_by
from .predictions import InstanceEntry, SavedPredictions, read_map, read_predictions, stem
from .scorer import RankingScorer
from .segmentations import rle_runs, to_rle
from .sod import SODScorer, State, sod_state
from .variants import VariantNames

NOTES = ("tied ground-truth ranks",)
"""Kinds of problems that belong to the dataset, not to the predictions; ``--strict`` ignores them."""
MISSING = "missing prediction"
OTHER_NAME = "other file name"

Problem = tuple[str, str]
Row = dict[str, Any]
Record = dict[str, Any]
Task = tuple[Record, Path | list[InstanceEntry] | None]  # a dataset dict; a map, instances or no prediction
Scored = tuple[Row | None, list[Problem]]
BLOCK = 8  # images that are scored together; maps of many gray values need megabytes each
_Job = TypeVar("_Job")
_Done = TypeVar("_Done")


@dataclass(slots=True)
class Outcome:
    """What the command found.

    Attributes:
        kind: "maps", "levels" (of maps, as instances) or "instances".
        rank_by: the field that ordered instances, None for maps.
        images: images of the ground truth.
        problems: (kind, line) each.
        scorer: the averages.
        sod: averages of the detection measures, None if not asked for.
        scored: number of images with scores.
        unlisted: number of further problems of each kind.
        rows: scored images (see ``report.write_per_image``).
        tasks: dataset dict and prediction of each image.
    """

    kind: str
    rank_by: str | None
    images: int
    problems: list[Problem]
    scorer: RankingScorer
    sod: SODScorer | None
    scored: int = 0
    unlisted: Counter[str] = field(default_factory=Counter)
    rows: list[Row] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """Return the number of problems of each kind."""
        return dict(sorted((Counter(kind for kind, _ in self.problems) + self.unlisted).items()))

    def faulty(self) -> bool:
        """Return whether ``--strict`` fails."""
        return any(kind not in NOTES for kind, _ in self.problems)


def score_files(
    predictions: Path,
    truth: str,
    *,
    metrics: Sequence[str] | None = None,
    variants: VariantNames = None,
    levels: bool = False,
    rank_by: str = "auto",
    missing: str = "auto",
    workers: int = 1,
    progress: bool = False,
) -> Outcome:
    """Score a folder of maps or a file of instances.

    Args:
        predictions: folder or file.
        truth: JSON file or registered dataset (see ``ground_truth.read_truth``).
        metrics, variants: as in ``variants.select``. "sod" adds the detection measures, against the union
            of ranked objects, or against the masks of a saliency dataset, which has no other metric.
        levels: take gray levels of maps as instances (see ``ImageScores.from_map``).
        rank_by: as in ``predictions.read_instances``.
        missing: "skip" leaves out images without a prediction, "empty" scores them as an empty one; "auto"
            is "skip" for maps and "empty" for instances.
        workers: processes.
        progress: show a progress bar on stderr.

    Raises:
        InputError, ValueError: unusable input, or metrics that the dataset does not define, in one line.
    """
    records = read_truth(truth)
    read = read_predictions(predictions, rank_by)
    folder = read.kind == "maps"
    kind = "levels" if folder and levels else read.kind
    sod = not {"sod", "all"}.isdisjoint(metrics or ())
    metrics = None if metrics is None else [name for name in metrics if name != "sod"]
    if "mask_file_name" in records[0]:
        expect(kind == "maps", str(predictions), f"a folder of saliency maps for {truth}", kind)
        asked = [name for name in [*(metrics or ()), *(variants or ())] if name != "all"]
        expect(not asked, truth, "--metrics sod for a saliency dataset", ", ".join(asked))
        metrics, sod = [], True
    else:
        expect(has_ranks(records), truth, "a saliency dataset or objects with ranks", "no rank")
    scorer = RankingScorer(metrics, variants, on_map=kind == "maps")
    if missing == "auto":
        missing = "skip" if folder else "empty"
    tasks, problems = pair_with_images(records, read, str(predictions))
    if missing == "skip":
        tasks = [task for task in tasks if task[1] is not None]
    outcome = Outcome(kind, read.rank_by, len(records), problems, scorer, SODScorer() if sod else None)
    outcome.tasks = tasks
    score = partial(score_tasks, scorer=scorer, kind=kind, sod=sod)
    for row, row_problems in run_tasks(score, tasks, workers, progress):
        problems += row_problems
        if row is not None:
            outcome.rows.append(row)
            outcome.scored += 1
            scorer.add_scores(row["scores"])
            if outcome.sod is not None:
                outcome.sod.states.append(row["sod"])
    return outcome


def has_ranks(records: list[Record]) -> bool:
    """Return whether any object of the images has a rank."""
    ranks = (item.get("gt_rank") for record in records for item in record.get("annotations", ()))
    return any(rank is not None and rank >= 0 for rank in ranks)


def pair_with_images(
    records: list[Record], read: SavedPredictions, source: str
) -> tuple[list[Task], list[Problem]]:
    """Pair images with predictions of a file or folder ``source``, and report what is left over.

    Instances are paired by image id if there is one of that id, else by file name. Programs may number the
    images as they like; if file names say that an id means another image, names decide. Texts that are all
    names of images are names, also if they are numbers. A name of an id that is no name of the dataset is
    reported.
    """
    tasks: list[Task] = []
    problems: list[Problem] = []
    by_id, found, left = read.kind == "instances", read.found, dict(read.found)
    if _numbered_otherwise(records, read):
        found = left = {read.names.get(name, name): entries for name, entries in found.items()}
    stems: dict[str, list[Identity]] = {}
    for name in found:
        if isinstance(name, str):
            stems.setdefault(stem(name) if by_id else name, []).append(name)
    own = {stem(str(record["file_name"])) for record in records}
    named = all(isinstance(name, str) and stem(name) in own for name in found)
    for record in records:
        file_name, number = str(record["file_name"]), record["image_id"]
        ids = dict.fromkeys((number, number if named else _other_form(number))) if by_id else ()
        exact = [key for key in ids if key in left] or [file_name] * (file_name in left)
        matches = exact or stems.get(stem(file_name), [])
        expect(len(matches) <= 1, source, f"one name for {file_name}", matches)
        if matches:
            expect(matches[0] in left, source, f"{matches[0]!r} to name one image", "two")
            name = read.names.get(matches[0], file_name)
            if stem(name) != stem(file_name):
                line = f"{source}: image {matches[0]!r}: expected {file_name}, found {name}"
                problems.append((OTHER_NAME, line))
        else:
            problems.append((MISSING, f"{file_name}: no prediction in {source}"))
        tasks.append((record, left.pop(matches[0]) if matches else None))
    extra = "is not in the ground truth"
    problems += [("extra prediction", f"{source}: image {name!r} {extra}") for name in left]
    return tasks, problems


def _other_form(number: Identity) -> Identity:
    """Return the text of a number, or the number that a text holds."""
    if isinstance(number, str):
        return int(number) if number.isdecimal() else number
    return str(number)


def _numbered_otherwise(records: list[Record], read: SavedPredictions) -> bool:
    """Return whether names of the predicted images contradict their ids, and name images of the dataset."""
    stems = {number: stem(name) for number, name in read.names.items()}
    own = {record["image_id"]: stem(str(record["file_name"])) for record in records}
    distinct = len({*stems.values()}) == len(stems) and len({*own.values()}) == len(own)
    contradicted = any(own.get(number) != name for number, name in stems.items())
    return distinct and contradicted and not {*stems.values()}.isdisjoint(own.values())


def run_tasks(
    score: Callable[[Sequence[_Job]], Sequence[_Done]], tasks: Sequence[_Job], workers: int, progress: bool
) -> Iterator[_Done]:
    """Yield the result of each task in turn, computed block by block in several processes.

    Raises:
        InputError: a process died.
    """
    step = max(1, min(BLOCK, len(tasks) // (4 * max(1, workers))))
    blocks = [tasks[first : first + step] for first in range(0, len(tasks), step)]
    with tqdm(total=len(tasks), unit="image", disable=not progress) as bar:

        def flat(results: Iterable[Sequence[_Done]]) -> Iterator[_Done]:
            for done in results:
                bar.update(len(done))
                yield from done

        if workers <= 1 or len(blocks) < 2:
            yield from flat(map(score, blocks))
            return
        try:
            with ProcessPoolExecutor(workers) as pool:
                yield from flat(pool.map(score, blocks, chunksize=2))
        except BrokenProcessPool as error:
            found = "one that died, killed or out of memory; --workers 1 needs less"
            raise InputError(f"workers: expected {workers} running processes, found {found}") from error


def score_tasks(tasks: Sequence[Task], *, scorer: RankingScorer, kind: str, sod: bool) -> list[Scored]:
    """Return the row of each image, or None if it cannot be scored, and its problems.

    Args:
        tasks: dataset dict and prediction of each image.
        scorer, kind: as in ``Outcome``.
        sod: also compute the detection measures.
    """
    remember_masks([record for record, _ in tasks], [prediction for _, prediction in tasks])
    opened = [_open(task, kind) for task in tasks]
    images = iter(grouped([found for found, _ in opened if isinstance(found, ImageScores | ImageRuns)]))
    scored: list[Scored] = []
    for (record, _), (found, problems) in zip(tasks, opened, strict=True):
        row: Row = {"image_id": record["image_id"], "name": str(record["file_name"])}
        if found is None:
            scored.append((None, problems))
        elif isinstance(found, dict):
            scored.append((row | {"n_gt": None, "n_pred": None, "scores": {}, "sod": found}, problems))
        else:
            scored.append((row | _scores(scorer, next(images), row["name"], sod), problems))
    return scored


def _open(task: Task, kind: str) -> tuple[ImageScores | ImageRuns | State | None, list[Problem]]:
    """Return what is to be scored of an image, None if it cannot be scored, and its problems.

    For an image of a saliency dataset, these are the detection measures.
    """
    record, prediction = task
    name = str(record["file_name"])
    if "mask_file_name" in record:
        return _open_saliency(record["mask_file_name"], prediction, name)
    try:
        truth = truth_from_dict(record)
    except ValueError as error:
        return None, [("bad ground truth", str(error))]
    found, problems = open_prediction(prediction, truth, kind)
    if isinstance(found, ImageRuns):
        problems += _ties("tied ranks", f"{name}: predicted", found.scores)
    return found, [*_ties("tied ground-truth ranks", f"{name}: ground-truth", truth.dense_ranks), *problems]


def _open_saliency(truth: str, prediction: Any, name: str) -> tuple[State | None, list[Problem]]:
    stage = "bad ground truth"
    try:
        mask = read_mask(truth)
        stage = "unreadable prediction"
        return sod_state(read_sized_map(prediction, name, (mask.shape[0], mask.shape[1])), mask), []
    except (ValueError, OSError) as error:
        return None, [(_kind_of(error, stage), str(error))]


def open_prediction(
    prediction: Path | list[InstanceEntry] | None, truth: ImageTruth, kind: str
) -> tuple[ImageScores | ImageRuns | None, list[Problem]]:
    """Return a prediction beside the truth, None if it cannot be scored, and its problem.

    Args:
        prediction: None is an empty one.
        truth: of its image.
        kind: as in ``Outcome``.
    """
    try:
        if kind == "instances":
            assert not isinstance(prediction, Path)
            return _instance_runs(prediction or [], truth), []
        gray = read_sized_map(prediction, truth.name, truth.size)
        gt = truth.ranked_masks(), truth.dense_ranks
        return ImageScores.from_map(*gt, gray, levels=kind == "levels"), []
    except (ValueError, OSError) as error:
        stage = "bad prediction" if kind == "instances" else "unreadable prediction"
        return None, [(_kind_of(error, stage), str(error))]


def _kind_of(error: Exception, stage: str) -> str:
    return "wrong size" if isinstance(error, SizeError) else stage


def _scores(scorer: RankingScorer, image: ImageScores, name: str, sod: bool) -> Row:
    """Return the numbers and scores of an image; an error names the image."""
    try:
        scores = scorer.score(image)
    except ValueError as error:
        raise InputError(f"{name}: {error}") from None
    row = {"scores": scores, "n_gt": image.n_gt, "n_pred": None if image.is_map else image.n_pred}
    if sod:
        gray = image.saliency_map("map" if "map" in image.maps else "assr")
        row["sod"] = sod_state(gray, image.regions.image(image.gt_union))
    return row


def read_sized_map(path: Any, name: str, size: tuple[int, int]) -> np.ndarray:
    """Return the map (H, W) of the image ``name``, black without a path; raise ``InputError`` if unusable."""
    if path is None:
        return np.zeros(size, np.uint8)
    gray = read_map(path)
    expect_size(gray.shape, size, str(path), name)
    return gray


def _instance_runs(instances: Sequence[InstanceEntry], truth: ImageTruth) -> ImageRuns:
    """Return predicted instances beside the truth; raise ``InputError`` if one is malformed."""
    size, name = truth.size, truth.name
    gt = [rle_runs(rle, size, name) for rle in truth.ranked_rles]
    pred = [rle_runs(to_rle(item.segmentation, *size, item.where), size, item.where) for item in instances]
    scores = np.array([item.score for item in instances], np.float64)
    confidences = np.array([item.confidence for item in instances], np.float64)
    labels = [item.label for item in instances]
    own = None if None in labels else np.array(labels, np.int64)
    gt_labels = truth.ranks[truth.ranks >= 0]
    return ImageRuns(gt, truth.dense_ranks, pred, scores, confidences, size, own, gt_labels)


def remember_masks(
    records: Iterable[Record], predictions: Iterable[Path | list[InstanceEntry] | None]
) -> None:
    """Read the run-length masks of images together, which is faster than one by one."""
    masks: list[Any] = [item.get("segmentation") for own in records for item in own.get("annotations", ())]
    masks += [item.segmentation for own in predictions if isinstance(own, list) for item in own]
    remember_runs(masks)


def _ties(kind: str, whose: str, values: np.ndarray) -> list[Problem]:
    counts = Counter(values.tolist())
    tied = [f"({n} x {abs(value):g})" for value, n in sorted(counts.items()) if n > 1]
    return [(kind, f"{whose} ranks tie {', '.join(tied)}")] if tied else []


def show_worst(outcome: Outcome, folder: Path, count: int, images: Path | None = None) -> None:
    """Write image, truth and prediction of the worst images as ``NUMBER_NAME.jpg``, the worst first.

    Args:
        outcome: of :func:`score_files`.
        folder, count: of the pictures.
        images: folder that the file names of the ground truth refer to; None: they are paths.

    Raises:
        ValueError, OSError: an image that cannot be read, or a picture that cannot be written.
    """
    tasks = {record["image_id"]: (record, prediction) for record, prediction in outcome.tasks}
    folder.mkdir(parents=True, exist_ok=True)
    for number, row in enumerate(worst_by(outcome.rows, count), start=1):
        record, prediction = tasks[row["image_id"]]
        if images is not None:
            record = {**record, "file_name": str(images / record["file_name"])}
        picture = draw_beside_truth(record, drawable_prediction(record, prediction), score_line(row))
        write_image(folder / f"{number:03d}_{stem(str(row['name']))}.jpg", picture)


def drawable_prediction(
    record: Record, prediction: Path | list[InstanceEntry] | None
) -> RankedMasks | np.ndarray:
    """Return the prediction of an image as ``pictures.draw_panels`` takes it."""
    height, width = record["height"], record["width"]
    if isinstance(prediction, Path):
        return read_sized_map(prediction, str(record["file_name"]), (height, width))
    found = prediction or []
    rles = [to_rle(item.segmentation, height, width, item.where) for item in found]
    return rles, [item.score for item in found], [item.confidence for item in found]
