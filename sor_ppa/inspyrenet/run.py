"""Apply a saliency model to files: pictures, folders and videos in, composed pictures out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..atomic import atomic_write
from ..visualization.files import (
    IMAGE_SUFFIXES,
    BadInput,
    ImageReadError,
    check_not_inputs,
    expand_inputs,
    read_image,
    result_names,
    write_image,
)
from ..visualization.video_files import VideoError, VideoReader, VideoWriter
from .outputs import KINDS, compose, parse_color

__all__ = ["SaliencyOutput", "SaliencySummary", "find_media", "run_saliency"]

logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
_FORMATS = ("jpg", "png", "webp")

Predictor = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclass(frozen=True)
class SaliencyOutput:
    """Which results to write, and where.

    Attributes:
        folder: created if it does not exist.
        kinds: each "map", "rgba", "green", "white", "blur", "overlay", a color "r,g,b" or the path of a
            background picture.
        threshold: use hard masks of the pixels above it instead of soft edges.
        reverse: keep the background, remove the salient objects.
        extension: of the pictures: "jpg", "png" or "webp"; empty: that of the photo, or "png" if it is none
            of these. Cut-outs and maps are always PNG.
    """

    folder: Path
    kinds: tuple[str, ...] = ("map",)
    threshold: float | None = None
    reverse: bool = False
    extension: str = ""
    _backgrounds: dict[str, NDArray[np.uint8]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Check every choice, and read the background pictures.

        Raises:
            ValueError: an invalid choice, or an unreadable background (its subclass ImageReadError).
        """
        if self.extension not in ("", *_FORMATS):
            raise ValueError(f"format: expected one of {', '.join(_FORMATS)}, found {self.extension!r}")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold: expected 0 to 1, found {self.threshold}")
        for kind in self.kinds:
            if Path(kind).suffix:
                self._backgrounds[kind] = np.ascontiguousarray(read_image(kind)[:, :, ::-1])
            elif kind not in KINDS:
                parse_color(kind)

    def path(self, name: str, kind: str, suffix: str) -> Path:
        """Return the path of the result of one kind for the picture or video ``name`` with a suffix."""
        same = suffix.lower().removeprefix(".").replace("jpeg", "jpg")
        extension = self.extension or (same if same in _FORMATS else "png")
        if suffix.lower() in VIDEO_SUFFIXES:
            extension = "webm" if kind == "rgba" else "mp4"  # mp4 holds no transparency
        elif kind in ("rgba", "map"):
            extension = "png"
        if kind in self._backgrounds:
            kind = Path(kind).stem
        elif kind not in KINDS:
            kind = "-".join(map(str, parse_color(kind)))
        return self.folder / f"{name}_{kind}{'_reverse' if self.reverse else ''}.{extension}"

    def render(self, image: NDArray[np.uint8], saliency: NDArray[np.float32], kind: str) -> NDArray[np.uint8]:
        """Return one output of a picture (H, W, 3) RGB."""
        background = self._backgrounds.get(kind)
        kind = kind if background is None else "background"
        options: dict[str, Any] = {"threshold": self.threshold, "reverse": self.reverse}
        return compose(image, saliency, kind, background=background, **options)


@dataclass
class SaliencySummary:
    """Counts of :func:`run_saliency`."""

    images: int = 0
    videos: int = 0
    frames: int = 0
    unreadable: int = 0

    def __str__(self) -> str:
        videos = f", {self.videos} videos ({self.frames} frames)" if self.videos else ""
        bad = f", {self.unreadable} unreadable" if self.unreadable else ""
        return f"{self.images} images{videos}{bad}"


def find_media(inputs: Sequence[str]) -> tuple[list[Path], list[Path], list[BadInput]]:
    """Return the files that a user names: files, folders, globs and ``.txt`` lists, in any mix.

    Returns:
        Pictures, videos, and the inputs that cannot be used.
    """
    files, faults = expand_inputs(inputs, (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))
    videos = [file for file in files if file.suffix.lower() in VIDEO_SUFFIXES]
    return [file for file in files if file not in videos], videos, faults


def run_saliency(
    predictor: Predictor,
    pictures: Sequence[Path],
    videos: Sequence[Path],
    output: SaliencyOutput,
    *,
    progress: bool = True,
) -> SaliencySummary:
    """Write the outputs of every file; a file that cannot be read is logged in one line and skipped.

    Args:
        predictor: from a BGR picture to its saliency map, such as ``SaliencyPredictor``.
        pictures: picture files; results are ``NAME_KIND.EXT``.
        videos: video files; results are ``NAME_KIND.mp4``, transparent ones ``NAME_rgba.webm``.
        output: what to write, and where.
        progress: show progress bars.

    Raises:
        ValueError: an input would be overwritten, or a video cannot be written.
        OSError: results cannot be written.
    """
    files = [*pictures, *videos]
    targets = [
        {kind: output.path(name, kind, file.suffix) for kind in output.kinds}
        for file, name in zip(files, result_names(files), strict=True)
    ]
    check_not_inputs((path for paths in targets for path in paths.values()), files)
    output.folder.mkdir(parents=True, exist_ok=True)

    summary = SaliencySummary()
    with tqdm(total=len(files), unit="file", disable=not progress) as bar, logging_redirect_tqdm():
        for index, (file, paths) in enumerate(zip(files, targets, strict=True)):
            bar.set_postfix_str(file.name)
            try:
                if index < len(pictures):
                    for kind, result in _render(predictor, read_image(file), output):
                        write_image(paths[kind], result[..., 0] if kind == "map" else result)
                    summary.images += 1
                else:
                    summary.frames += _video(predictor, file, paths, output, progress)
                    summary.videos += 1
            except ImageReadError as error:
                logger.error("%s", error)
                summary.unreadable += 1
            bar.update()
    return summary


def _render(
    predictor: Predictor, image: NDArray[np.uint8], output: SaliencyOutput
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield each kind and its RGB or RGBA output of a BGR picture."""
    saliency = predictor(image)
    rgb = np.ascontiguousarray(image[:, :, ::-1])
    for kind in output.kinds:
        yield kind, output.render(rgb, saliency, kind)


def _video(
    predictor: Predictor, file: Path, paths: dict[str, Path], output: SaliencyOutput, progress: bool
) -> int:
    """Write the outputs of a video; return the number of its frames."""
    frames = 0
    with ExitStack() as stack:
        try:
            reader = stack.enter_context(VideoReader(file))
        except VideoError as error:
            raise ImageReadError(str(error)) from error
        writers = {}
        for kind, path in paths.items():
            draft = stack.enter_context(atomic_write(path))
            writer = VideoWriter(reader, draft, path.suffix, transparent=kind == "rgba")
            writers[kind] = stack.enter_context(writer)

        def copy_sound(packet: Any) -> None:
            for writer in writers.values():
                writer.copy_sound(packet)

        total = reader.video.frames or None
        bar = stack.enter_context(tqdm(total=total, unit="frame", leave=False, disable=not progress))
        for seconds, picture in reader.frames(copy_sound):
            for kind, result in _render(predictor, np.ascontiguousarray(picture[:, :, ::-1]), output):
                writers[kind].write(result, seconds)
            bar.update()
            frames += 1
        if not frames:
            raise ImageReadError(f"{file}: expected a video, found one without frames")
    return frames
