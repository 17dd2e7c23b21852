"""Scoring of Parquet predictions against Parquet truth with Ray Data, to the result of one process."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

import fsspec

from ..evaluation.checks import InputError, expect
from ..evaluation.command import MISSING, Outcome, score_task
from ..evaluation.predictions import instance_entry, stem
from ..evaluation.scorer import RankingScorer
from ..evaluation.truth_table import TRUTH_COLUMNS
from ..evaluation.variants import VariantNames
from .storage import is_url

__all__ = ["score_parquet"]

PREDICTION_COLUMNS = ("image", "height", "width", "rank", "rank_score", "score", "segmentation")
_ROWS = 10_000  # read at once
_ROWS_OF_PART = 20_000  # objects, true and predicted, that one task scores
_LINES = 20  # problems of a kind that are listed, for each part

Row = dict[str, Any]


def score_parquet(
    predictions: str,
    truth: str,
    resources: Mapping[str, float],
    *,
    metrics: Sequence[str] | None = None,
    variants: VariantNames = None,
    rank_by: str = "auto",
    missing: str = "auto",
) -> Outcome:
    """Score Parquet predictions of instances; the means equal those of ``score_files`` to the last digit.

    Objects are distributed by image (its file name without folder and suffix), so that each task holds some
    thousand images; of a task's images, exact sums come back.

    Args:
        predictions: a file, a folder or a glob of files as ``sor-ppa rank`` writes them; local or a URL.
        truth: the same, as ``truth_table.write_truth`` writes them.
        resources: of the cluster, see ``joined_cluster``.
        metrics, variants, rank_by, missing: as in ``score_files``, without "sod".

    Returns:
        The outcome without rows and tasks; of many problems of one kind, some are listed.

    Raises:
        InputError, ValueError: unusable input, in one line.
    """
    import ray.data

    detection = {"sod", "all"}.intersection(metrics or ())
    expect(not detection, "--metrics", "ranking metrics with --ray", ", ".join(detection))
    scorer = RankingScorer(metrics, variants)
    rank_by = "rank" if rank_by == "auto" else rank_by
    files = {"predictions": _files(predictions), "truth": _files(truth)}
    count = sum(_check_file(path, kind) for kind, paths in files.items() for path in paths)
    sources = [{"path": path, "truth": kind == "truth"} for kind, paths in files.items() for path in paths]
    parts = max(1, min(2000, count // _ROWS_OF_PART), min(int(resources.get("CPU", 1)), count // 1000))
    score = partial(
        _score_part,
        scorer=scorer.arguments,
        rank_by=rank_by,
        skip_missing=missing == "skip",
        source=predictions,
    )
    rows = ray.data.from_items(sources, override_num_blocks=len(sources)).flat_map(_read_objects)
    scored = rows.repartition(parts, keys=["key"]).map_batches(score, batch_size=None, batch_format="pyarrow")
    outcome = Outcome("instances", rank_by, 0, [], scorer, None)
    for row in scored.iter_rows():
        _add_part(outcome, json.loads(row["found"]))
    expect(outcome.images, truth, "at least one image", "none")
    outcome.problems.sort()
    return outcome


def _files(source: str) -> list[str]:
    """Return the Parquet files that a source names."""
    fs, path = fsspec.core.url_to_fs(source)
    if fs.isdir(path):
        path = f"{path.rstrip('/')}/*.parquet"
    found = sorted(fs.glob(path)) if any(sign in path for sign in "*?[") else [path] * fs.exists(path)
    expect(found, source, "a Parquet file or a folder of them", "none")
    return [fs.unstrip_protocol(name) if is_url(source) else name for name in found]


def _check_file(path: str, kind: str) -> int:
    """Return the number of rows of a file; raise InputError if it has not the columns."""
    from pyarrow import parquet

    columns = TRUTH_COLUMNS if kind == "truth" else PREDICTION_COLUMNS
    try:
        with fsspec.open(path) as file:
            table = parquet.ParquetFile(file)
            lacking = [name for name in columns if name not in table.schema_arrow.names]
            count = int(table.metadata.num_rows)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected a Parquet file, found {' '.join(str(error).split())}") from error
    names = f"the columns {', '.join(columns)}"
    expect(not lacking, path, names, f"no {', '.join(lacking)}")
    return count


def _read_objects(source: Row) -> Iterator[Row]:
    """Yield the objects of a file, each with the ``key`` of its image, its place in the file, and JSON text.

    An image without objects gives one row without text.
    """
    from pyarrow import parquet

    truth = source["truth"]
    columns = TRUTH_COLUMNS if truth else PREDICTION_COLUMNS
    with fsspec.open(source["path"]) as file:
        table = parquet.ParquetFile(file)
        named = json.loads((table.schema_arrow.metadata or {}).get(b"images", b"[]"))
        unseen = dict.fromkeys(named)
        place = 0
        batches = (batch.to_pylist() for batch in table.iter_batches(_ROWS, columns=list(columns)))
        for row in chain.from_iterable(batches):
            unseen.pop(row["image"], None)
            yield {"key": stem(row["image"]), "truth": truth, "place": place, "object": json.dumps(row)}
            place += 1
        for image in unseen:
            row = {"image": image, "segmentation": None}
            yield {"key": stem(image), "truth": truth, "place": place, "object": json.dumps(row)}


def _score_part(
    table: Any, *, scorer: Mapping[str, Any], rank_by: str, skip_missing: bool, source: str
) -> dict[str, list[str]]:
    """Return the sums over the images of some keys, as JSON; or the error that makes them unusable."""
    groups: dict[str, tuple[list[Row], list[Row]]] = {}
    for row in sorted(table.to_pylist(), key=lambda row: row["place"]):
        groups.setdefault(row["key"], ([], []))[row["truth"]].append(json.loads(row["object"]))
    own = RankingScorer(**scorer)
    problems: list[tuple[str, str]] = []
    images = scored = 0
    try:
        for found, true in groups.values():
            images += bool(true)
            task = _task(found, true, rank_by, source, problems)
            if task is None or (task[1] is None and skip_missing):
                continue
            row, own_problems = score_task(task, scorer=own, kind="instances", sod=False)
            problems += own_problems
            if row is not None:
                scored += 1
                own.add_scores(row["scores"])
    except InputError as error:
        return {"found": [json.dumps({"error": str(error)})]}
    listed: dict[str, list[str]] = {}
    for kind, line in problems:
        listed.setdefault(kind, []).append(line)
    counts = {kind: [len(lines), sorted(lines)[:_LINES]] for kind, lines in listed.items()}
    state = {"scorer": own.state(), "images": images, "scored": scored, "problems": counts}
    return {"found": [json.dumps(state)]}


def _task(
    found: Sequence[Row], true: Sequence[Row], rank_by: str, source: str, problems: list[tuple[str, str]]
) -> Any:
    """Return what ``score_task`` takes for the rows of one key, or None for an image without truth."""
    names = list(dict.fromkeys(row["image"] for row in true))
    found_names = list(dict.fromkeys(row["image"] for row in found))
    if not names:
        problems += [
            ("extra prediction", f"{source}: image {name!r} is not in the ground truth")
            for name in found_names
        ]
        return None
    expect(len(found_names) <= 1, source, f"one name for {names[0]}", found_names)
    expect(len(names) == 1, source, f"{stem(names[0])!r} to name one image", f"{len(names)}: {names[:3]}")
    size = true[0]["height"], true[0]["width"]
    expect(all(isinstance(side, int) and side > 0 for side in size), names[0], "a height and a width", size)
    record = {"file_name": names[0], "image_id": names[0], "height": size[0], "width": size[1]}
    annotations = [
        {
            "segmentation": {"size": list(size), "counts": row["segmentation"]},
            "gt_rank": row["gt_rank"],
            "iscrowd": row["crowd"] or 0,
        }
        for row in true
        if row["segmentation"] is not None
    ]
    if not found:
        problems.append((MISSING, f"{names[0]}: no prediction in {source}"))
    where = f"{source}: {found_names[0]}" if found else ""
    entries = (
        instance_entry(
            row | {"segmentation": {"size": [row["height"], row["width"]], "counts": row["segmentation"]}},
            rank_by,
            f"{where}: object {place}",
        )
        for place, row in enumerate(found)
        if row["segmentation"] is not None
    )
    instances = [entry for entry in entries if entry is not None]
    return record | {"annotations": annotations}, instances if found else None


def _add_part(outcome: Outcome, part: Mapping[str, Any]) -> None:
    if "error" in part:
        raise InputError(part["error"])
    outcome.images += part["images"]
    outcome.scored += part["scored"]
    outcome.scorer.merge(RankingScorer.from_state(part["scorer"]))
    for kind, (count, lines) in part["problems"].items():
        outcome.problems += [(kind, line) for line in lines]
        outcome.unlisted += Counter({kind: count - len(lines)})
