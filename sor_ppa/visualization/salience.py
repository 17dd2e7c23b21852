"""Sheets that show what a model takes for foreground beside what it detected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from .annotate import Output
from .files import ImageReadError, read_image, result_names
from .heatmap import heatmap
from .sheet import contact_sheet

__all__ = ["salience_sheet", "write_salience_sheets"]


def salience_sheet(
    drawn_rgb: NDArray[np.uint8], image_rgb: NDArray[np.uint8], maps: Sequence[NDArray[np.float32]]
) -> NDArray[np.uint8]:
    """One row: the detections, then a heat map for every feature map, finest first.

    Args:
        drawn_rgb: (H, W, 3) uint8, the picture with its detections.
        image_rgb: (H, W, 3) uint8, the picture.
        maps: (h, w) foreground probabilities in [0, 1]; each is shown between its own extremes, which its
            heading gives.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    cells, titles = [drawn_rgb], ["detections"]
    for values in maps:
        cells.append(heatmap(image_rgb, values))
        height, width = values.shape
        titles.append(f"{width} x {height}: {values.min():.2f} to {values.max():.2f}")
    return contact_sheet([cells], titles, width=max(1440, 360 * len(cells)))


def write_salience_sheets(
    salience_maps: Callable[[NDArray[np.uint8]], Sequence[NDArray[np.float32]]],
    files: Sequence[Path],
    output: Output,
) -> None:
    """Write ``<name>_salience_maps.<extension>`` beside each drawing that ``annotate`` has written.

    Args:
        salience_maps: from a BGR picture to its foreground maps, such as ``SORPredictor.salience_maps``.
        files: the pictures that were given to ``annotate``.
        output: as given to ``annotate``.

    Raises:
        ValueError: the model has no such maps.
        OSError: a sheet cannot be written.
    """
    for file, name in zip(files, result_names(files), strict=True):
        drawn_file = output.paths(name)[0]
        try:
            picture = read_image(file)
            drawn = read_image(drawn_file)
        except ImageReadError:
            continue  # annotate has named it
        sheet = salience_sheet(drawn[..., ::-1], picture[..., ::-1], salience_maps(picture))
        target = drawn_file.with_name(f"{name}_salience_maps.{output.extension}")
        if not cv2.imwrite(str(target), np.ascontiguousarray(sheet[..., ::-1])):
            raise OSError(f"{target}: cannot be written")
