"""One image under evaluation: what the metrics share is computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..data.masks import remember_runs
from ..visualization.rank_maps import PAINTERS, paint
from .checks import InputError, check_gt_ranks, check_masks, check_numbers, expect, expect_size
from .group import FloatArray, Group, put_into_groups
from .regions import Regions, draw_regions, regions_of_masks, regions_of_masks_and_map, regions_of_runs
from .segmentations import Rle, rle_runs

_T = TypeVar("_T")


class ImageRuns(NamedTuple):
    """Masks of one image as run lengths (see ``segmentations.rle_runs``) with numbers, all checked.

    Attributes:
        gt, pred: the masks.
        gt_ranks, scores, confidences, labels, gt_labels: as of ``ImageScores``.
        size: (height, width).
    """

    gt: Sequence[NDArray[np.int64]]
    gt_ranks: NDArray[np.int64]
    pred: Sequence[NDArray[np.int64]]
    scores: FloatArray
    confidences: FloatArray | None
    size: tuple[int, int]
    labels: NDArray | None = None
    gt_labels: NDArray | None = None


@dataclass(eq=False)
class ImageScores:
    """Ground truth and predictions of one image, as regions, with everything the variants share.

    Build one with ``from_masks``, ``from_rles`` or ``from_map``.

    Attributes:
        regions: the image cut by all masks.
        gt: (R, G) bool, ground-truth membership.
        gt_ranks: (G,) dense integers, higher = more salient.
        strict, loose: (R, P) bool, prediction membership at > 0.5 and >= 0.5.
        scores: (P,) higher = more salient.
        confidences: (P,) or None.
        is_map: predictions are one painted map, not instances.
        labels, gt_labels: (P,) and (G,) ranks as PPA decodes and reads them, with gaps, for the map ``ppa``
            only; None = ``scores`` and ``gt_ranks``.
        soft: (P, H, W) the masks themselves if they were float, or None.
        maps: gray values (R,) that are given, by painter.
        overlaps: (G + 1, P) as of ``Group``, if they are known.
        place: its place in its group.
    """

    regions: Regions
    gt: NDArray[np.bool_]
    gt_ranks: NDArray[np.int64]
    strict: NDArray[np.bool_]
    loose: NDArray[np.bool_]
    scores: FloatArray
    confidences: FloatArray | None = None
    is_map: bool = False
    labels: NDArray | None = None
    gt_labels: NDArray | None = None
    soft: NDArray[np.floating] | None = None
    maps: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    overlaps: FloatArray | None = None
    place: int = field(default=0, init=False)
    _drawn: dict[str, ImageScores] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def group(self) -> Group:
        """The images with which this one is scored; it alone if it was put into no group."""
        return Group([self])

    @classmethod
    def from_masks(
        cls,
        gt_masks: ArrayLike,
        gt_ranks: ArrayLike,
        pred_masks: ArrayLike,
        pred_scores: ArrayLike,
        pred_confidences: ArrayLike | None = None,
    ) -> ImageScores:
        """Build from mask stacks.

        Args:
            gt_masks: (G, H, W) bool, uint8 holding 0 and 1, or float in [0, 1]; > 0.5 is the object.
            gt_ranks: (G,) dense integers from 0, higher = more salient, ties allowed.
            pred_masks: (P, H, W), types as ``gt_masks``.
            pred_scores: (P,) finite, higher = more salient.
            pred_confidences: (P,) finite; used by the ``conf`` variants only.

        Raises:
            InputError: bad input, in one line.
        """
        gt, pred = check_masks(gt_masks, "gt_masks"), check_masks(pred_masks, "pred_masks")
        size = gt.size or pred.size
        if size is None:
            raise InputError("gt_masks, pred_masks: expected one with a shape (N, H, W), found empty lists")
        if pred.size is not None:
            expect_size(pred.size, size, "pred_masks", "gt_masks")
        loose = [] if pred.loose is pred.strict else [*pred.loose]
        ranks = check_gt_ranks(gt_ranks, len(gt.strict))
        numbers = _check_predictions(len(pred.strict), pred_scores, pred_confidences)
        regions = regions_of_masks([*gt.strict, *pred.strict, *loose], size)
        n_gt, n_pred = len(gt.strict), len(pred.strict)
        own, strict = regions.members[:, :n_gt], regions.members[:, n_gt : n_gt + n_pred]
        image = cls(regions, own, ranks, strict, strict, *numbers, soft=pred.soft)
        if loose:
            image.loose = regions.members[:, -len(loose) :]
        return image

    @classmethod
    def from_rles(
        cls,
        gt_rles: Sequence[Rle],
        gt_ranks: ArrayLike,
        pred_rles: Sequence[Rle],
        pred_scores: ArrayLike,
        size: tuple[int, int],
        pred_confidences: ArrayLike | None = None,
    ) -> ImageScores:
        """Build from COCO run-length masks without decoding them to pixels; exact.

        Args:
            gt_rles, pred_rles: dicts with ``size`` [height, width] and ``counts``.
            size: (height, width).
            gt_ranks, pred_scores, pred_confidences: as in ``from_masks``.
        """
        remember_runs([*gt_rles, *pred_rles])
        gt = [rle_runs(rle, size, f"gt_rles[{place}]") for place, rle in enumerate(gt_rles)]
        pred = [rle_runs(rle, size, f"pred_rles[{place}]") for place, rle in enumerate(pred_rles)]
        ranks = check_gt_ranks(gt_ranks, len(gt))
        numbers = _check_predictions(len(pred), pred_scores, pred_confidences)
        return cls.from_runs([ImageRuns(gt, ranks, pred, *numbers, size)])[0]

    @classmethod
    def from_runs(cls, images: Sequence[ImageRuns]) -> list[ImageScores]:
        """Build images from run lengths."""
        found = []
        regions = regions_of_runs([([*image.gt, *image.pred], image.size) for image in images])
        for own, image in zip(regions, images, strict=True):
            gt, pred = own.members[:, : len(image.gt)], own.members[:, len(image.gt) :]
            numbers = image.scores, image.confidences, False, image.labels, image.gt_labels
            found.append(cls(own, gt, image.gt_ranks, pred, pred, *numbers))
        return found

    @classmethod
    def from_map(
        cls, gt_masks: ArrayLike, gt_ranks: ArrayLike, saliency_map: ArrayLike, *, levels: bool = False
    ) -> ImageScores:
        """Build from ground-truth masks and one painted map.

        Args:
            gt_masks, gt_ranks: as in ``from_masks``.
            saliency_map: (H, W) uint8, 0 = background, brighter = more salient.
            levels: take each distinct nonzero value as one predicted instance, as
                guanhuankang/Saliency-Ranking (scripts/evaluate_map.py) does. Hidden parts of instances are
                lost and instances of equal value merge, so this is not the score of the instances.
        """
        gt, gray = check_masks(gt_masks, "gt_masks"), np.asarray(saliency_map)
        good = gray.ndim == 2 and gray.size and gray.dtype == np.uint8
        expect(good, "saliency_map", "a uint8 map of shape (H, W)", f"{gray.dtype} {gray.shape}")
        size = (int(gray.shape[0]), int(gray.shape[1]))
        if gt.size is not None:
            expect_size(size, gt.size, "saliency_map", "gt_masks")
        ranks = check_gt_ranks(gt_ranks, len(gt.strict))
        regions, values = regions_of_masks_and_map(list(gt.strict), gray, size)
        scores = np.unique(values[values > 0]) if levels else np.zeros(0, np.uint8)
        pred, painted = values[:, None] == scores, {"map": values, "map_n": values}
        numbers = scores.astype(np.float64), np.ones(len(scores))
        return cls(regions, regions.members, ranks, pred, pred, *numbers, not levels, maps=painted)

    def with_scores(self, scores: FloatArray) -> ImageScores:
        """Return the same masks with other prediction scores (P,)."""
        return replace(self, scores=scores)

    def with_predictions(self, kept: NDArray[np.bool_]) -> ImageScores:
        """Return the same image with some of its predictions (P,)."""
        strict = self.strict[:, kept]
        overlaps = self.group.overlaps[self.place, :, : self.n_pred]
        return replace(
            self,
            strict=strict,
            loose=strict if self.loose is self.strict else self.loose[:, kept],
            scores=self.scores[kept],
            confidences=None if self.confidences is None else self.confidences[kept],
            labels=None if self.labels is None else self.labels[kept],
            soft=None if self.soft is None else self.soft[kept],
            overlaps=overlaps[[*range(self.n_gt), -1]][:, kept],
        )

    def as_map(self, painter: str) -> ImageScores:
        """Return the same image with the predictions painted into one map, pixel by pixel."""
        if painter not in self._drawn:
            gt, pred = (
                np.array([self.regions.image(mask) for mask in masks.T]).reshape(-1, *self.regions.size)
                for masks in (self.gt, self.strict)
            )
            labels = self.scores if self.labels is None else self.labels
            image = ImageScores.from_map(gt, self.gt_ranks, paint(pred, labels, painter))
            if self.gt_labels is not None:
                order, values = PAINTERS["gt10"].drawing(self.gt_labels, gt.sum(axis=(1, 2)))
                owner = np.zeros(len(image.gt), np.int64)
                image.maps["gt10"] = draw_regions((order[None], values[None]), image.gt, owner)
            self._drawn[painter] = image
        return self._drawn[painter]

    @property
    def n_gt(self) -> int:
        """G, the number of ground-truth objects."""
        return len(self.gt_ranks)

    @property
    def n_pred(self) -> int:
        """P, the number of predictions."""
        return len(self.scores)

    def shared(self, function: Callable[..., Sequence[_T]], *arguments: Any) -> _T:
        """Return the entry of this image in ``function(group, *arguments)``, computed once for its group."""
        return self.group.once(function, *arguments)[self.place]

    def painted(self, painter: str) -> NDArray[np.uint8]:
        """(R,) gray value of each region in the painted prediction or ground truth."""
        return self.group.painted(painter)[self.group.regions_of(self.place)]

    @property
    def gt_union(self) -> NDArray[np.bool_]:
        """(R,) whether a region lies in any ground-truth mask."""
        return np.logical_or.reduce(self.gt, axis=1)

    def saliency_map(self, painter: str) -> NDArray[np.uint8]:
        """The painted (H, W) map itself; "map" = the given one."""
        return self.regions.image(self.painted(painter))


def grouped(found: Sequence[ImageScores | ImageRuns]) -> list[ImageScores]:
    """Return images from maps as they are and others from run lengths, those of each kind in groups."""
    built = ImageScores.from_runs([image for image in found if isinstance(image, ImageRuns)])
    put_into_groups(built)
    put_into_groups([image for image in found if isinstance(image, ImageScores)])
    rest = iter(built)
    return [image if isinstance(image, ImageScores) else next(rest) for image in found]


def _check_predictions(
    count: int, scores: ArrayLike, confidences: ArrayLike | None
) -> tuple[FloatArray, FloatArray | None]:
    checked = check_numbers(scores, count, "pred_scores")
    return checked, None if confidences is None else check_numbers(confidences, count, "pred_confidences")
