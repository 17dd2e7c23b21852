"""Files through a saliency model: pictures, folders and videos in, composed pictures out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..visualization.files import Fault, ImageReadError, expand_inputs, read_image, result_names
from .outputs import KINDS, compose, is_color, parse_color

__all__ = ["SaliencyOutput", "SaliencySummary", "find_media", "run_saliency"]

logger = logging.getLogger(__name__)

VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
_FORMATS = ("jpg", "png", "webp")

Predictor = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclass(frozen=True)
class SaliencyOutput:
    """What to write, and where.

    Attributes:
        folder: created where it does not exist.
        kinds: each "map", "rgba", "green", "white", "blur", "overlay", a colour "r,g,b" or the path of a
            background picture.
        threshold: hard masks instead of soft edges.
        reverse: keep the background, drop the salient objects.
        extension: of the pictures: "jpg", "png" or "webp"; cut-outs and maps are PNG always.
    """

    folder: Path
    kinds: tuple[str, ...] = ("map",)
    threshold: float | None = None
    reverse: bool = False
    extension: str = "png"
    _backgrounds: dict[str, NDArray[np.uint8]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Check every choice, and read the background pictures.

        Raises:
            ValueError: an unusable choice; an unreadable background raises its subclass ImageReadError.
        """
        if self.extension not in _FORMATS:
            raise ValueError(f"format: expected one of {', '.join(_FORMATS)}, found {self.extension!r}")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold: expected 0 to 1, found {self.threshold}")
        if not self.kinds:
            raise ValueError("type: expected at least one output, found none")
        for kind in self.kinds:
            if kind in KINDS:
                continue
            if is_color(kind):
                parse_color(kind)
            elif Path(kind).suffix:
                self._backgrounds[kind] = np.ascontiguousarray(read_image(kind)[:, :, ::-1])
            else:
                names = ", ".join(KINDS)
                expected = f"one of {names}, a colour such as 255,0,0 or a background picture"
                raise ValueError(f"type: expected {expected}, found {kind!r}")

    def label(self, kind: str) -> str:
        """What the results of a kind are called after the picture's name."""
        if kind in self._backgrounds:
            kind = Path(kind).stem
        elif is_color(kind):
            kind = "-".join(map(str, parse_color(kind)))
        return f"{kind}_reverse" if self.reverse else kind

    def render(self, image: NDArray[np.uint8], saliency: NDArray[np.float32], kind: str) -> NDArray[np.uint8]:
        """One output of a picture (H, W, 3) RGB."""
        background = self._backgrounds.get(kind)
        name = kind if background is None else "background"
        options: dict[str, Any] = {"threshold": self.threshold, "reverse": self.reverse}
        return compose(image, saliency, name, background=background, **options)


@dataclass
class SaliencySummary:
    """What became of the files."""

    images: int = 0
    videos: int = 0
    frames: int = 0
    unreadable: int = 0

    def __str__(self) -> str:
        parts = [f"{self.images} images"]
        if self.videos:
            parts.append(f"{self.videos} videos ({self.frames} frames)")
        if self.unreadable:
            parts.append(f"{self.unreadable} unreadable")
        return ", ".join(parts)


def find_media(inputs: Sequence[str]) -> tuple[list[Path], list[Path], list[Fault]]:
    """Pictures and videos that a user names: files, folders, globs and ``.txt`` lists, in any mix.

    Returns:
        Pictures, videos, and what could not be used.
    """
    videos: list[Path] = []
    rest: list[str] = []
    for text in inputs:
        path = Path(text)
        if path.suffix.lower() in VIDEOS and path.is_file():
            videos.append(path)
        elif path.is_dir():
            inside = sorted(entry for entry in path.iterdir() if entry.suffix.lower() in VIDEOS)
            videos.extend(inside)
            pictures, _ = expand_inputs([text])
            if pictures or not inside:
                rest.append(text)
        else:
            rest.append(text)
    pictures, faults = expand_inputs(rest)
    return pictures, list(dict.fromkeys(videos)), faults


def run_saliency(
    predictor: Predictor,
    pictures: Sequence[Path],
    videos: Sequence[Path],
    output: SaliencyOutput,
    *,
    progress: bool = True,
) -> SaliencySummary:
    """Write the outputs of every file; one that cannot be read is logged in a line, and the rest goes on.

    Args:
        predictor: from a BGR picture to its saliency map, such as ``SaliencyPredictor``.
        pictures: picture files; results are ``NAME_KIND.EXT``.
        videos: video files; results are ``NAME_KIND.mp4``.
        output: what and where.
        progress: show progress bars.

    Raises:
        ValueError: a cut-out of a video (video has no transparency), or a result that would overwrite an
            input.
        OSError: results cannot be written.
    """
    if videos and "rgba" in output.kinds:
        raise ValueError(f"type rgba: video has no transparency: {videos[0]} (use green, or a colour)")
    files = [*pictures, *videos]
    names = result_names(files)
    targets = [_targets(output, name, file in set(videos)) for file, name in zip(files, names, strict=True)]
    inputs = {file.resolve() for file in files}
    for paths in targets:
        for path in paths:
            if path.resolve() in inputs:
                raise ValueError(f"{path}: the result would overwrite an input; choose another folder")
    output.folder.mkdir(parents=True, exist_ok=True)

    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    summary = SaliencySummary()
    with tqdm(total=len(files), unit="file", disable=not progress) as bar, logging_redirect_tqdm():
        for file, paths in zip(files, targets, strict=True):
            try:
                bar.set_postfix_str(file.name)
                if file in pictures:
                    _picture(predictor, file, paths, output)
                    summary.images += 1
                else:
                    summary.frames += _video(predictor, file, paths, output, progress)
                    summary.videos += 1
            except ImageReadError as error:
                logger.error("%s", error)
                summary.unreadable += 1
            bar.update()
    return summary


def _targets(output: SaliencyOutput, name: str, video: bool) -> list[Path]:
    paths = []
    for kind in output.kinds:
        extension = "mp4" if video else "png" if kind in ("rgba", "map") else output.extension
        paths.append(output.folder / f"{name}_{output.label(kind)}.{extension}")
    return paths


def _picture(predictor: Predictor, file: Path, paths: Sequence[Path], output: SaliencyOutput) -> None:
    image = read_image(file)
    saliency = predictor(image)
    rgb = np.ascontiguousarray(image[:, :, ::-1])
    for kind, path in zip(output.kinds, paths, strict=True):
        rendered = output.render(rgb, saliency, kind)
        _write(path, rendered[..., 0] if kind == "map" else rendered)


def _write(path: Path, image: NDArray[np.uint8]) -> None:
    """Write grey (H, W), RGB or RGBA."""
    import cv2

    if image.ndim == 3:
        code = cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR
        image = np.asarray(cv2.cvtColor(image, code), np.uint8)
    done, data = cv2.imencode(path.suffix, image)
    if not done:
        raise OSError(f"{path}: cannot be encoded")
    path.write_bytes(data.tobytes())


def _frames(file: Path) -> Iterator[tuple[NDArray[np.uint8], float, int]]:
    """BGR frames of a video, with its rate in frames a second and their expected number."""
    import cv2

    capture = cv2.VideoCapture(str(file))
    try:
        rate = float(capture.get(cv2.CAP_PROP_FPS)) or 25.0
        count = max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        read, frame = capture.read()
        if not read:
            raise ImageReadError(f"{file}: cannot be read as a video")
        while read:
            yield np.asarray(frame, np.uint8), rate, count
            read, frame = capture.read()
    finally:
        capture.release()


def _video(
    predictor: Predictor, file: Path, paths: Sequence[Path], output: SaliencyOutput, progress: bool
) -> int:
    """Write the outputs of a video; returns the number of its frames."""
    import cv2
    from tqdm import tqdm

    writers: list[cv2.VideoWriter] = []
    frames = 0
    bar: tqdm | None = None
    try:
        for image, rate, count in _frames(file):
            if not writers:
                size = (image.shape[1], image.shape[0])
                code = cv2.VideoWriter.fourcc(*"mp4v")
                writers = [cv2.VideoWriter(str(path), code, rate, size) for path in paths]
                for path, writer in zip(paths, writers, strict=True):
                    if not writer.isOpened():
                        raise OSError(f"{path}: cannot be written as a video")
                bar = tqdm(total=count or None, unit="frame", leave=False, disable=not progress)
            saliency = predictor(image)
            rgb = np.ascontiguousarray(image[:, :, ::-1])
            for kind, writer in zip(output.kinds, writers, strict=True):
                writer.write(np.ascontiguousarray(output.render(rgb, saliency, kind)[:, :, ::-1]))
            frames += 1
            if bar is not None:
                bar.update()
    finally:
        for writer in writers:
            writer.release()
        if bar is not None:
            bar.close()
    return frames
