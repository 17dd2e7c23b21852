"""How well a map follows the edge of its ground truth: mean boundary accuracy and boundary IoU."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from .checks import expect

STEPS = 5


def boundary_radii(height: int, width: int) -> list[int]:
    """Return the radii in pixels of the bands around an edge: five steps from 1 to (height + width) / 300."""
    most = (width + height) / 300
    return [1 + int((most - 1) / STEPS * step) for step in range(STEPS)]


def boundary_accuracy(saliency_map: ArrayLike, gt_mask: ArrayLike) -> float | None:
    """Return the fraction of pixels near the edge of the ground truth that are right, mean over five bands.

    Source: mBA of CascadePSP (Cheng et al., CVPR 2020, section 4.1), radii as in InSPyReNet's evaluation.

    Args:
        saliency_map: (H, W) bool; or uint8, where > 128 is foreground; or float in [0, 1], taken as
            uint8 by truncation of 255 times the value.
        gt_mask: (H, W) bool, or uint8 where > 128 is foreground.

    Returns:
        In [0, 1]; None where the ground truth has no edge.

    Raises:
        InputError: wrong shape or type.
    """
    prediction, truth = _binary(saliency_map, "saliency_map"), _binary(gt_mask, "gt_mask")
    wanted = f"the shape of saliency_map, {prediction.shape}"
    expect(prediction.shape == truth.shape, "gt_mask", wanted, truth.shape)
    accuracies: dict[int, float] = {}
    radii = boundary_radii(*truth.shape)
    for radius in set(radii):
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        band = cv2.morphologyEx(truth.astype(np.uint8), cv2.MORPH_GRADIENT, kernel) > 0
        if not band.any():
            return None
        accuracies[radius] = np.count_nonzero((prediction == truth) & band) / np.count_nonzero(band)
    return sum(accuracies[radius] for radius in radii) / STEPS


def inner_band(image: NDArray[np.uint8], ratio: float) -> NDArray[np.uint8]:
    """Return an image less its erosion; of a mask, the pixels inside that are close to its edge.

    Source: boundary IoU (Cheng et al., CVPR 2021). The outside of the image counts as 0.

    Args:
        image: (H, W) mask or gray values.
        ratio: reach of the band as a share of the image diagonal.
    """
    reach = max(1, round(ratio * math.hypot(*image.shape)))
    framed = cv2.copyMakeBorder(image, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(framed, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    return image - np.asarray(eroded, np.uint8)[1:-1, 1:-1]


def _binary(array: ArrayLike, name: str) -> NDArray[np.bool_]:
    values = np.asarray(array)
    if np.issubdtype(values.dtype, np.floating):
        values = (values * 255).astype(np.uint8)
    good = values.ndim == 2 and values.size and values.dtype in (np.bool_, np.uint8)
    expect(good, name, "(H, W) bool, uint8 or float", f"{values.dtype} {values.shape}")
    return values if values.dtype == np.bool_ else values > 128
