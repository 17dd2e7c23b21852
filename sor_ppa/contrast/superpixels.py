"""Superpixels of a picture, and the graph of their neighbors."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import scipy
import skimage
from numpy.typing import NDArray

__all__ = ["Superpixels", "color_words", "segment", "to_lab"]

_COMPACTNESS = 12.0  # of SLIC, in CIELAB units


@dataclass(frozen=True, eq=False)
class Superpixels:
    """A segmentation into S superpixels with E pairs of neighbors.

    Attributes:
        labels: (H, W) int, superpixel of each pixel.
        area: (S,) pixels.
        color: (S, 3) mean CIELAB color.
        square: (S,) mean squared length of the color vector.
        center: (S, 2) x, y in pixels.
        box: (S, 4) left, top, right, bottom in pixels.
        border: (S,) pixels on the border of the picture.
        edges: (E, 2) neighbors, the smaller index first.
        length: (E,) length of the common boundary in pixels.
        strength: (E,) mean color gradient along it.
        adjacency: (S, S) float32, 1 between neighbors.
        words: (S, K) pixels of each color word.
    """

    labels: NDArray[np.intp]
    area: NDArray[np.float32]
    color: NDArray[np.float32]
    square: NDArray[np.float32]
    center: NDArray[np.float32]
    box: NDArray[np.float32]
    border: NDArray[np.float32]
    edges: NDArray[np.intp]
    length: NDArray[np.float32]
    strength: NDArray[np.float32]
    adjacency: scipy.sparse.csr_matrix
    words: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.area)


def to_lab(bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Convert (H, W, 3) uint8 BGR to float32 CIELAB, L in [0, 100]."""
    return np.asarray(cv2.cvtColor(bgr.astype(np.float32) / 255, cv2.COLOR_BGR2LAB), np.float32)


def color_words(lab: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Return the (H, W) index of each pixel's color word.

    A word is a k-means cluster of color and local contrast. The clustering starts from fixed seeds.
    """
    smooth = np.asarray(cv2.GaussianBlur(lab, (0, 0), 1), np.float32)
    light = np.ascontiguousarray(smooth[..., 0])
    mean = cv2.GaussianBlur(light, (0, 0), 3)
    deviation = np.sqrt(np.maximum(cv2.GaussianBlur(light * light, (0, 0), 3) - mean * mean, 0))
    values = np.dstack([smooth * np.array([0.6, 1, 1], np.float32), deviation]).reshape(-1, 4)
    sample = values[:: max(1, len(values) // 2500)]
    seeds = sample[np.lexsort(sample.T)][:: max(1, len(sample) // count)][:count]
    start = (np.square(sample[:, None] - seeds).sum(2)).argmin(1).astype(np.int32)
    stop = (cv2.TERM_CRITERIA_MAX_ITER | cv2.TERM_CRITERIA_EPS, 10, 0.5)
    _, _, centers = cv2.kmeans(sample, len(seeds), start, stop, 1, cv2.KMEANS_USE_INITIAL_LABELS)
    centers = centers[np.isfinite(centers).all(1)]
    return (np.square(centers).sum(1) - 2 * values @ centers.T).argmin(1).reshape(lab.shape[:2])


def segment(lab: NDArray[np.float32], words: NDArray[np.intp], count: int, mirrored: bool) -> Superpixels:
    """Segment a picture by SLIC (Achanta et al., TPAMI 2012).

    Args:
        lab: (H, W, 3) CIELAB.
        words: (H, W), see :func:`color_words`.
        count: about how many superpixels.
        mirrored: segment the mirror image; a second opinion on the same picture.
    """
    smooth = cv2.GaussianBlur(lab[:, ::-1] if mirrored else lab, (0, 0), 0.8)
    spread = max(float(np.ptp(smooth)), 1e-6)  # slic scales its input to [0, 1]
    labels = skimage.segmentation.slic(
        smooth,
        n_segments=count,
        compactness=_COMPACTNESS / spread,
        max_num_iter=5,
        convert2lab=False,
        start_label=0,
        channel_axis=-1,
    )
    labels = np.ascontiguousarray(labels[:, ::-1] if mirrored else labels)
    return _describe(labels, lab, words)


def _describe(labels: NDArray[np.intp], lab: NDArray[np.float32], words: NDArray[np.intp]) -> Superpixels:
    count, flat = int(labels.max()) + 1, labels.ravel()
    area = np.bincount(flat, minlength=count)

    def mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return (np.bincount(flat, values.ravel(), count) / area).astype(np.float32)

    rows, columns = np.indices(labels.shape)
    box = np.empty((count, 4), np.float32)
    for axis, place in enumerate((columns, rows)):
        order = np.full((2, count), -1)
        np.maximum.at(order[0], flat, place.ravel())
        np.maximum.at(order[1], flat, labels.shape[1 - axis] - 1 - place.ravel())
        box[:, axis], box[:, axis + 2] = labels.shape[1 - axis] - 1 - order[1], order[0] + 1
    border = np.bincount(
        np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]), minlength=count
    )
    size = int(words.max()) + 1
    histogram = np.bincount(flat * size + words.ravel(), minlength=count * size).reshape(count, size)
    edges, length, strength = _boundaries(labels, _gradient(lab))
    ones = np.ones(len(edges), np.float32)
    upper = scipy.sparse.csr_matrix((ones, (edges[:, 0], edges[:, 1])), (count, count))
    return Superpixels(
        labels=labels,
        area=area.astype(np.float32),
        color=np.stack([mean(lab[..., i]) for i in range(3)], 1),
        square=mean(np.square(lab).sum(2)),
        center=np.stack([mean(columns), mean(rows)], 1),
        box=box,
        border=border.astype(np.float32),
        edges=edges,
        length=length,
        strength=strength,
        adjacency=(upper + upper.T).tocsr(),
        words=histogram.astype(np.float32),
    )


def _gradient(lab: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the (H, W) color difference across two pixels."""
    padded = np.pad(cv2.GaussianBlur(lab, (0, 0), 1), ((1, 1), (1, 1), (0, 0)), mode="edge")
    across = np.square(padded[1:-1, 2:] - padded[1:-1, :-2]).sum(2)
    down = np.square(padded[2:, 1:-1] - padded[:-2, 1:-1]).sum(2)
    return np.sqrt(across + down)


def _boundaries(
    labels: NDArray[np.intp], gradient: NDArray[np.float32]
) -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.float32]]:
    """Return the pairs of neighbors, the length of each boundary and the mean gradient along it."""
    count, pairs, values = int(labels.max()) + 1, [], []
    for first, second in (
        (np.s_[:, :-1], np.s_[:, 1:]),
        (np.s_[:-1], np.s_[1:]),
    ):
        a, b = labels[first], labels[second]
        differ = a != b
        pairs.append(np.minimum(a, b)[differ] * count + np.maximum(a, b)[differ])
        values.append(np.maximum(gradient[first], gradient[second])[differ])
    keys, index = np.unique(np.concatenate(pairs), return_inverse=True)
    length = np.bincount(index, minlength=len(keys))
    strength = np.bincount(index, np.concatenate(values), len(keys)) / np.maximum(length, 1)
    return np.stack([keys // count, keys % count], 1), length.astype(np.float32), strength.astype(np.float32)
