"""Mean boundary accuracy (mBA): how well a map follows the edge of its ground truth.

Cheng et al., CascadePSP (CVPR 2020), section 4.1, with the radii of the published InSPyReNet evaluation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["BoundaryAccuracy", "boundary_accuracy", "boundary_radii"]

STEPS = 5


def boundary_radii(height: int, width: int) -> list[int]:
    """Radii in pixels of the bands around an edge: five steps from 1 to (height + width) / 300."""
    most = (width + height) / 300
    return [1 + int((most - 1) / STEPS * step) for step in range(STEPS)]


def boundary_accuracy(saliency_map: ArrayLike, gt_mask: ArrayLike) -> float | None:
    """Fraction of pixels near the edge of the ground truth that are right, averaged over five bands.

    Args:
        saliency_map: (H, W) bool; or uint8, where > 128 is foreground; or float in [0, 1], taken as
            uint8 by truncation of 255 times the value.
        gt_mask: (H, W) bool, or uint8 where > 128 is foreground.

    Returns:
        In [0, 1]; None where the ground truth has no edge.

    Raises:
        ValueError: wrong shape or type.
    """
    prediction, truth = _binary(saliency_map, "saliency_map"), _binary(gt_mask, "gt_mask")
    if prediction.shape != truth.shape:
        raise ValueError(
            f"gt_mask: expected the shape of saliency_map, {prediction.shape}, found {truth.shape}"
        )
    import cv2

    height, width = truth.shape
    right = prediction == truth
    accuracies: dict[int, float] = {}
    radii = boundary_radii(height, width)
    truth_u8 = truth.astype(np.uint8)
    for radius in set(radii):
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        band = cv2.morphologyEx(truth_u8, cv2.MORPH_GRADIENT, kernel) > 0
        pixels = np.count_nonzero(band)
        if not pixels:
            return None
        accuracies[radius] = np.count_nonzero(right & band) / pixels
    return sum(accuracies[radius] for radius in radii) / STEPS


class BoundaryAccuracy:
    """Averages the boundary accuracy over images; those whose ground truth has no edge are left out."""

    def __init__(self) -> None:
        self.images = 0
        self._sum = 0.0

    def add(self, saliency_map: ArrayLike, gt_mask: ArrayLike) -> None:
        """Adds one image; arguments as in ``boundary_accuracy``."""
        self.add_value(boundary_accuracy(saliency_map, gt_mask))

    def add_value(self, value: float | None) -> None:
        """Adds one image by its boundary accuracy."""
        if value is not None:
            self._sum += value
            self.images += 1

    def result(self) -> float | None:
        """The mean; None without images."""
        return self._sum / self.images if self.images else None


def _binary(array: ArrayLike, name: str) -> NDArray[np.bool_]:
    values = np.asarray(array)
    if values.ndim != 2 or values.size == 0:
        raise ValueError(f"{name}: expected shape (H, W), found {values.shape}")
    if values.dtype == np.bool_:
        return values
    if np.issubdtype(values.dtype, np.floating):
        values = (values * 255).astype(np.uint8)
    if values.dtype != np.uint8:
        raise ValueError(f"{name}: expected bool, uint8 or float, found {values.dtype}")
    return values > 128
