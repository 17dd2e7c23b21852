"""The written rule by which the synthetic benchmark ranks its objects.

Each object has four cues in 0 to 1, measured on the finished picture and the visible masks:

- *size*: sqrt(visible area / (0.2 x picture area)), at most 1;
- *centre*: 1 - distance of the visible part's centroid from the picture's centre / half diagonal;
- *contrast*: distance of its look from that of the surroundings (a band around it that belongs to no
  object), at most 1;
- *uniqueness*: mean distance of its look from that of each other object, at most 1 (1 when alone).

The *look* of a region is its mean CIE Lab colour and the standard deviation of its lightness; the
distance of two looks is Euclidean, in units of 60. Salience is

    gate x (w_size size + w_centre centre + w_contrast contrast + w_uniqueness uniqueness),

where the gate rises from 0 to 1 as the contrast rises from 8/60 to 18/60: what does not stand out
from its surroundings is not seen, however large. An object is salient if its salience exceeds 0.25
and it is among the five most salient; rank 1 is the most salient.

The cues are measured on a copy whose short side has about 120 pixels, so the rule is the same for a
picture of any size.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import cv2
import numpy as np

__all__ = [
    "HIDDEN_TO",
    "LOOK_UNIT",
    "MAX_SALIENT",
    "SALIENT_FROM",
    "SEEN_FROM",
    "Cues",
    "RuleWeights",
    "combine",
    "measure_cues",
    "salience",
]

MAX_SALIENT = 5
SALIENT_FROM = 0.25
LOOK_UNIT = 60.0
HIDDEN_TO, SEEN_FROM = 8.0 / LOOK_UNIT, 18.0 / LOOK_UNIT


@dataclass(frozen=True)
class RuleWeights:
    """Weights of the cues; they are divided by their sum."""

    size: float = 0.27
    centre: float = 0.28
    contrast: float = 0.08
    uniqueness: float = 0.37

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not np.isfinite(value) or value < 0:
                raise ValueError(f"rule weight {name}: found {value}, expected a number of at least 0")
        if not sum(asdict(self).values()) > 0:
            raise ValueError("rule weights: found only zeros, expected at least one above 0")

    def array(self) -> np.ndarray:
        """(4,) weights that sum to 1, in the order size, centre, contrast, uniqueness."""
        values = np.array([self.size, self.centre, self.contrast, self.uniqueness], dtype=np.float64)
        return values / values.sum()


@dataclass(frozen=True)
class Cues:
    """Cues of N objects, each (N,) in 0 to 1."""

    size: np.ndarray
    centre: np.ndarray
    contrast: np.ndarray
    uniqueness: np.ndarray

    def array(self) -> np.ndarray:
        """(N, 4) in the order size, centre, contrast, uniqueness."""
        return np.stack([self.size, self.centre, self.contrast, self.uniqueness], axis=1)


def salience(cues: Cues, weights: RuleWeights | None = None) -> np.ndarray:
    """Salience (N,) of objects in 0 to 1 by the rule at the top of this module."""
    weights = weights or RuleWeights()
    gate = np.clip((cues.contrast - HIDDEN_TO) / (SEEN_FROM - HIDDEN_TO), 0, 1)
    return gate * (cues.array() @ weights.array())


def combine(
    area: np.ndarray, centroid: np.ndarray, look: np.ndarray, around: np.ndarray, shape: tuple[int, int]
) -> Cues:
    """Cues from measurements.

    Args:
        area: (N,) visible pixels.
        centroid: (N, 2) x, y of the visible parts in pixels.
        look: (N, 4) mean L, a, b and deviation of L of the visible parts.
        around: (N, 4) the same of the surroundings.
        shape: (height, width) of the raster.
    """
    height, width = shape
    size = np.minimum(np.sqrt(area / (0.2 * height * width)), 1.0)
    offset = np.hypot(centroid[:, 0] - width / 2, centroid[:, 1] - height / 2)
    centre = 1.0 - np.minimum(offset / (0.5 * np.hypot(height, width)), 1.0)
    contrast = np.minimum(np.linalg.norm(look - around, axis=1) / LOOK_UNIT, 1.0)
    count = len(look)
    if count > 1:
        pairs = np.minimum(np.linalg.norm(look[:, None] - look[None], axis=2) / LOOK_UNIT, 1.0)
        uniqueness = pairs.sum(axis=1) / (count - 1)
    else:
        uniqueness = np.ones(count)
    return Cues(size, centre, contrast, uniqueness)


def _looks(labels: np.ndarray, lab: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (count,) and look (count, 4) of the regions labelled 0 to count - 1."""
    flat = labels.reshape(-1)
    pixels = np.bincount(flat, minlength=count)[:count].astype(np.float64)
    divisor = np.maximum(pixels, 1)
    channels = [np.bincount(flat, lab[..., i].reshape(-1), count)[:count] / divisor for i in range(3)]
    squares = np.bincount(flat, np.square(lab[..., 0]).reshape(-1), count)[:count] / divisor
    spread = np.sqrt(np.maximum(squares - channels[0] ** 2, 0))
    return pixels, np.stack([*channels, spread], axis=1)


def measure_cues(image: np.ndarray, masks: np.ndarray) -> Cues:
    """Measure the cues of the objects of a picture.

    Args:
        image: (H, W, 3) BGR uint8.
        masks: (N, H, W) bool, the visible parts; where two overlap, the later covers.

    Returns:
        cues of the N objects, in their order.
    """
    count = len(masks)
    if not count:
        empty = np.zeros(0)
        return Cues(empty, empty, empty, empty)
    labels: np.ndarray = np.zeros(image.shape[:2], np.uint8)
    for index, mask in enumerate(masks):
        labels[np.asarray(mask, dtype=bool)] = index + 1
    step = max(1, round(min(labels.shape) / 120))
    if step > 1:
        size = (max(1, labels.shape[1] // step), max(1, labels.shape[0] // step))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
    lab = cv2.cvtColor(image.astype(np.float32) / np.float32(255), cv2.COLOR_BGR2Lab).astype(np.float64)

    pixels, look = _looks(labels, lab, count + 1)
    y, x = np.indices(labels.shape)
    divisor = np.maximum(pixels, 1)
    flat = labels.reshape(-1)
    centroid = np.stack(
        [np.bincount(flat, grid.reshape(-1) + 0.5, count + 1) / divisor for grid in (x, y)], axis=1
    )
    around = np.stack([_surroundings(labels, lab, index + 1, look[0]) for index in range(count)])
    return combine(pixels[1:], centroid[1:], look[1:], around, (labels.shape[0], labels.shape[1]))


def _surroundings(labels: np.ndarray, lab: np.ndarray, index: int, whole: np.ndarray) -> np.ndarray:
    """Look (4,) of the band around an object; of the whole background where there is no band."""
    reach = max(3, round(0.08 * min(labels.shape)))
    rows, columns = np.flatnonzero((labels == index).any(1)), np.flatnonzero((labels == index).any(0))
    if not len(rows):
        return whole
    window = (
        slice(max(0, rows[0] - reach), rows[-1] + reach + 1),
        slice(max(0, columns[0] - reach), columns[-1] + reach + 1),
    )
    inside = (labels[window] == index).astype(np.uint8)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    band = (cv2.dilate(inside, kernel) > 0) & (labels[window] == 0)
    if band.sum() < 10:
        return whole
    values = lab[window][band]
    return np.concatenate([values.mean(axis=0), values[:, :1].std(axis=0)])
