"""The rule by which the synthetic benchmark ranks its objects.

``docs/datasets.md`` states it. The cues are measured on a copy whose short side has about 120 pixels, so that
the rule does not depend on the image size.
"""

from __future__ import annotations

from dataclasses import asdict, astuple, dataclass

import cv2
import numpy as np

from ..masks import mask_box

MAX_SALIENT = 5
SALIENT_FROM = 0.25
LOOK_UNIT = 60.0
HIDDEN_TO, SEEN_FROM = 8.0 / LOOK_UNIT, 18.0 / LOOK_UNIT


@dataclass(frozen=True)
class RuleWeights:
    """Weights of the cues; they are divided by their sum."""

    size: float = 0.27
    center: float = 0.28
    contrast: float = 0.08
    uniqueness: float = 0.37

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not np.isfinite(value) or value < 0:
                raise ValueError(f"rule weight {name}: expected a number of at least 0, found {value}")
        if not sum(asdict(self).values()) > 0:
            raise ValueError("rule weights: expected at least one above 0, found only zeros")

    def array(self) -> np.ndarray:
        """Return weights (4,) that sum to 1, in the order size, center, contrast, uniqueness."""
        values = np.array(astuple(self), dtype=np.float64)
        return values / values.sum()


@dataclass(frozen=True)
class Cues:
    """Cues of N objects, each (N,) in 0 to 1."""

    size: np.ndarray
    center: np.ndarray
    contrast: np.ndarray
    uniqueness: np.ndarray

    def array(self) -> np.ndarray:
        """Return (N, 4) in the order size, center, contrast, uniqueness."""
        return np.stack([self.size, self.center, self.contrast, self.uniqueness], axis=1)


def salience(cues: Cues, weights: RuleWeights | None = None) -> np.ndarray:
    """Return the salience (N,) of objects in 0 to 1 by the rule."""
    gate = np.clip((cues.contrast - HIDDEN_TO) / (SEEN_FROM - HIDDEN_TO), 0, 1)
    return gate * (cues.array() @ (weights or RuleWeights()).array())


def combine(
    area: np.ndarray, centroid: np.ndarray, look: np.ndarray, around: np.ndarray, shape: tuple[int, int]
) -> Cues:
    """Return cues from measurements.

    Args:
        area: (N,) visible pixels.
        centroid: (N, 2) x, y of the visible parts in pixels.
        look: (N, 4) mean L, a, b and deviation of L of the visible parts.
        around: (N, 4) the same of the surroundings.
        shape: (height, width) of the image.
    """
    height, width = shape
    size = np.minimum(np.sqrt(area / (0.2 * height * width)), 1.0)
    offset = np.hypot(centroid[:, 0] - width / 2, centroid[:, 1] - height / 2)
    center = 1.0 - np.minimum(offset / (0.5 * np.hypot(height, width)), 1.0)
    contrast = np.minimum(np.linalg.norm(look - around, axis=1) / LOOK_UNIT, 1.0)
    uniqueness = np.ones(len(look))
    if len(look) > 1:
        pairs = np.minimum(np.linalg.norm(look[:, None] - look[None], axis=2) / LOOK_UNIT, 1.0)
        uniqueness = pairs.sum(axis=1) / (len(look) - 1)
    return Cues(size, center, contrast, uniqueness)


def measure_cues(image: np.ndarray, masks: np.ndarray) -> Cues:
    """Return the cues of the objects of an image, in their order.

    Args:
        image: (H, W, 3) BGR uint8.
        masks: (N, H, W) bool, the visible parts; where two overlap, the later covers.
    """
    if not len(masks):
        return Cues(*np.zeros((4, 0)))
    labels: np.ndarray = np.zeros(image.shape[:2], np.uint8)
    for index, mask in enumerate(masks):
        labels[np.asarray(mask, dtype=bool)] = index + 1
    step = max(1, round(min(labels.shape) / 120))
    if step > 1:
        size = (max(1, labels.shape[1] // step), max(1, labels.shape[0] // step))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
    lab = cv2.cvtColor(image.astype(np.float32) / np.float32(255), cv2.COLOR_BGR2Lab).astype(np.float64)

    count = len(masks) + 1  # the background has label 0
    flat = labels.reshape(-1)
    pixels = np.bincount(flat, minlength=count).astype(np.float64)

    def means(values: np.ndarray) -> np.ndarray:
        """Return the mean (count,) of values (H, W) of each label."""
        return np.bincount(flat, values.reshape(-1), count) / np.maximum(pixels, 1)

    channels = [means(lab[..., index]) for index in range(3)]
    spread = np.sqrt(np.maximum(means(np.square(lab[..., 0])) - channels[0] ** 2, 0))
    look = np.stack([*channels, spread], axis=1)
    y, x = np.indices(labels.shape)
    centroid = np.stack([means(x + 0.5), means(y + 0.5)], axis=1)
    around = np.stack([_surroundings(labels, lab, index, look[0]) for index in range(1, count)])
    return combine(pixels[1:], centroid[1:], look[1:], around, (labels.shape[0], labels.shape[1]))


def _surroundings(labels: np.ndarray, lab: np.ndarray, index: int, whole: np.ndarray) -> np.ndarray:
    """Return the look (4,) of the band around an object, or of the whole background if there is no band."""
    reach = max(3, round(0.08 * min(labels.shape)))
    box = mask_box(labels == index)
    if box is None:
        return whole
    x1, y1, x2, y2 = box
    window = slice(max(0, y1 - reach), y2 + reach), slice(max(0, x1 - reach), x2 + reach)
    inside = (labels[window] == index).astype(np.uint8)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    band = (cv2.dilate(inside, kernel) > 0) & (labels[window] == 0)
    if band.sum() < 10:
        return whole
    values = lab[window][band]
    return np.concatenate([values.mean(axis=0), values[:, :1].std(axis=0)])
