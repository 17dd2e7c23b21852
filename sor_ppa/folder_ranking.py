"""Ranking many photos: skip what is done, keep what is finished, report what cannot be read."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from .atomic import write_json
from .predictor import SORPredictor
from .results import RankedImage
from .visualization import RankStyle
from .visualization.files import ImageReadError, check_not_inputs, read_image, result_names, write_image
from .visualization.heatmap import salience_sheet

__all__ = [
    "FileOutput",
    "Output",
    "Summary",
    "rank_files",
    "watch_folder",
    "write_salience_sheets",
]

_log = logging.getLogger(__name__)
_JPEG_SIDE = 65500  # largest side of a JPEG picture in pixels
REPORT = "unreadable.json"


class Output(Protocol):
    """Where results go; see :class:`FileOutput` and :class:`sor_ppa.table_output.TableOutput`."""

    @property
    def folder(self) -> Path:
        """Folder of the results."""

    def paths(self, name: str) -> Sequence[Path]:
        """Return the files that a picture's results take."""

    def done(self, file: Path, name: str) -> bool:
        """Return whether the results of a picture are complete."""

    def write(self, file: Path, name: str, result: RankedImage) -> None:
        """Write the results of one picture."""

    def finish(self) -> None:
        """Write what covers all pictures."""


@dataclass(frozen=True)
class FileOutput:
    """A drawing, a saliency map and a JSON file for each picture.

    Attributes:
        folder: created if it does not exist.
        model: name of the model, written into the JSON; results of another one count as not done.
        extension: of the drawings, "jpg" or "png".
        masks: format of the masks in the JSON files.
        scores: draw confidences below the badges.
        style: how to draw.
        settings: what else the files depend on, written into the JSON, too.
    """

    folder: Path
    model: str | None = None
    extension: Literal["jpg", "png", "webp"] = "jpg"
    masks: Literal["rle", "polygons"] = "rle"
    scores: bool = False
    style: RankStyle | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def paths(self, name: str) -> tuple[Path, Path, Path]:
        """Return the paths of the drawing, the saliency map and the JSON file of a picture."""
        ends = (f"_ranked.{self.extension}", "_saliency.png", ".json")
        drawn, gray, record = (self.folder / f"{name}{end}" for end in ends)
        return drawn, gray, record

    def done(self, file: Path, name: str) -> bool:
        """Return whether the JSON file, which is written last, is of this picture, model and settings."""
        record, own = self.paths(name)[2], self._origin(file)
        try:
            content = json.loads(record.read_text("utf-8"))
            fresh = record.stat().st_mtime_ns >= file.stat().st_mtime_ns
            return fresh and {key: content[key] for key in own} == own
        except (OSError, ValueError, LookupError, TypeError):
            return False

    def write(self, file: Path, name: str, result: RankedImage) -> None:
        """Write the three files."""
        drawn, gray, record = self.paths(name)
        if max(result.height, result.width) > _JPEG_SIDE:
            drawn = drawn.with_suffix(".png")
        write_image(drawn, result.draw(scores=self.scores, style=self.style))
        write_image(gray, result.saliency_map())
        write_json(record, {**result.to_json(self.masks), **self._origin(file)})

    def _origin(self, file: Path) -> dict[str, Any]:
        return {"file": str(file), "model": self.model, "settings": self.settings}

    def finish(self) -> None:
        """Do nothing: every picture has files of its own."""


@dataclass
class Summary:
    """Counts of :func:`rank_files`.

    Attributes:
        images: pictures ranked and written.
        objects: objects found in them.
        ranked: objects with a rank.
        skipped: pictures that were done before.
        unreadable: file and reason of each picture that could not be read.
        seconds: total time.
    """

    images: int = 0
    objects: int = 0
    ranked: int = 0
    skipped: int = 0
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        each = f", {self.seconds / self.images:.2f} s per image" if self.images else ""
        before = f", {self.skipped} done before" if self.skipped else ""
        bad = f", {len(self.unreadable)} unreadable" if self.unreadable else ""
        return f"{self.images} images, {self.objects} objects ({self.ranked} ranked){each}{before}{bad}"


def rank_files(
    predictor: SORPredictor,
    files: Sequence[Path],
    output: Output,
    *,
    names: Sequence[str] | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Summary:
    """Rank the objects of picture files and write the results.

    While the predictor works on one batch, the next one is read and the previous one is written. A picture
    that cannot be read is listed in ``unreadable.json``; the others are not affected.

    Args:
        predictor: the ranker.
        files: pictures, see ``expand_inputs``.
        output: what to write, and where.
        names: of the results; by default after the files.
        overwrite: also rank pictures that are done.
        progress: show a progress bar.

    Raises:
        ValueError: a result would overwrite one of the pictures.
        OSError: the results cannot be written.
    """
    items = list(zip(files, names or result_names(files), strict=True))
    check_not_inputs((path for _, name in items for path in output.paths(name)), files)
    output.folder.mkdir(parents=True, exist_ok=True)
    todo = [item for item in items if overwrite or not output.done(*item)]
    summary, start = Summary(skipped=len(items) - len(todo)), time.perf_counter()
    predictor.prepare(len(todo))
    with tqdm(total=len(todo), unit="image", disable=not (progress and todo)) as bar, logging_redirect_tqdm():
        for (file, _), result in _rank_batches(predictor, todo, output):
            if isinstance(result, ImageReadError):
                _log.error("%s", result)
                summary.unreadable.append((str(file), str(result).removeprefix(f"{file}: ")))
            else:
                summary.images += 1
                summary.objects += len(result.objects)
                summary.ranked += int((result.ranks > 0).sum())
            bar.update()
    output.finish()
    _report(output.folder, summary)
    summary.seconds = time.perf_counter() - start
    return summary


def write_salience_sheets(predictor: SORPredictor, files: Sequence[Path], output: FileOutput) -> None:
    """Write ``<name>_salience_maps.<extension>`` beside each drawing of :func:`rank_files`.

    Args:
        predictor: of a model that has foreground maps.
        files: the pictures that were ranked.
        output: as given to :func:`rank_files`.

    Raises:
        ValueError: the model has no such maps.
        OSError: a sheet cannot be written.
    """
    for file, name in zip(files, result_names(files), strict=True):
        drawn_file = output.paths(name)[0]
        try:
            picture, drawn = read_image(file), read_image(drawn_file)
        except ImageReadError:
            continue  # reported before
        maps = predictor.salience_maps(picture)
        sheet = salience_sheet(drawn[..., ::-1], np.ascontiguousarray(picture[..., ::-1]), maps)
        write_image(drawn_file.with_name(f"{name}_salience_maps.{output.extension}"), sheet)


def watch_folder(
    predictor: SORPredictor,
    folder: Path,
    output: Output,
    *,
    suffixes: Sequence[str],
    interval: float = 1.0,
    rounds: int | None = None,
) -> None:
    """Rank pictures as they arrive in a folder, until interrupted.

    A picture is read when its size did not change for one interval, so that half-copied files wait.

    Args:
        predictor: the ranker.
        folder: to watch, without its subfolders.
        output: what to write, and where.
        suffixes: of pictures.
        interval: seconds between two looks.
        rounds: number of looks; None for no end.
    """
    sizes: dict[Path, int] = {}
    finished: set[Path] = set()
    while rounds is None or rounds > 0:
        entries = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in suffixes and p.is_file()]
        now = {path: path.stat().st_size for path in entries if path not in finished}
        ready = [path for path, size in now.items() if sizes.get(path) == size > 0]
        sizes = now
        if ready:
            # the whole name, so that later files of the same stem cannot change it
            names = [path.name.replace(".", "_") for path in ready]
            summary = rank_files(predictor, ready, output, names=names, progress=False)
            finished.update(ready)
            _log.warning("%s", summary)
        if rounds is not None:
            rounds -= 1
        if rounds != 0:
            time.sleep(interval)


def _rank_batches(
    predictor: SORPredictor, items: Sequence[tuple[Path, str]], output: Output
) -> Iterator[tuple[tuple[Path, str], RankedImage | ImageReadError]]:
    """Yield each item with its result once that is written, or with the error of reading it."""
    size = predictor.batch_size
    chunks = [items[i : i + size] for i in range(0, len(items), size)]
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(_read_batch, chunks[0]) if chunks else None
        writing: list[tuple[Any, RankedImage, Future[None]]] = []
        for number in range(len(chunks)):
            assert waiting is not None
            loaded = waiting.result()
            waiting = pool.submit(_read_batch, chunks[number + 1]) if number + 1 < len(chunks) else None
            good = [(item, picture) for item, picture in loaded if not isinstance(picture, ImageReadError)]
            results = predictor([picture for _, picture in good])
            yield from _finished(writing)  # at most one batch waits for the disk
            writing = [
                (item, result, pool.submit(output.write, *item, result))
                for (item, _), result in zip(good, results, strict=True)
            ]
            yield from ((item, p) for item, p in loaded if isinstance(p, ImageReadError))
        yield from _finished(writing)


def _finished(
    writing: Iterable[tuple[tuple[Path, str], RankedImage, Future[None]]],
) -> Iterator[tuple[tuple[Path, str], RankedImage]]:
    for item, result, future in writing:
        future.result()
        yield item, result


def _read_batch(
    items: Sequence[tuple[Path, str]],
) -> list[tuple[tuple[Path, str], NDArray[np.uint8] | ImageReadError]]:
    loaded: list[tuple[tuple[Path, str], NDArray[np.uint8] | ImageReadError]] = []
    for item in items:
        try:
            loaded.append((item, read_image(item[0])))
        except ImageReadError as error:
            loaded.append((item, error))
    return loaded


def _report(folder: Path, summary: Summary) -> None:
    """Write the files that cannot be read, or remove the report of an earlier run."""
    path = folder / REPORT
    if summary.unreadable:
        rows = [{"file": file, "reason": reason} for file, reason in summary.unreadable]
        write_json(path, rows, indent=1)
    else:
        path.unlink(missing_ok=True)
