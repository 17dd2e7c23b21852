"""Ranking millions of images with Ray Data: decoding tasks, an actor for each model, one file a piece."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np

from ..folder_ranking import Summary
from ..predictor import SORPredictor
from ..table_output import TableKind, table_entry, table_file
from .reading import read_piece
from .sources import Piece
from .storage import Folder

__all__ = ["UNREADABLE", "RayOutput", "RaySummary", "rank_on_ray"]

_log = logging.getLogger(__name__)
_RUN = "run.json"
UNREADABLE = "unreadable"
_BLOCK_BYTES = 32 * 2**20  # decoded pixels that go to an actor together


@dataclass(frozen=True)
class RayOutput:
    """The folder of results: a shard for each piece of the input, and tables of images that are unreadable.

    A shard is written once all its images are done, under a name that follows from the input alone. So a run
    that was killed continues with the pieces that have no shard, and no image is in two shards.

    Attributes:
        folder: local or at a URL.
        kind: "parquet" or "coco".
        shards: number of pieces.
    """

    folder: Folder
    kind: TableKind
    shards: int

    def name(self, shard: int) -> str:
        """Return the file name of a shard."""
        return f"predictions-{shard:05d}-of-{self.shards:05d}.{'json' if self.kind == 'coco' else 'parquet'}"

    def begin(self, run: Mapping[str, Any], overwrite: bool) -> list[int]:
        """Return the numbers of the shards that are to be written.

        Args:
            run: what the results depend on; it is kept in ``run.json``.
            overwrite: remove the results that are there.

        Raises:
            ValueError: the folder has results of another run.
        """
        if overwrite:
            for prefix in ("predictions", f"{UNREADABLE}/", _RUN):
                for name in self.folder.names(prefix):
                    self.folder.remove(name)
        if self.folder.names(_RUN):
            former = json.loads(self.folder.read(_RUN))
            for key, value in run.items():
                if former.get(key) != value:
                    where, hint = self.folder.path(_RUN), "--overwrite removes it"
                    found = f"a run with {former.get(key)!r} ({hint})"
                    raise ValueError(f"{where}: {key}: expected {value!r}, found {found}")
        else:
            others = self.folder.names("predictions")
            if others:
                where, hint = self.folder.path(_RUN), "--overwrite removes them"
                raise ValueError(f"{where}: expected beside {others[0]}, found none ({hint})")
            self.folder.write(_RUN, json.dumps(dict(run), indent=1).encode())
        done = set(self.folder.names("predictions-"))
        return [shard for shard in range(self.shards) if self.name(shard) not in done]

    def write(self, shard: int, images: Sequence[Mapping[str, Any]]) -> None:
        """Write a shard.

        Args:
            shard: its number.
            images: ``image`` and either ``entry`` (of ``table_entry``) or ``reason``, in order.
        """
        bad = [{key: row[key] for key in ("image", "reason")} for row in images if row["entry"] is None]
        table = f"{UNREADABLE}/{self.name(shard).rpartition('.')[0]}.parquet"
        if bad:
            self.folder.write(table, _unreadable_file(bad))
        elif self.folder.names(table):  # of a run that was killed before it wrote the shard
            self.folder.remove(table)
        entries = [row["entry"] for row in images if row["entry"] is not None]
        self.folder.write(self.name(shard), table_file(self.kind, entries, shard))


@dataclass
class RaySummary(Summary):
    """Counts of :func:`rank_on_ray`.

    Attributes:
        shards: pieces of the input.
        shards_before: pieces that were done before.
        quarantined: whether the results name unreadable images, of this run or an earlier one.
    """

    shards: int = 0
    shards_before: int = 0
    quarantined: bool = False

    def __str__(self) -> str:
        speed = f", {self.images / self.seconds:.1f} images/s" if self.images else ""
        before = f" ({self.shards_before} done before)" if self.shards_before else ""
        return f"{super().__str__()}{speed}; {self.shards} shards{before}"


def rank_on_ray(
    load: Callable[[], SORPredictor],
    pieces: Sequence[Piece],
    folder: Folder,
    kind: TableKind,
    resources: Mapping[str, float],
    *,
    model: str | None = None,
    settings: Mapping[str, Any] | None = None,
    batch_size: int = 16,
    work_folder: str = "",
    actors: int | None = None,
    gpus_per_actor: float | None = None,
    overwrite: bool = False,
) -> RaySummary:
    """Rank the objects of images on a Ray cluster and write the results in shards.

    Args:
        load: builds the ranker; it is called in each actor.
        pieces: the images, see ``find_pieces``.
        folder: of the results.
        kind: "parquet" or "coco".
        resources: of the cluster, see ``joined_cluster``.
        model: name of the model, written into the results.
        settings: what else the results depend on; a run with other settings does not continue this one.
        batch_size: images that an actor takes together; those of one padded size share a batch of the model.
        work_folder: to which relative local paths refer.
        actors: number of models; default: one for each GPU, else one for two CPUs.
        gpus_per_actor: default: 1 if the cluster has GPUs.
        overwrite: also rank what is done.

    Raises:
        ValueError: more actors than fit, or results of another run in the folder.
        OSError: the results cannot be written.
        ray.exceptions.RayError: an actor or task failed for good.
    """
    import ray.data

    actors, gpus = _fitting_actors(actors, gpus_per_actor, resources)
    rows = [asdict(piece) | {"shard": shard} for shard, piece in enumerate(pieces)]
    digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    run = {"model": model, "format": kind, "inputs": digest, "shards": len(rows), **(settings or {})}
    output = RayOutput(folder, kind, len(rows))
    missing = output.begin(run, overwrite)
    summary = RaySummary(shards=len(rows), shards_before=len(rows) - len(missing))
    start = time.perf_counter()
    if missing:
        todo = ray.data.from_items([rows[shard] for shard in missing], override_num_blocks=len(missing))
        results = todo.flat_map(partial(read_piece, folder=work_folder)).map_batches(
            _RankingActor,
            fn_constructor_args=(load, model),
            batch_size=batch_size,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=actors),
            num_cpus=1,
            num_gpus=gpus,
        )
        results.context.target_max_block_size = _BLOCK_BYTES
        results.context.execution_options.verbose_progress = True  # queues and rows of each step
        gatherer = _Gatherer(output, summary)
        for row in results.iter_rows():
            gatherer.add(row)
        assert not gatherer.waiting
    summary.quarantined = bool(folder.names(f"{UNREADABLE}/"))
    summary.seconds = time.perf_counter() - start
    return summary


def _fitting_actors(
    actors: int | None, gpus: float | None, resources: Mapping[str, float]
) -> tuple[int, float]:
    """Return the number of actors and the GPUs of each; a CPU at least is left for decoding."""
    cpus, all_gpus = int(resources.get("CPU", 0)), resources.get("GPU", 0.0)
    gpus = min(1.0, all_gpus) if gpus is None else gpus
    most = min(cpus - 1, int(all_gpus / gpus) if gpus else cpus)
    if most < 1:
        raise ValueError(f"--ray: expected a cluster with 2 CPUs and {gpus:g} GPUs, found {dict(resources)}")
    if actors is None:
        actors = most if gpus else max(1, cpus // 2)
    if not 1 <= actors <= most:
        raise ValueError(
            f"--actors: expected 1 to {most} on {cpus} CPUs and {all_gpus:g} GPUs, found {actors}"
        )
    return actors, gpus


class _RankingActor:
    """A model that takes the rows of ``read_piece`` and returns those that ``_Gatherer`` takes."""

    def __init__(self, load: Callable[[], SORPredictor], model: str | None) -> None:
        self._predictor, self._model = load(), model

    def __call__(self, table: Any) -> Any:
        import pyarrow as pa

        entries: list[str | None] = [None] * len(table)
        columns = {name: table.column(name).to_pylist() for name in ("height", "width", "image", "reason")}
        good = [i for i, reason in enumerate(columns["reason"]) if reason is None]
        pixels = (np.frombuffer(table.column("pixels")[i].as_buffer(), np.uint8) for i in good)
        sizes = ((columns["height"][i], columns["width"][i], 3) for i in good)
        pictures = [flat.reshape(size) for flat, size in zip(pixels, sizes, strict=True)]
        for i, result in zip(good, self._predictor.stream(pictures), strict=True):
            entries[i] = json.dumps(table_entry(result, columns["image"][i], self._model), allow_nan=False)
        kept = table.select(["shard", "place", "last", "image"])
        texts = {"reason": columns["reason"], "entry": entries}
        for name, values in texts.items():
            kept = kept.append_column(name, pa.array(values, pa.large_string()))
        return kept


@dataclass
class _Gatherer:
    """Collects results, and writes a shard as soon as all its images are there."""

    output: RayOutput
    summary: RaySummary
    waiting: dict[int, dict[int, dict[str, Any]]] = field(default_factory=dict)
    _counts: dict[int, int] = field(default_factory=dict)

    def add(self, row: dict[str, Any]) -> None:
        """Take a row of an actor."""
        shard = row["shard"]
        rows = self.waiting.setdefault(shard, {})
        rows[row["place"]] = row
        if row["last"]:
            self._counts[shard] = row["place"] + 1
        if len(rows) == self._counts.get(shard):
            images = [rows[place] for place in sorted(rows)]
            for image in images:
                image["entry"] = image["entry"] and json.loads(image["entry"])
            self.output.write(shard, images)
            del self.waiting[shard], self._counts[shard]
            for image in images:
                self._count(image)

    def _count(self, row: Mapping[str, Any]) -> None:
        if row["entry"] is None:
            _log.error("%s: %s", row["image"], row["reason"])
            self.summary.unreadable.append((row["image"], row["reason"]))
            return
        objects = row["entry"]["objects"]
        self.summary.images += 1
        self.summary.objects += len(objects)
        self.summary.ranked += sum(item["rank"] is not None for item in objects)


def _unreadable_file(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return Parquet with the columns ``image`` and ``reason``."""
    import pyarrow as pa
    from pyarrow import parquet

    content = io.BytesIO()
    schema = pa.schema([("image", pa.string()), ("reason", pa.string())])
    parquet.write_table(pa.Table.from_pylist(list(rows), schema=schema), content)
    return content.getvalue()
