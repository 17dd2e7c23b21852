"""Ranked video: frames in, frames with steady ranks out, and who was most salient when."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .atomic import atomic_write
from .predictor import RankedImage, SORPredictor
from .tracking import TrackedObject, Tracker

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
# by suffix: encoders in order of preference, the first that this PyAV has is used
_ENCODERS = {".webm": ("libvpx-vp9", "libvpx"), ".avi": ("mpeg4",), ".gif": ("gif",)}
_DEFAULT_ENCODERS = ("libx264", "libopenh264", "mpeg4")
# MPEG-4 part 2 takes no finer time base
_FINEST_TIME_BASE = Fraction(1, 60_000)
# devices and generators of FFmpeg, named as FORMAT:ADDRESS
_DEVICES = ("v4l2", "dshow", "avfoundation", "lavfi")
_UNCOMPRESSED = ("rawvideo", "wrapped_avframe", "mjpeg")
_TRANSPARENT = {".webm": ("libvpx-vp9", "yuva420p"), ".mov": ("qtrle", "argb"), ".mkv": ("ffv1", "bgra")}


class VideoError(ValueError):
    """A video that cannot be read or written; one line for the user."""


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


def read_frames(source: str | os.PathLike[str]) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Yield the frames of a video file, a device or a stream address.

    Args:
        source: a file, an address that FFmpeg reads, ``/dev/video0``, or a device of FFmpeg as
            FORMAT:ADDRESS, for example ``dshow:video=NAME`` (Windows) or ``avfoundation:0`` (macOS).

    Yields:
        Seconds since the start, and the frame as (H, W, 3) uint8 RGB.

    Raises:
        VideoError: it cannot be opened or holds no video. A damaged end is logged and ends the frames.
    """
    with _Reader(source) as reader:
        yield from reader.frames()


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
        reader = stack.enter_context(_Reader(source))
        writer = stack.enter_context(_Writer(reader, draft, target.suffix.lower()))
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
        _Reader(source) as reader,
        _Writer(reader, draft, target.suffix.lower(), transparent=True) as writer,
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


class _Reader:
    """An open video: its frames, and the packets of sound between them."""

    def __init__(self, source: str | os.PathLike[str]) -> None:
        self._av = _av()
        self._name = name = os.fspath(source)
        kind, _, address = name.partition(":")
        if name.startswith("/dev/video"):
            kind, address = "v4l2", name
        try:
            self._container = self._av.open(address, format=kind) if kind in _DEVICES else self._av.open(name)
        except (self._av.FFmpegError, ValueError, OSError) as error:
            found = getattr(error, "strerror", None) or error
            raise VideoError(f"{name}: expected a video, found {found}") from error
        if not self._container.streams.video:
            self._container.close()
            raise VideoError(f"{name}: expected a video, found no video stream")
        self.video = self._container.streams.video[0]
        self.video.thread_type = "AUTO"
        self.sounds = self._container.streams.audio
        self.rate = self.video.average_rate or Fraction(25)
        # a camera counts from when the machine was started
        self._start = Fraction(self._container.start_time or 0, 1_000_000)

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *error: object) -> None:
        self._container.close()

    def frames(
        self, take_sound: Callable[[Any], None] | None = None
    ) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        """Yield seconds since the start and pictures (H, W, 3) uint8 RGB; a damaged end is logged.

        Args:
            take_sound: is called with the packets of sound as they come, their times since the start as well.
        """
        streams = [self.video, *(self.sounds if take_sound else ())]
        index = 0
        try:
            for packet in self._container.demux(*streams):
                if take_sound and packet.stream is not self.video:
                    if packet.dts is not None and packet.pts is not None:
                        start = round(self._start / packet.time_base)
                        packet.dts, packet.pts = packet.dts - start, packet.pts - start
                        take_sound(packet)
                    continue
                for frame in packet.decode():
                    seconds = (
                        index / self.rate if frame.pts is None else frame.pts * frame.time_base - self._start
                    )
                    yield float(seconds), frame.to_ndarray(format="rgb24")
                    index += 1
        except self._av.FFmpegError as error:
            _log.warning("%s: the video ends early: %s", self._name, error)


class _Writer:
    """Encode frames in the manner of a source, with its sound."""

    def __init__(self, source: _Reader, path: Path, suffix: str, transparent: bool = False) -> None:
        self._av, self._source = _av(), source
        kind = {".mkv": "matroska", ".m4v": "mp4"}.get(suffix, suffix.lstrip(".") or "mp4")
        try:
            self._out = self._av.open(str(path), "w", format=kind)
            self._encoder = self._add_video(suffix, transparent)
        except VideoError:
            raise
        except (self._av.FFmpegError, ValueError) as error:
            raise VideoError(
                f"{suffix}: expected a video container, found one that cannot be written"
            ) from error
        self._sounds = {} if transparent else self._add_sound()
        self._last = -1  # time stamp

    def __enter__(self) -> _Writer:
        return self

    def write(self, picture: NDArray[np.uint8], seconds: float) -> None:
        """Encode the next frame, (H, W, 3 or 4) uint8 RGB(A), shown from ``seconds`` on."""
        cut = np.ascontiguousarray(picture[: self._encoder.height, : self._encoder.width])
        frame = self._av.VideoFrame.from_ndarray(cut, format="rgba" if picture.shape[2] == 4 else "rgb24")
        frame.time_base = self._encoder.codec_context.time_base
        self._last = max(self._last + 1, round(seconds / frame.time_base))
        frame.pts = self._last
        self._out.mux(self._encoder.encode(frame))

    def copy_sound(self, packet: Any) -> None:
        """Write a packet of the source's sound, if the container takes it."""
        if packet.stream.index in self._sounds:
            packet.stream = self._sounds[packet.stream.index]
            self._out.mux(packet)

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        try:
            if kind is None:
                self._out.mux(self._encoder.encode(None))
        finally:
            self._out.close()

    def _add_video(self, suffix: str, transparent: bool) -> Any:
        video, rate = self._source.video, self._source.rate
        if transparent:
            if suffix not in _TRANSPARENT:
                raise VideoError(f"{suffix}: expected {', '.join(_TRANSPARENT)} for transparent video")
            name, layout = _TRANSPARENT[suffix]
        else:
            name = self._encoder_name(suffix)
            layout = "rgb8" if name == "gif" else "yuv420p"
        stream = self._out.add_stream(name, rate=rate)
        stream.pix_fmt = layout
        step = 2 if layout in ("yuv420p", "yuva420p") else 1  # color has half the resolution
        stream.width, stream.height = video.width // step * step, video.height // step * step
        constant = suffix == ".avi"
        stream.codec_context.time_base = 1 / rate if constant else max(video.time_base, _FINEST_TIME_BASE)
        lossy = name not in ("gif", "qtrle", "ffv1") and video.codec_context.name not in _UNCOMPRESSED
        if lossy and video.bit_rate:
            stream.bit_rate = video.bit_rate
        return stream

    def _encoder_name(self, suffix: str) -> str:
        source = {"h264": "libx264", "hevc": "libx265", "vp9": "libvpx-vp9", "mpeg4": "mpeg4"}
        wanted = _ENCODERS.get(
            suffix, (source.get(self._source.video.codec_context.name, ""), *_DEFAULT_ENCODERS)
        )
        for name in wanted:
            if name in self._av.codecs_available:
                return name
        raise VideoError(
            f"{suffix}: expected one of the encoders {', '.join(filter(None, wanted))}, found none"
        )

    def _add_sound(self) -> dict[int, Any]:
        """Output streams by the index of the sound stream that they copy."""
        if not self._out.supported_codecs:
            return {}
        result = {}
        for stream in self._source.sounds:
            if stream.codec_context.name in self._out.supported_codecs:
                result[stream.index] = self._out.add_stream_from_template(stream)
            else:
                _log.warning(
                    "sound in %s does not fit the container and is left out", stream.codec_context.name
                )
        return result


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


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise VideoError("video: expected the package av, found none; run: pip install av") from error
    return av
