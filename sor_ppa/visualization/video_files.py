"""Video files: frames in, frames and sound out, with PyAV."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["VideoError", "VideoReader", "VideoWriter", "read_frames"]

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
    with VideoReader(source) as reader:
        yield from reader.frames()


class VideoReader:
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

    def __enter__(self) -> VideoReader:
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


class VideoWriter:
    """Encode frames in the manner of a source, with its sound."""

    def __init__(self, source: VideoReader, path: Path, suffix: str, transparent: bool = False) -> None:
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

    def __enter__(self) -> VideoWriter:
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
        """Write a copy of a packet of the source's sound, if the container takes it."""
        if packet.stream.index in self._sounds:
            sound = self._av.Packet(bytes(packet))
            for name in ("pts", "dts", "duration", "time_base"):
                setattr(sound, name, getattr(packet, name))
            sound.stream = self._sounds[packet.stream.index]
            self._out.mux(sound)

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


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise VideoError("video: expected the package av, found none; run: pip install av") from error
    return av
