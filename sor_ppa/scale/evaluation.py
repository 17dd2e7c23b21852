"""Scoring of Parquet predictions against Parquet truth with Ray Data, to the result of one process."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain, groupby, islice
from operator import itemgetter
from typing import Any

import fsspec

from ..evaluation.checks import InputError, expect
from ..evaluation.command import BLOCK, MISSING, Outcome, has_ranks, score_tasks
from ..evaluation.predictions import instance_entry, stem
from ..evaluation.scorer import RankingScorer
from ..evaluation.truth_table import TRUTH_COLUMNS
from ..evaluation.variants import VariantNames
from .sources import one_line
from .storage import is_url

__all__ = ["score_parquet"]

_COLUMNS = {  # all that are read, with their types
    "image": "string",
    "height": "int64",
    "width": "int64",
    "segmentation": "string",
    "gt_rank": "int64",
    "crowd": "bool",
    "rank": "int64",
    "rank_score": "float64",
    "rank_label": "int64",
    "score": "float64",
}
_ROWS = 10_000  # read at once
_ROWS_OF_PART = 20_000  # objects, true and predicted, that one task scores
_BLOCK_BYTES = 64 * 2**20  # rows that processes exchange together
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
    found, true = _files(predictions), _files(truth)
    files = [*found, *true]
    with ThreadPoolExecutor() as pool:  # files at a URL take their time
        tables = list(pool.map(_columns_and_rows, files))
    if rank_by == "auto":
        rank_by = "rank" if "rank" in tables[0][0] else "rank_score"
    needed = [{"image", "height", "width", "segmentation", rank_by}] * len(found)
    needed += [set(TRUTH_COLUMNS)] * len(true)
    for path, names, (columns, _) in zip(files, needed, tables, strict=True):
        expect(names <= columns, path, f"the columns {sorted(names)}", f"no {sorted(names - columns)}")
    count = sum(rows for _, rows in tables)
    parts = max(1, min(2000, count // _ROWS_OF_PART), min(int(resources.get("CPU", 1)), count // 1000))
    sources = [{"path": path, "truth": i >= len(found), "file": i} for i, path in enumerate(files)]
    read = ray.data.from_items(sources, override_num_blocks=min(2000, len(sources)))
    score = partial(
        _score_part,
        scorer=scorer.arguments,
        rank_by=rank_by,
        skip_missing=missing == "skip",
        source=predictions,
    )
    objects = read.map_batches(_read_objects, batch_size=None, batch_format="pyarrow")
    scored = objects.repartition(parts, keys=["key"]).map_batches(
        score, batch_size=None, batch_format="pyarrow"
    )
    scored.context.target_max_block_size = scored.context.shuffle_input_batch_bytes = _BLOCK_BYTES
    outcome = Outcome("instances", rank_by, 0, [], scorer, None)
    ranked = False
    for row in scored.iter_rows():
        part = json.loads(row["found"])
        _add_part(outcome, part)
        ranked |= part["ranked"]
    expect(outcome.images, truth, "at least one image", "none")
    expect(ranked, truth, "objects with ranks", "no rank")
    outcome.problems.sort()
    return outcome


def _files(source: str) -> list[str]:
    """Return the Parquet files that a source names."""
    fs, path = fsspec.core.url_to_fs(source)
    if fs.isdir(path):
        found = [entry["name"] for entry in fs.ls(path, detail=True) if entry["name"].endswith(".parquet")]
    else:
        found = [path] if fs.isfile(path) else fs.glob(path)
    expect(found, source, "a Parquet file or a folder of them", "none")
    return [fs.unstrip_protocol(name) if is_url(source) else name for name in sorted(found)]


def _columns_and_rows(path: str) -> tuple[set[str], int]:
    """Return the names of the columns of a Parquet file and the number of its rows."""
    from pyarrow import parquet

    try:
        with fsspec.open(path) as file:
            table = parquet.ParquetFile(file)
            return set(table.schema_arrow.names), int(table.metadata.num_rows)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected a Parquet file, found {one_line(error)}") from error


def _read_objects(sources: Any) -> Iterator[Any]:
    """Yield the objects of files, as tables with the columns of ``_table_of_objects``.

    An image without objects gives one row without segmentation.

    Args:
        sources: ``path`` of each file, ``truth`` (whether it is the truth), and ``file``, its number.
    """
    from pyarrow import Table, parquet

    for source in sources.to_pylist():
        with fsspec.open(source["path"]) as opened:
            file = parquet.ParquetFile(opened)
            columns = [name for name in file.schema_arrow.names if name in _COLUMNS]
            unseen = set(json.loads((file.schema_arrow.metadata or {}).get(b"images", b"[]")))
            place = 0
            for batch in file.iter_batches(_ROWS, columns=columns):
                table = Table.from_batches([batch])
                unseen.difference_update(table["image"].to_pylist())
                yield _table_of_objects(table, source, place)
                place += len(table)
            if unseen:
                yield _table_of_objects(Table.from_pydict({"image": sorted(unseen)}), source, place)


def _table_of_objects(table: Any, source: Row, place: int) -> Any:
    """Return a table with the columns ``_COLUMNS``, and those by which its rows are distributed and sorted.

    These are ``key`` (of the image), ``truth``, ``file`` and ``place`` (of the row in the file).
    """
    import pyarrow as pa

    columns = {}
    for name, kind in _COLUMNS.items():
        try:
            given = name in table.column_names
            columns[name] = table[name].cast(kind) if given else pa.nulls(len(table), kind)
        except pa.ArrowException as error:
            where = f"{source['path']}: column {name}"
            raise InputError(f"{where}: expected {kind}, found {one_line(error)}") from error
    images = columns["image"].combine_chunks().dictionary_encode()
    expect(not images.null_count, f"{source['path']}: column image", "a name in each row", "null")
    names = pa.array([stem(name) for name in images.dictionary.to_pylist()], pa.string())
    common = {name: pa.array([source[name]] * len(table)) for name in ("truth", "file")}
    places = pa.array(range(place, place + len(table)))
    return pa.table({"key": names.take(images.indices), **common, "place": places, **columns})


def _score_part(
    table: Any, *, scorer: Mapping[str, Any], rank_by: str, skip_missing: bool, source: str
) -> dict[str, list[str]]:
    """Return the sums over the images of some keys, as JSON; or the error that makes them unusable."""
    rows = table.sort_by([(name, "ascending") for name in ("key", "file", "place")])
    batches = (batch.to_pylist() for batch in rows.to_batches(1000))
    own = RankingScorer(**scorer)
    problems: list[tuple[str, str]] = []
    images = scored = 0
    ranked = False
    groups = groupby(chain.from_iterable(batches), itemgetter("key"))
    found = (_task(list(objects), rank_by, source, problems) for _, objects in groups)
    tasks = (task for task in found if task is not None)
    try:
        while block := list(islice(tasks, BLOCK)):
            images += len(block)
            ranked = ranked or has_ranks([record for record, _ in block])
            used = [task for task in block if task[1] is not None or not skip_missing]
            for row, own_problems in score_tasks(used, scorer=own, kind="instances", sod=False):
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
    state = {"scorer": own.state(), "images": images, "scored": scored, "ranked": ranked, "problems": counts}
    return {"found": [json.dumps(state)]}


def _task(objects: Sequence[Row], rank_by: str, source: str, problems: list[tuple[str, str]]) -> Any:
    """Return a task of ``score_tasks`` for the rows of one key, or None for an image without truth."""
    true = [row for row in objects if row["truth"]]
    found = [row for row in objects if not row["truth"]]
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
