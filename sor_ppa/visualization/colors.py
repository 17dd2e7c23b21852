"""The color of a rank: one fixed scale, warm and light for the first, cool and dark for the last."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["UNRANKED", "rank_colors"]

# CIE L*a*b* colors from the first rank to the last. Lightness falls from one to the next, so the order stays
# visible in grayscale and for every kind of color vision.
_SCALE_LAB: Final = np.array(
    [
        [86.0, 8.0, 78.0],  # gold
        [73.0, 38.0, 58.0],  # orange
        [61.0, 62.0, 24.0],  # coral
        [50.0, 60.0, -18.0],  # magenta
        [42.0, 44.0, -52.0],  # violet
        [36.0, 18.0, -52.0],  # indigo
    ]
)

# The position on the scale is 1 - exp(-(rank - 1) / _DECAY). The first ranks, whose order matters most,
# differ most.
_DECAY: Final = 3.2

UNRANKED: Final = np.array([176, 180, 184], np.uint8)


def rank_colors(ranks: ArrayLike) -> NDArray[np.uint8]:
    """Return the colors of ranks; a rank has the same color in every picture.

    Args:
        ranks: (N,) integers, 1 = most salient, 0 = not ranked.

    Returns:
        (N, 3) uint8 RGB. CIE lightness falls with the rank; 0 gives a neutral gray.
    """
    values = np.asarray(ranks, np.int64).reshape(-1)
    position = (1.0 - np.exp(-(np.maximum(values, 1) - 1) / _DECAY)) * (len(_SCALE_LAB) - 1)
    knots = np.arange(len(_SCALE_LAB))
    lab = np.stack([np.interp(position, knots, channel) for channel in _SCALE_LAB.T], axis=1)
    if not len(values):
        return np.zeros((0, 3), np.uint8)
    rgb = cv2.cvtColor(lab[None].astype(np.float32), cv2.COLOR_LAB2RGB)[0]
    colors = np.clip(np.rint(rgb * 255.0), 0, 255).astype(np.uint8)
    return np.where(values[:, None] > 0, colors, UNRANKED)
