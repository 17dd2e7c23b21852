"""The colour of a rank: one fixed scale, warm and light for the first, cool and dark for the last."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["UNRANKED", "lab_to_rgb", "rank_colors", "rgb_to_lab"]

# CIE L*a*b* anchors from the first rank to the last. Lightness falls from anchor to anchor, so
# the order survives in greyscale and for every kind of colour vision; blue against yellow, the
# axis that red-green colour blindness leaves, falls with it.
_ANCHORS_LAB: Final = np.array(
    [
        [86.0, 8.0, 78.0],  # gold
        [73.0, 38.0, 58.0],  # orange
        [61.0, 62.0, 24.0],  # coral
        [50.0, 60.0, -18.0],  # magenta
        [42.0, 44.0, -52.0],  # violet
        [36.0, 18.0, -52.0],  # indigo
    ]
)

# Ranks over which the scale falls to 1/e of what is left: the first few ranks, whose order
# matters most, are the furthest apart, and a rank has one colour in every picture.
_DECAY: Final = 3.2

UNRANKED: Final = np.array([176, 180, 184], np.uint8)


def rank_colors(ranks: ArrayLike) -> NDArray[np.uint8]:
    """Colours of ranks, the same for a rank in every picture.

    Args:
        ranks: (N,) integers, 1 = most salient, 0 = not ranked.

    Returns:
        (N, 3) uint8 RGB. CIE lightness falls with the rank; 0 gives a neutral grey.
    """
    values = np.asarray(ranks, dtype=np.int64).reshape(-1)
    if not len(values):
        return np.zeros((0, 3), np.uint8)
    position = (1.0 - np.exp(-(np.maximum(values, 1) - 1) / _DECAY)) * (len(_ANCHORS_LAB) - 1)
    knots = np.arange(len(_ANCHORS_LAB))
    lab = np.stack([np.interp(position, knots, channel) for channel in _ANCHORS_LAB.T], axis=1)
    rgb = lab_to_rgb(lab)
    return np.where(values[:, None] > 0, rgb, UNRANKED)


def lab_to_rgb(lab: NDArray[np.floating]) -> NDArray[np.uint8]:
    """CIE L*a*b* (N, 3) to sRGB (N, 3) uint8; colours outside sRGB are clipped."""
    rgb = cv2.cvtColor(np.asarray(lab, np.float32).reshape(1, -1, 3), cv2.COLOR_LAB2RGB)
    return np.clip(np.rint(rgb[0] * 255.0), 0, 255).astype(np.uint8)


def rgb_to_lab(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """sRGB (N, 3) uint8 to CIE L*a*b* (N, 3)."""
    scaled = np.asarray(rgb, np.float32).reshape(1, -1, 3) / 255.0
    return cv2.cvtColor(scaled, cv2.COLOR_RGB2LAB)[0]
