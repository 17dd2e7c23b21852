"""Rank the objects of many pictures and write the results into a folder."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..atomic import atomic_write
from .files import ImageReadError, check_not_inputs, read_image, result_names, write_image
from .ranked import RankStyle

__all__ = ["Output", "Ranked", "Summary", "annotate"]

logger = logging.getLogger(__name__)

# Largest side of a JPEG picture in pixels.
_JPEG_SIDE = 65500

Item = tuple[Path, str]


class Ranked(Protocol):
    """The required interface of a ranked picture."""

    @property
    def objects(self) -> Sequence[Any]: ...

    def draw(
        self, image_bgr: NDArray[np.uint8], *, scores: bool = ..., style: RankStyle | None = ...
    ) -> NDArray[np.uint8]: ...

    def saliency_map(self) -> NDArray[np.uint8]: ...

    def to_json(self, masks: Literal["rle", "polygons"] = ...) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Output:
    """Which results to write, and where.

    Attributes:
        folder: created if it does not exist.
        extension: of the drawn pictures, "jpg" or "png".
        masks: format of the masks in the JSON files.
        scores: draw confidences below the badges.
        style: how to draw.
    """

    folder: Path
    extension: Literal["jpg", "png"] = "jpg"
    masks: Literal["rle", "polygons"] = "rle"
    scores: bool = False
    style: RankStyle | None = None

    def paths(self, name: str) -> tuple[Path, Path, Path]:
        """Return the paths of the drawn picture, the saliency map and the JSON file of a picture."""
        ends = (f"_ranked.{self.extension}", "_saliency.png", ".json")
        drawn, gray, record = (self.folder / f"{name}{end}" for end in ends)
        return drawn, gray, record


@dataclass
class Summary:
    """Counts of :func:`annotate`.

    Attributes:
        images: pictures ranked and written.
        objects: objects found in them.
        ranked: objects with a rank.
        unreadable: files that could not be read.
        seconds: total time.
    """

    images: int = 0
    objects: int = 0
    ranked: int = 0
    unreadable: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        each = f", {self.seconds / self.images:.2f} s per image" if self.images else ""
        bad = f", {self.unreadable} unreadable" if self.unreadable else ""
        return f"{self.images} images, {self.objects} objects ({self.ranked} ranked){each}{bad}"


def annotate(
    ranker: Callable[[Sequence[NDArray[np.uint8]]], Sequence[Ranked]],
    files: Sequence[Path],
    output: Output,
    *,
    batch_size: int = 4,
    progress: bool = True,
) -> Summary:
    """Rank the objects of picture files, and write a drawing, a saliency map and a JSON file for each.

    A file that cannot be read is logged in one line and skipped. While the ranker works on one batch, the
    next one is read and the previous one is written.

    Args:
        ranker: from BGR pictures to their ranked objects, such as ``SORPredictor``.
        files: pictures, see ``expand_inputs``.
        output: what to write, and where.
        batch_size: pictures per call of the ranker.
        progress: show a progress bar.

    Raises:
        ValueError: a result would overwrite one of the pictures.
        OSError: the results cannot be written.
    """
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    items = list(zip(files, result_names(files), strict=True))
    check_not_inputs((path for _, name in items for path in output.paths(name)), files)
    output.folder.mkdir(parents=True, exist_ok=True)
    summary, start = Summary(), time.perf_counter()
    writing: list[Future[None]] = []
    with (
        ThreadPoolExecutor(2) as pool,
        tqdm(total=len(files), unit="image", disable=not progress) as bar,
        logging_redirect_tqdm(),
    ):
        chunks = [items[i : i + batch_size] for i in range(0, len(items), batch_size)]
        following = pool.submit(_read, chunks[0]) if chunks else None
        for i, chunk in enumerate(chunks):
            assert following is not None
            loaded = following.result()
            following = pool.submit(_read, chunks[i + 1]) if i + 1 < len(chunks) else None
            results = ranker([picture for _, picture in loaded]) if loaded else []
            for future in writing:  # at most one batch of results waits for the disk
                future.result()
            writing = [
                pool.submit(_write, output, item, picture, result)
                for (item, picture), result in zip(loaded, results, strict=True)
            ]
            summary.images += len(loaded)
            summary.unreadable += len(chunk) - len(loaded)
            summary.objects += sum(len(r.objects) for r in results)
            summary.ranked += sum(o.rank is not None for r in results for o in r.objects)
            bar.update(len(chunk))
        for future in writing:
            future.result()
    summary.seconds = time.perf_counter() - start
    return summary


def _read(items: Sequence[Item]) -> list[tuple[Item, NDArray[np.uint8]]]:
    loaded = []
    for item in items:
        try:
            loaded.append((item, read_image(item[0])))
        except ImageReadError as error:
            logger.error("%s", error)
    return loaded


def _write(output: Output, item: Item, picture: NDArray[np.uint8], result: Ranked) -> None:
    file, name = item
    drawn, gray, record = output.paths(name)
    if max(picture.shape[:2]) > _JPEG_SIDE:
        drawn = drawn.with_suffix(".png")
    write_image(drawn, result.draw(picture, scores=output.scores, style=output.style))
    write_image(gray, result.saliency_map())
    content = {**result.to_json(output.masks), "file": str(file)}
    with atomic_write(record) as part:
        part.write_text(json.dumps(content, allow_nan=False) + "\n", encoding="utf-8")
