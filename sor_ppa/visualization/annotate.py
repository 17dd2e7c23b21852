"""Many pictures through a ranker, their results into a folder."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from .files import ImageReadError, read_image, result_names
from .ranked import RankStyle

__all__ = ["Output", "Ranked", "Summary", "annotate"]

logger = logging.getLogger(__name__)

# Options of the encoders: colours at full resolution, so that thin coloured lines stay crisp.
_JPEG: Final = [
    cv2.IMWRITE_JPEG_QUALITY,
    93,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
]
# JPEG's limit on a side, in pixels.
_JPEG_SIDE: Final = 65500


class Ranked(Protocol):
    """What is needed of a ranked picture."""

    @property
    def objects(self) -> Sequence[Any]: ...

    def draw(
        self, image_bgr: NDArray[np.uint8], *, scores: bool = ..., style: RankStyle | None = ...
    ) -> NDArray[np.uint8]: ...

    def saliency_map(self) -> NDArray[np.uint8]: ...

    def to_json(self, masks: Literal["rle", "polygons"] = ...) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Output:
    """Where results go, and what they look like.

    Attributes:
        folder: created where it does not exist.
        extension: of the drawn pictures, "jpg" or "png".
        masks: how the JSON files hold masks.
        scores: write confidences below the badges.
        style: how to draw.
    """

    folder: Path
    extension: Literal["jpg", "png"] = "jpg"
    masks: Literal["rle", "polygons"] = "rle"
    scores: bool = False
    style: RankStyle | None = None

    def paths(self, name: str) -> tuple[Path, Path, Path]:
        """The drawn picture, the saliency map and the JSON file of a picture."""
        ends = (f"_ranked.{self.extension}", "_saliency.png", ".json")
        drawn, grey, record = (self.folder / f"{name}{end}" for end in ends)
        return drawn, grey, record


@dataclass(frozen=True)
class Summary:
    """What became of the pictures.

    Attributes:
        images: pictures ranked and written.
        objects: objects found in them.
        ranked: objects of these that have a rank.
        unreadable: files that could not be read.
        seconds: from the first file read to the last result written.
    """

    images: int
    objects: int
    ranked: int
    unreadable: int
    seconds: float

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
    """Rank the objects of picture files, and write a drawing, a saliency map and a JSON file each.

    A file that cannot be read is logged in one line, and the rest goes on. While one batch is in
    the ranker, the next is being read and the one before written.

    Args:
        ranker: from BGR pictures to their ranked objects, such as ``SORPredictor``.
        files: pictures; ``expand_inputs`` makes this list.
        output: where to.
        batch_size: pictures handed to the ranker at once.
        progress: show a progress bar.

    Raises:
        ValueError: a result would overwrite one of the pictures.
        OSError: the results cannot be written.
    """
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    names = result_names(files)
    _refuse_overwriting(files, names, output)
    output.folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    images = objects = ranked = unreadable = 0
    with (
        ThreadPoolExecutor(2) as pool,
        tqdm(total=len(files), unit="image", disable=not progress) as bar,
        logging_redirect_tqdm(),
    ):
        writing: list[Future[None]] = []
        for chunk in _read_ahead(pool, list(zip(files, names, strict=True)), batch_size):
            good = [(file, name, picture) for file, name, picture in chunk if picture is not None]
            unreadable += len(chunk) - len(good)
            results = ranker([picture for _, _, picture in good]) if good else []
            # At most one batch of results waits for the disk.
            _wait(writing)
            writing = [
                pool.submit(_write, output, file, name, picture, result)
                for (file, name, picture), result in zip(good, results, strict=True)
            ]
            images += len(results)
            objects += sum(len(r.objects) for r in results)
            ranked += sum(o.rank is not None for r in results for o in r.objects)
            bar.update(len(chunk))
        _wait(writing)
    return Summary(images, objects, ranked, unreadable, time.perf_counter() - start)


Loaded = tuple[Path, str, NDArray[np.uint8] | None]


def _read_ahead(
    pool: ThreadPoolExecutor, items: Sequence[tuple[Path, str]], size: int
) -> Iterator[list[Loaded]]:
    """Chunks of pictures; the next one is read while the caller works on this one."""
    chunks = [items[i : i + size] for i in range(0, len(items), size)]
    coming = pool.submit(_read, chunks[0]) if chunks else None
    for following in [*chunks[1:], None]:
        if coming is None:
            return
        chunk = coming.result()
        coming = pool.submit(_read, following) if following is not None else None
        yield chunk


def _read(items: Sequence[tuple[Path, str]]) -> list[Loaded]:
    loaded: list[Loaded] = []
    for file, name in items:
        try:
            loaded.append((file, name, read_image(file)))
        except ImageReadError as error:
            logger.error("%s", error)
            loaded.append((file, name, None))
    return loaded


def _wait(futures: Sequence[Future[None]]) -> None:
    for future in futures:
        future.result()


def _write(output: Output, file: Path, name: str, picture: NDArray[np.uint8], result: Ranked) -> None:
    drawn, grey, record = output.paths(name)
    image = result.draw(picture, scores=output.scores, style=output.style)
    if drawn.suffix == ".jpg" and max(image.shape[:2]) > _JPEG_SIDE:
        drawn = drawn.with_suffix(".png")
    _encode(drawn, image[:, :, ::-1])
    _encode(grey, result.saliency_map())
    content = {**result.to_json(output.masks), "file": str(file)}
    record.write_text(json.dumps(content, allow_nan=False) + "\n", encoding="utf-8")


def _encode(path: Path, image: NDArray[np.uint8]) -> None:
    done, data = cv2.imencode(path.suffix, image, _JPEG if path.suffix == ".jpg" else [])
    if not done:
        raise OSError(f"{path}: a picture of shape {image.shape} cannot be encoded")
    path.write_bytes(data.tobytes())


def _refuse_overwriting(files: Sequence[Path], names: Sequence[str], output: Output) -> None:
    inputs = {os.path.realpath(f) for f in files}
    for name in names:
        for path in output.paths(name):
            if os.path.realpath(path) in inputs:
                raise ValueError(
                    f"{path}: would be overwritten, but is one of the inputs; choose another folder"
                )
