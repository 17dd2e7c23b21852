"""Objects that keep their identity and a steady rank from frame to frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from detectron2.structures import Boxes, pairwise_iou
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from .predictor import RankedImage

__all__ = ["TrackedObject", "Tracker"]


@dataclass(frozen=True)
class TrackedObject:
    """One object of one frame.

    Attributes:
        track: identity, the same number as long as the object is followed.
        rank: steady rank, 1 = most salient; None where the object has none.
        index: of the object in the frame's result.
    """

    track: int
    rank: int | None
    index: int


@dataclass
class _Track:
    number: int
    box: NDArray[np.float64]
    colors: NDArray[np.float32]
    salience: float
    shown: bool
    missed: int = 0


class Tracker:
    """Follow objects by overlap and color, and smooth their ranks.

    Detections are assigned to tracks with the Hungarian algorithm. A pair is worth the mean of the overlap
    (IoU) of the boxes and the similarity of the color histograms; boxes that are far apart do not pair.

    The salience of a track is the moving average of the place of its object, from 1 (first) to 0 (last or not
    ranked). Tracks are ordered by salience. A track overtakes another only by a margin, so that badges do not
    flicker.

    Args:
        smoothing: weight of a new frame in the moving averages, in (0, 1].
        margin: difference of salience by which a track must lead to overtake.
        threshold: least mean of overlap and similarity of a pair, in [0, 1].
        patience: frames after which a track that was not seen ends.
    """

    def __init__(
        self, *, smoothing: float = 0.3, margin: float = 0.1, threshold: float = 0.35, patience: int = 15
    ) -> None:
        assert 0 < smoothing <= 1
        self.smoothing, self.margin = smoothing, margin
        self.threshold, self.patience = threshold, patience
        self._tracks: list[_Track] = []  # in the order of the last frame
        self._next = 1

    def update(self, result: RankedImage, picture: NDArray[np.uint8]) -> list[TrackedObject]:
        """Assign the objects of the next frame.

        Args:
            result: of the frame.
            picture: (H, W, 3) uint8, the frame.

        Returns:
            One entry an object, in the order of the result.
        """
        boxes = np.array([o.box for o in result.objects], np.float64).reshape(-1, 4)
        colors = _histograms(picture, result.masks)
        ranks = [o.rank for o in result.objects]
        ranked = sum(rank is not None for rank in ranks)
        salience = [0.0 if rank is None else 1 - (rank - 1) / ranked for rank in ranks]

        seen = dict(self._assign(boxes, colors))
        for track in self._tracks:
            track.missed += 1
        for index in range(len(boxes)):
            if index not in seen:
                seen[index] = _Track(self._next, boxes[index], colors[index], salience[index], False)
                self._tracks.append(seen[index])
                self._next += 1
            track = seen[index]
            track.box, track.missed, track.shown = boxes[index], 0, ranks[index] is not None
            track.colors = track.colors + self.smoothing * (colors[index] - track.colors)
            track.salience += self.smoothing * (salience[index] - track.salience)
        self._tracks = [track for track in self._tracks if track.missed <= self.patience]
        self._order()
        present = [track.number for track in self._tracks if track.missed == 0 and track.shown]
        places = {number: place for place, number in enumerate(present, 1)}
        return [
            TrackedObject(seen[index].number, places.get(seen[index].number), index)
            for index in range(len(boxes))
        ]

    def _assign(self, boxes: NDArray[np.float64], colors: NDArray[np.float32]) -> list[tuple[int, _Track]]:
        if not self._tracks or len(boxes) == 0:
            return []
        known = np.stack([track.box for track in self._tracks])
        overlap = pairwise_iou(Boxes(boxes), Boxes(known)).numpy()
        # the Bhattacharyya coefficient: 1 for equal histograms, 0 for disjoint ones
        similar = np.sqrt(colors) @ np.sqrt(np.stack([track.colors for track in self._tracks])).T
        likeness = np.where(_near(boxes, known), (overlap + similar) / 2, 0)
        rows, columns = linear_sum_assignment(likeness, maximize=True)
        return [
            (int(row), self._tracks[column])
            for row, column in zip(rows, columns, strict=True)
            if likeness[row, column] >= self.threshold
        ]

    def _order(self) -> None:
        """Insertion sort from the last order: a track moves up past those that it leads by the margin."""
        ordered: list[_Track] = []
        for track in self._tracks:
            place = len(ordered)
            while place and track.salience > ordered[place - 1].salience + self.margin:
                place -= 1
            ordered.insert(place, track)
        self._tracks = ordered


def _histograms(picture: NDArray[np.uint8], masks: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Color histogram of each object, (N, 512), sum 1; eight bins a channel."""
    bins = (picture >> 5).astype(np.int32) @ np.array([64, 8, 1], np.int32)
    counts = np.stack([np.bincount(bins[mask], minlength=512) for mask in masks]) if len(masks) else None
    if counts is None:
        return np.zeros((0, 512), np.float32)
    return (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)).astype(np.float32)


def _near(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether the centers of (N, 4) and (M, 4) boxes are within the diagonal of the larger one, (N, M)."""
    centers = [(boxes[:, :2] + boxes[:, 2:]) / 2 for boxes in (first, second)]
    diagonals = [np.linalg.norm(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (first, second)]
    distance = np.linalg.norm(centers[0][:, None] - centers[1][None], axis=2)
    return distance <= np.maximum(diagonals[0][:, None], diagonals[1][None])
