"""A map of numbers laid over a picture as heat."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["heatmap"]


def heatmap(
    image_rgb: NDArray[np.uint8],
    values: ArrayLike,
    *,
    limits: tuple[float, float] | None = None,
    opacity: float = 0.85,
) -> NDArray[np.uint8]:
    """Lay a map over a picture in a perceptually ordered colour scale; low values leave the picture dark.

    Args:
        image_rgb: (H, W, 3) RGB or (H, W) grey uint8.
        values: (h, w) numbers of any size, scaled to the picture bilinearly; what is not finite
            counts as the lowest.
        limits: values shown as nothing and as full heat; the map's own minimum and maximum if
            left out. A constant map shows no heat.
        opacity: of full heat, in [0, 1].

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: a map that is not (h, w) or empty, an image that is not uint8.
    """
    image = np.asarray(image_rgb)
    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise ValueError(f"image: expected uint8 (H, W, 3) or (H, W), found {image.dtype} {image.shape}")
    heat = np.asarray(values, np.float32)
    if heat.ndim != 2 or not heat.size:
        raise ValueError(f"values: expected (h, w) with at least one number, found shape {heat.shape}")
    finite = np.isfinite(heat)
    if limits is None:
        limits = (float(heat[finite].min()), float(heat[finite].max())) if finite.any() else (0.0, 0.0)
    low, high = limits
    span = high - low
    heat = np.where(finite, np.clip((heat - low) / span, 0, 1), 0) if span > 0 else np.zeros_like(heat)

    height, width = image.shape[:2]
    heat = np.clip(cv2.resize(heat.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR), 0, 1)
    grey = image if image.ndim == 2 else cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    ground = 0.6 * np.repeat(grey[..., None], 3, axis=2).astype(np.float32)
    levels = np.rint(heat * 255).astype(np.uint8)
    colors = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    # The square root lets medium heat show its colour rather than the picture's.
    weight = (opacity * np.sqrt(heat))[..., None]
    return np.rint(ground * (1 - weight) + colors * weight).astype(np.uint8)
