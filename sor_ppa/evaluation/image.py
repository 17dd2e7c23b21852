"""One image under evaluation: what the metrics share is computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..visualization.rank_maps import PAINTERS, paint
from .checks import InputError, check_gt_ranks, check_masks, check_numbers, expect, expect_size
from .regions import Regions, draw_regions, regions_of_masks, regions_of_masks_and_map, regions_of_runs
from .segmentations import Rle, rle_runs

FloatArray = NDArray[np.float64]
_T = TypeVar("_T")
GT_STYLE = {"qagnet_n": "gtn", "map_n": "gtn"}  # painters compared with gtn; all others with gt10


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
    _soft: NDArray[np.floating] | None = None
    _painted: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    _shared: dict[Any, Any] = field(default_factory=dict)
    _maps: dict[str, ImageScores] = field(default_factory=dict)

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
        image = cls(regions, own, ranks, strict, strict, *numbers, _soft=pred.soft)
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
        gt = [rle_runs(rle, size, f"gt_rles[{place}]") for place, rle in enumerate(gt_rles)]
        pred = [rle_runs(rle, size, f"pred_rles[{place}]") for place, rle in enumerate(pred_rles)]
        ranks = check_gt_ranks(gt_ranks, len(gt))
        return cls.from_runs(
            gt, ranks, pred, *_check_predictions(len(pred), pred_scores, pred_confidences), size
        )

    @classmethod
    def from_runs(
        cls,
        gt_runs: Sequence[NDArray[np.int64]],
        gt_ranks: NDArray[np.int64],
        pred_runs: Sequence[NDArray[np.int64]],
        pred_scores: FloatArray,
        pred_confidences: FloatArray | None,
        size: tuple[int, int],
    ) -> ImageScores:
        """Build from run lengths (see ``segmentations.rle_runs``) and numbers that are checked already."""
        regions = regions_of_runs([*gt_runs, *pred_runs], size)
        gt, pred = regions.members[:, : len(gt_runs)], regions.members[:, len(gt_runs) :]
        return cls(regions, gt, gt_ranks, pred, pred, pred_scores, pred_confidences)

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
        return cls(regions, regions.members, ranks, pred, pred, *numbers, not levels, _painted=painted)

    def with_scores(self, scores: FloatArray) -> ImageScores:
        """Return the same masks with other prediction scores (P,); regions and IoU are shared."""
        assert self.unions is not None  # computes what is shared
        other = copy(self)
        other.scores, other._painted, other._shared, other._maps = scores, {}, {}, {}
        other.__dict__.pop("pred_order", None)
        return other

    def with_predictions(self, kept: NDArray[np.bool_]) -> ImageScores:
        """Return the same image with some of its predictions (P,); regions and IoU are shared."""
        assert self.unions is not None  # computes what is shared
        other = copy(self)
        other._painted = {name: gray for name, gray in self._painted.items() if PAINTERS[name].of_gt}
        other._shared, other._maps = {}, {}
        other.strict, other.loose, other.scores = self.strict[:, kept], self.loose[:, kept], self.scores[kept]
        other.confidences = None if self.confidences is None else self.confidences[kept]
        other.labels = None if self.labels is None else self.labels[kept]
        for name in ("pred_areas", "intersections", "unions", "iou_eps", "pred_order", "mask_error"):
            other.__dict__.pop(name, None)
        other.__dict__["iou"] = self.iou[:, kept]
        return other

    def as_map(self, painter: str) -> ImageScores:
        """Return the same image with the predictions painted into one map, pixel by pixel."""
        if painter not in self._maps:
            gt, pred = (
                np.array([self.regions.image(mask) for mask in masks.T]).reshape(-1, *self.regions.size)
                for masks in (self.gt, self.strict)
            )
            labels = self.scores if self.labels is None else self.labels
            image = ImageScores.from_map(gt, self.gt_ranks, paint(pred, labels, painter))
            if self.gt_labels is not None:
                drawing = PAINTERS["gt10"].drawing(self.gt_labels, image.gt_areas)
                image._painted["gt10"] = draw_regions(drawing, image.gt)
            self._maps[painter] = image
        return self._maps[painter]

    @property
    def n_gt(self) -> int:
        """G, the number of ground-truth objects."""
        return len(self.gt_ranks)

    @property
    def n_pred(self) -> int:
        """P, the number of predictions."""
        return len(self.scores)

    @cached_property
    def weighted_gt(self) -> FloatArray:
        """(G, R): pixels of each region inside each ground-truth mask."""
        return np.ascontiguousarray((self.gt * self.regions.pixels[:, None]).T, dtype=np.float64)

    @cached_property
    def gt_areas(self) -> FloatArray:
        """(G,) pixels."""
        return self.weighted_gt.sum(axis=1)

    @cached_property
    def pred_areas(self) -> FloatArray:
        """(P,) pixels of the masks at > 0.5."""
        return self.regions.pixels.astype(np.float64) @ self.strict

    @cached_property
    def intersections(self) -> FloatArray:
        """(G, P) pixels, masks at > 0.5."""
        return self.weighted_gt @ self.strict

    @cached_property
    def unions(self) -> FloatArray:
        """(G, P) pixels, masks at > 0.5."""
        return self.gt_areas[:, None] + self.pred_areas - self.intersections

    @cached_property
    def iou(self) -> FloatArray:
        """(G, P) intersection over union; 0 for two empty masks."""
        return self.intersections / np.maximum(self.unions, 1)

    @cached_property
    def iou_eps(self) -> FloatArray:
        """(G, P) intersection / (union + 1e-6), as SeqRank and SR compute it."""
        return self.intersections / (self.unions + 1e-6)

    @cached_property
    def gt_order(self) -> NDArray[np.int64]:
        """Indices of the ground truth from most to least salient; ties in list order."""
        return np.argsort(-self.gt_ranks, kind="stable")

    @cached_property
    def pred_order(self) -> NDArray[np.int64]:
        """Indices of the predictions from most to least salient; ties in list order."""
        return np.argsort(-self.scores, kind="stable")

    def painted(self, painter: str) -> NDArray[np.uint8]:
        """(R,) gray value of each region in the painted prediction or ground truth."""
        if painter not in self._painted:
            how = PAINTERS[painter]
            objects = (self.gt_ranks, self.gt_areas) if how.of_gt else (self.scores, self.pred_areas)
            members = self.gt if how.of_gt else self.strict if how.strict else self.loose
            self._painted[painter] = draw_regions(how.drawing(*objects), members)
        return self._painted[painter]

    def painted_gt(self, painter: str) -> NDArray[np.uint8]:
        """(R,) gray value of each region in the ground-truth map that goes with a prediction painter."""
        return self.painted(GT_STYLE.get(painter, "gt10"))

    def once(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Return ``function(self, *arguments)``, computed once for all rules that need it."""
        key = (function, *arguments)
        if key not in self._shared:
            self._shared[key] = function(self, *arguments)
        return self._shared[key]

    @cached_property
    def gt_union(self) -> NDArray[np.bool_]:
        """(R,) whether a region lies in any ground-truth mask."""
        return np.logical_or.reduce(self.gt, axis=1)

    @cached_property
    def mask_error(self) -> float:
        """Mean |maximum of the raw prediction masks - union of the ground truth| over pixels."""
        if self._soft is None or not len(self._soft):
            wrong = self.regions.pixels[self.gt_union != self.strict.any(axis=1)].sum()
        else:
            target = self.regions.image(self.gt_union.astype(np.float64))
            wrong = np.abs(self._soft.max(axis=0).astype(np.float64) - target).sum()
        return float(wrong) / self.regions.n_pixels

    def saliency_map(self, painter: str) -> NDArray[np.uint8]:
        """The painted (H, W) map itself; "map" = the given one."""
        return self.regions.image(self.painted(painter))


def _check_predictions(
    count: int, scores: ArrayLike, confidences: ArrayLike | None
) -> tuple[FloatArray, FloatArray | None]:
    checked = check_numbers(scores, count, "pred_scores")
    return checked, None if confidences is None else check_numbers(confidences, count, "pred_confidences")
