"""Ranked video: frames in, frames with steady ranks out, and who was most salient when."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .atomic import atomic_write
from .predictor import RankedImage, SORPredictor
from .tracking import TrackedObject, Tracker
from .visualization.video_files import VideoError, VideoReader, VideoWriter, read_frames

__all__ = [
    "RankedFrame",
    "VideoError",
    "cut_out_video",
    "key_frames",
    "rank_frames",
    "rank_video",
    "read_frames",
]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RankedFrame:
    """One frame.

    Attributes:
        index: from 0.
        seconds: since the start.
        picture: (H, W, 3) uint8 RGB.
        result: objects, with the steady ranks.
        objects: identity and rank of each object of ``result``.
    """

    index: int
    seconds: float
    picture: NDArray[np.uint8]
    result: RankedImage
    objects: tuple[TrackedObject, ...]

    def to_json(self, masks: str = "rle") -> dict[str, Any]:
        """Return plain data for ``json.dump``; every object has a ``track`` number."""
        content = self.result.to_json(masks)  # type: ignore[arg-type]
        for entry, tracked in zip(content["objects"], self.objects, strict=True):
            entry["track"] = tracked.track
        return {"frame": self.index, "seconds": round(self.seconds, 4), **content}


def rank_frames(
    frames: Iterable[tuple[float, NDArray[np.uint8]]], predictor: SORPredictor, tracker: Tracker | None = None
) -> Iterator[RankedFrame]:
    """Rank the objects of frames with steady identities and ranks.

    Args:
        frames: seconds and pictures (H, W, 3) uint8 RGB, in order.
        predictor: ranks ``predictor.batch_size`` frames at once.
        tracker: keeps the identities; a new one by default.

    Yields:
        One result a frame. Memory does not grow with their number.
    """
    tracker = tracker or Tracker()
    source, index = iter(frames), 0
    while batch := list(islice(source, predictor.batch_size)):
        pictures = [np.ascontiguousarray(picture[:, :, ::-1]) for _, picture in batch]
        for (seconds, picture), result in zip(batch, predictor(pictures), strict=True):
            tracked = tracker.update(result, picture)
            objects = [replace(o, rank=t.rank) for o, t in zip(result.objects, tracked, strict=True)]
            yield RankedFrame(
                index, seconds, picture, replace(result, objects=tuple(objects)), tuple(tracked)
            )
            index += 1


def rank_video(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    predictor: SORPredictor,
    *,
    plot: bool = True,
    progress: Callable[[int, int | None], None] | None = None,
) -> int:
    """Write a video with masks and rank badges, a JSON line a frame, and a plot of attention over time.

    Size, time stamps, bit rate and container are those of the source, and its sound is copied. Beside
    ``output`` stand ``<output>.jsonl`` and ``<output>.attention.png``. ``KeyboardInterrupt`` ends the source;
    the files are complete up to there.

    Args:
        source: a video that :func:`read_frames` reads.
        output: file; its suffix chooses the container.
        predictor: the ranker.
        plot: write the plot.
        progress: called with the frames done and their number, None where the source does not say it.

    Returns:
        The number of frames.

    Raises:
        VideoError: the source cannot be read or the output cannot be written.
    """
    target, history = Path(output), []
    count = 0
    with ExitStack() as stack:
        draft = stack.enter_context(atomic_write(target))
        lines = stack.enter_context(atomic_write(target.with_suffix(".jsonl")))
        log = stack.enter_context(lines.open("w", encoding="utf-8"))
        reader = stack.enter_context(VideoReader(source))
        writer = stack.enter_context(VideoWriter(reader, draft, target.suffix.lower()))
        predictor.prepare(reader.video.frames)
        try:
            for frame in rank_frames(reader.frames(writer.copy_sound), predictor):
                writer.write(frame.result.draw(frame.picture[:, :, ::-1]), frame.seconds)
                log.write(json.dumps(frame.to_json()) + "\n")
                ranks = [(t.track, t.rank) for t in frame.objects if t.rank is not None]
                history.append((frame.seconds, ranks))
                count += 1
                if progress:
                    progress(count, reader.video.frames or None)
        except KeyboardInterrupt:
            _log.warning("%s: interrupted after %d frames", source, count)
        if not count:
            raise VideoError(f"{source}: expected frames, found none")
    if plot:
        _plot(history, target.with_suffix(".attention.png"))
    return count


def cut_out_video(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    saliency: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
) -> int:
    """Write a video whose background is transparent, for the containers that can hold that.

    Args:
        source: a video that :func:`read_frames` reads.
        output: file; .webm (VP9), .mov (QuickTime Animation) or .mkv (FFV1).
        saliency: from a picture (H, W, 3) uint8 BGR to a map (H, W) in [0, 1], such as ``SaliencyPredictor``.

    Returns:
        The number of frames.

    Raises:
        VideoError: the source cannot be read, or the container holds no transparency.
    """
    target, count = Path(output), 0
    with (
        atomic_write(target) as draft,
        VideoReader(source) as reader,
        VideoWriter(reader, draft, target.suffix.lower(), transparent=True) as writer,
    ):
        for seconds, picture in reader.frames():
            alpha = np.rint(saliency(np.ascontiguousarray(picture[:, :, ::-1])) * 255).astype(np.uint8)
            writer.write(np.dstack([picture, alpha]), seconds)
            count += 1
    return count


def key_frames(frames: Iterable[RankedFrame], *, top: int = 1, hold: int = 5) -> Iterator[RankedFrame]:
    """Yield the frames at which the most salient objects change: a summary of the video.

    This is the second application that the PPA paper names (ICCV 2021, section 1).

    Args:
        frames: ranked frames.
        top: how many of the most salient objects count.
        hold: frames for which a change must last.
    """
    current: tuple[int, ...] | None = None
    candidate: tuple[tuple[int, ...], RankedFrame, int] | None = None
    for frame in frames:
        by_rank = sorted((t.rank, t.track) for t in frame.objects if t.rank is not None)
        leaders = tuple(sorted(track for _, track in by_rank[:top]))
        if leaders == current:
            candidate = None
            continue
        if candidate is None or candidate[0] != leaders:
            candidate = (leaders, frame, 1)
        else:
            candidate = (leaders, candidate[1], candidate[2] + 1)
        if candidate[2] >= hold or current is None:
            current = leaders
            yield candidate[1]
            candidate = None


def _plot(history: list[tuple[float, list[tuple[int, int]]]], path: Path) -> None:
    """Draw the rank of each object over time; objects that never lead stay gray."""
    from matplotlib.figure import Figure

    tracks: dict[int, list[tuple[float, int]]] = {}
    for seconds, ranks in history:
        for track, rank in ranks:
            tracks.setdefault(track, []).append((seconds, rank))
    figure = Figure(figsize=(10, 3.5), layout="constrained")
    axes = figure.add_subplot()
    leaders = [track for track, points in tracks.items() if any(rank == 1 for _, rank in points)]
    for track, points in tracks.items():
        times, places = zip(*points, strict=True)
        style: dict[str, Any] = (
            {"label": f"object {track}"} if track in leaders[:10] else {"color": "0.8", "zorder": 1}
        )
        axes.plot(times, places, ".", markersize=4, **style)
    axes.invert_yaxis()
    axes.locator_params("y", integer=True)
    axes.set(xlabel="seconds", ylabel="rank (1 = most salient)")
    if leaders:
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    with atomic_write(path) as draft:
        figure.savefig(draft, format="png", dpi=110)
