"""Images that are scored together: what the metrics share is computed for all of them in one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..visualization.rank_maps import PAINTERS
from .regions import draw_regions

if TYPE_CHECKING:
    from .image import ImageScores

FloatArray = NDArray[np.float64]
_MOST_CELLS = 1_000_000  # regions times predictions of a group
_GT_STYLE = {"qagnet_n": "gtn", "map_n": "gtn"}  # painters compared with gtn; all others with gt10


class Group:
    """N images as flat arrays: the R regions of all of them, one image after the other.

    Masks are filled up to the largest number with masks that cover nothing, ranks with -1, and scores with
    -inf.

    Attributes:
        first, counts: (N,) first region and number of regions of each image.
        owner: (R,) image of each region.
        pixels: (R,) pixels of each region.
        gt: (R, G) bool, membership in the ground-truth masks.
        strict, loose: (R, P) bool, membership in the predictions at > 0.5 and >= 0.5.
        n_gt, n_pred: (N,) number of masks of each image.
        gt_ranks: (N, G) int64.
        scores: (N, P) float64.
        maps: (R,) gray values that the images hold, by painter.
    """

    def __init__(self, images: Sequence[ImageScores]) -> None:
        """
        Args:
            images: all with instances or all with maps. Each belongs to its latest group.
        """
        self.counts = np.array([len(image.regions.pixels) for image in images])
        self.first = np.cumsum(self.counts) - self.counts
        self.owner = np.repeat(np.arange(len(images)), self.counts)
        self.pixels = np.concatenate([image.regions.pixels for image in images]).astype(np.float64)
        self.gt = self._members([image.gt for image in images])
        self.strict = self._members([image.strict for image in images])
        soft = any(image.loose is not image.strict for image in images)
        self.loose = self._members([image.loose for image in images]) if soft else self.strict
        self.n_gt = np.array([image.n_gt for image in images])
        self.n_pred = np.array([image.n_pred for image in images])
        self.gt_ranks = np.full((len(images), self.gt.shape[1]), -1, np.int64)
        self.scores = np.full((len(images), self.strict.shape[1]), -np.inf)
        for place, image in enumerate(images):
            self.gt_ranks[place, : image.n_gt] = image.gt_ranks
            self.scores[place, : image.n_pred] = image.scores
            image.group, image.place = self, place
        self.maps = {
            painter: np.concatenate([image.maps[painter] for image in images]) for painter in images[0].maps
        }
        self._overlaps = [image.overlaps for image in images]
        self._results: dict[Any, Any] = {}

    def __len__(self) -> int:
        """N."""
        return len(self.counts)

    def _members(self, masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.bool_]:
        """Put memberships (R_n, K_n) of each image one after the other: (R, max(1, K))."""
        members = np.zeros((len(self.owner), max(1, *(own.shape[1] for own in masks))), np.bool_)
        for first, own in zip(self.first.tolist(), masks, strict=True):
            members[first : first + len(own), : own.shape[1]] = own
        return members

    def once(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return ``function(self, *arguments)``, computed once for all rules and images that need it."""
        key = (function, *arguments)
        if key not in self._results:
            self._results[key] = function(self, *arguments)
        return self._results[key]

    def total(self, values: NDArray) -> NDArray:
        """Return the sum (N, ...) over the regions of each image of values (R, ...)."""
        return np.add.reduceat(values, self.first, axis=0)

    def regions_of(self, place: int) -> slice:
        """Return the regions of an image."""
        first = int(self.first[place])
        return slice(first, first + int(self.counts[place]))

    @cached_property
    def n_pixels(self) -> FloatArray:
        """(N,) height * width."""
        return self.total(self.pixels)

    @cached_property
    def weighted_gt(self) -> FloatArray:
        """(R, G) pixels of each region inside each ground-truth mask."""
        return self.gt * self.pixels[:, None]

    @cached_property
    def gt_areas(self) -> FloatArray:
        """(N, G) pixels."""
        return self.total(self.weighted_gt)

    @cached_property
    def overlaps(self) -> FloatArray:
        """(N, G + 1, P) pixels of each prediction inside each ground-truth mask and, last, in all; > 0.5."""
        found = np.zeros((len(self), self.gt.shape[1] + 1, self.strict.shape[1]))
        for place, known in enumerate(self._overlaps):
            if known is None:
                part = self.regions_of(place)
                sides = np.column_stack([self.weighted_gt[part], self.pixels[part]])
                found[place] = sides.T @ self.strict[part]
            else:
                n_gt, n_pred = self.n_gt[place], self.n_pred[place]
                found[place, :n_gt, :n_pred], found[place, -1, :n_pred] = known[:n_gt], known[-1]
        return found

    @property
    def pred_areas(self) -> FloatArray:
        """(N, P) pixels of the masks at > 0.5."""
        return self.overlaps[:, -1]

    @property
    def intersections(self) -> FloatArray:
        """(N, G, P) pixels, masks at > 0.5."""
        return self.overlaps[:, :-1]

    @cached_property
    def unions(self) -> FloatArray:
        """(N, G, P) pixels, masks at > 0.5."""
        return self.gt_areas[:, :, None] + self.pred_areas[:, None] - self.intersections

    @cached_property
    def iou(self) -> FloatArray:
        """(N, G, P) intersection over union; 0 for two empty masks."""
        return self.intersections / np.maximum(self.unions, 1)

    @cached_property
    def ordered_iou_eps(self) -> FloatArray:
        """(N, G, P) intersection / (union + 1e-6), as SeqRank and SR compute it.

        Both sides from the most to the least salient; ties in list order.
        """
        overlap = self.intersections / (self.unions + 1e-6)
        for axis, values in ((1, self.gt_ranks[:, :, None]), (2, self.scores[:, None])):
            overlap = np.take_along_axis(overlap, np.argsort(-values, axis=axis, kind="stable"), axis)
        return overlap

    def trimmed(self, values: NDArray) -> list[list[Any]]:
        """Return values (N, G) or (N, G, P) as lists without what fills them up."""
        lists = values.tolist()
        for place, (n_gt, n_pred) in enumerate(zip(self.n_gt.tolist(), self.n_pred.tolist(), strict=True)):
            rows = lists[place][:n_gt]
            lists[place] = rows if values.ndim == 2 else [row[:n_pred] for row in rows]
        return lists

    def painted(self, painter: str) -> NDArray[np.uint8]:
        """(R,) gray value of each region in the painted predictions or ground truth."""
        return self.once(_paint, painter)

    def painted_gt(self, painter: str) -> NDArray[np.uint8]:
        """(R,) gray value of each region in the ground-truth map that goes with a prediction painter."""
        return self.painted(_GT_STYLE.get(painter, "gt10"))


def _paint(group: Group, painter: str) -> NDArray[np.uint8]:
    if painter in group.maps:
        return group.maps[painter]
    how = PAINTERS[painter]
    if how.of_gt:
        ranks = np.where(group.gt_ranks < 0, -np.inf, group.gt_ranks)
        return draw_regions(how.drawing(ranks, group.gt_areas), group.gt, group.owner)
    drawing = how.drawing(group.scores, group.pred_areas)
    return draw_regions(drawing, group.strict if how.strict else group.loose, group.owner)


def put_into_groups(images: Sequence[ImageScores]) -> None:
    """Put images of one kind into groups that need tens of megabytes at most, but for single large images."""
    first = cells = 0
    for place, image in enumerate(images):
        own = len(image.regions.pixels) * max(1, image.n_pred)
        if place > first and cells + own > _MOST_CELLS:
            Group(images[first:place])
            first, cells = place, 0
        cells += own
    if first < len(images):
        Group(images[first:])
