"""Heat maps drawn over pictures, and sheets of a model's foreground maps beside its detections."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from .sheet import contact_sheet

__all__ = ["heatmap", "salience_sheet"]


def heatmap(
    image_rgb: NDArray[np.uint8],
    values: ArrayLike,
    *,
    limits: tuple[float, float] | None = None,
    opacity: float = 0.85,
) -> NDArray[np.uint8]:
    """Draw a map over a picture in a perceptual color scale; low values show the darkened picture.

    Args:
        image_rgb: (H, W, 3) RGB or (H, W) gray uint8.
        values: (h, w) numbers, resized to the picture bilinearly; values that are not finite count as the
            lowest.
        limits: values shown as no heat and as full heat; default: the minimum and maximum of the map. A
            constant map shows no heat.
        opacity: of full heat, in [0, 1].

    Returns:
        (H, W, 3) uint8 RGB.
    """
    heat = np.asarray(values, np.float32)
    assert image_rgb.dtype == np.uint8
    assert heat.ndim == 2
    finite = np.isfinite(heat)
    low, high = limits or (heat[finite].min(initial=np.inf), heat[finite].max(initial=-np.inf))
    share = (np.where(finite, heat, low) - low) / (high - low) if high > low else np.zeros_like(heat)

    height, width = image_rgb.shape[:2]
    heat = np.clip(cv2.resize(np.clip(share, 0, 1).astype(np.float32), (width, height)), 0, 1)
    gray = image_rgb if image_rgb.ndim == 2 else cv2.cvtColor(image_rgb, cv2.COLOR_RGB2GRAY)
    levels = np.rint(heat * 255).astype(np.uint8)
    colors = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    # The square root makes the color of medium heat visible.
    weight = (opacity * np.sqrt(heat))[..., None]
    return np.rint(0.6 * gray[..., None] * (1 - weight) + colors * weight).astype(np.uint8)


def salience_sheet(
    drawn_rgb: NDArray[np.uint8], image_rgb: NDArray[np.uint8], maps: Sequence[NDArray[np.float32]]
) -> NDArray[np.uint8]:
    """Draw one row: the detections, then a heat map for every feature map, finest first.

    Args:
        drawn_rgb: (H, W, 3) uint8, the picture with its detections.
        image_rgb: (H, W, 3) uint8, the picture.
        maps: (h, w) foreground probabilities in [0, 1]. Each is shown between its own minimum and maximum,
            which its heading states.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    cells, titles = [drawn_rgb], ["detections"]
    for values in maps:
        cells.append(heatmap(image_rgb, values))
        height, width = values.shape
        titles.append(f"{width} x {height}: {values.min():.2f} to {values.max():.2f}")
    return contact_sheet([cells], titles, width=max(1440, 360 * len(cells)))
