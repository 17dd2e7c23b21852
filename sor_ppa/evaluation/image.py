"""One image under evaluation: what the metrics share is computed once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .inputs import check_gt_ranks, check_map, check_masks, check_rles, check_scores, check_size
from .painters import PAINTERS, draw
from .regions import Regions, regions_of_masks, regions_of_masks_and_map, regions_of_runs

FloatArray = NDArray[np.float64]
GT_STYLE = {"qagnet_n": "gtn", "map_n": "gtn"}  # painters compared with gtn; all others with gt10


class ImageScores:
    """Ground truth and predictions of one image, as regions, with everything the variants share.

    Built by ``from_masks``, ``from_rles`` or ``from_map``; ``variants.Variant.score`` reads it.

    Attributes:
        regions: the image cut by all masks.
        gt: (R, G) bool, ground-truth membership.
        strict, loose: (R, P) bool, prediction membership at > 0.5 and >= 0.5.
        gt_ranks: (G,) dense integers, higher = more salient.
        scores: (P,) higher = more salient.
        confidences: (P,) or None.
        is_map: predictions are one painted map, not instances.
    """

    def __init__(
        self,
        regions: Regions,
        gt: NDArray[np.bool_],
        gt_ranks: NDArray[np.int64],
        strict: NDArray[np.bool_],
        loose: NDArray[np.bool_],
        scores: FloatArray,
        confidences: FloatArray | None = None,
        *,
        soft: NDArray[np.floating] | None = None,
        grey: NDArray[np.uint8] | None = None,
    ) -> None:
        self.regions = regions
        self.gt = gt
        self.gt_ranks = gt_ranks
        self.strict = strict
        self.loose = loose
        self.scores = scores
        self.confidences = confidences
        self.is_map = grey is not None
        self._soft = soft
        self._painted: dict[str, NDArray[np.uint8]] = {}
        self._inside: dict[str, tuple[NDArray[np.uint8], FloatArray]] = {}
        if grey is not None:
            self._painted = {"map": grey, "map_n": grey}

    @classmethod
    def from_masks(
        cls,
        gt_masks: ArrayLike,
        gt_ranks: ArrayLike,
        pred_masks: ArrayLike,
        pred_scores: ArrayLike,
        pred_confidences: ArrayLike | None = None,
    ) -> ImageScores:
        """From mask stacks.

        Args:
            gt_masks: (G, H, W) bool, uint8 holding 0 and 1, or float in [0, 1]; > 0.5 is the object.
            gt_ranks: (G,) dense integers from 0, higher = more salient, ties allowed.
            pred_masks: (P, H, W), types as ``gt_masks``.
            pred_scores: (P,) finite, higher = more salient.
            pred_confidences: (P,) finite; only the ``conf`` variants use them.

        Raises:
            ValueError: bad input, in one line.
        """
        gt = check_masks(gt_masks, "gt_masks")
        pred = check_masks(pred_masks, "pred_masks")
        size = check_size(gt, pred)
        n_gt, n_pred = len(gt.strict), len(pred.strict)
        ranks = check_gt_ranks(gt_ranks, n_gt)
        scores = check_scores(pred_scores, n_pred, "pred_scores")
        confidences = None
        if pred_confidences is not None:
            confidences = check_scores(pred_confidences, n_pred, "pred_confidences")
        stacks = [*gt.strict, *pred.strict]
        if pred.loose is not pred.strict:
            stacks += [*pred.loose]
        regions = regions_of_masks(stacks, size)
        strict = regions.members[:, n_gt : n_gt + n_pred]
        loose = regions.members[:, -n_pred:] if pred.loose is not pred.strict else strict
        return cls(
            regions, regions.members[:, :n_gt], ranks, strict, loose, scores, confidences, soft=pred.soft
        )

    @classmethod
    def from_rles(
        cls,
        gt_rles: Sequence[dict[str, Any]],
        gt_ranks: ArrayLike,
        pred_rles: Sequence[dict[str, Any]],
        pred_scores: ArrayLike,
        size: tuple[int, int],
        pred_confidences: ArrayLike | None = None,
    ) -> ImageScores:
        """From COCO run-length masks, which are never decoded; exact.

        Args:
            gt_rles, pred_rles: dicts with ``size`` [height, width] and ``counts``.
            size: (height, width).
            gt_ranks, pred_scores, pred_confidences: as in ``from_masks``.

        Raises:
            ValueError: bad input, in one line.
        """
        runs = [
            *check_rles(gt_rles, size, "gt_rles"),
            *check_rles(pred_rles, size, "pred_rles"),
        ]
        n_gt = len(gt_rles)
        ranks = check_gt_ranks(gt_ranks, n_gt)
        scores = check_scores(pred_scores, len(pred_rles), "pred_scores")
        confidences = None
        if pred_confidences is not None:
            confidences = check_scores(pred_confidences, len(pred_rles), "pred_confidences")
        regions = regions_of_runs(runs, size)
        pred = regions.members[:, n_gt:]
        return cls(regions, regions.members[:, :n_gt], ranks, pred, pred, scores, confidences)

    @classmethod
    def from_map(cls, gt_masks: ArrayLike, gt_ranks: ArrayLike, saliency_map: ArrayLike) -> ImageScores:
        """From ground-truth masks and one painted map.

        Args:
            gt_masks, gt_ranks: as in ``from_masks``.
            saliency_map: (H, W) uint8, 0 = background, brighter = more salient.

        Raises:
            ValueError: bad input, in one line.
        """
        regions, gt, ranks, values = cls._cut_by_map(gt_masks, gt_ranks, saliency_map)
        none = np.zeros((len(values), 0), np.bool_)
        return cls(regions, gt, ranks, none, none, np.zeros(0), grey=values)

    @classmethod
    def from_levels(cls, gt_masks: ArrayLike, gt_ranks: ArrayLike, saliency_map: ArrayLike) -> ImageScores:
        """From ground-truth masks and one painted map whose grey levels are taken for instances.

        Each distinct nonzero value is one predicted instance, brighter = more salient, as
        guanhuankang/Saliency-Ranking (scripts/evaluate_map.py) reads maps. Hidden parts of instances
        are lost and instances of equal value merge, so this is not the score of the instances
        themselves.

        Args:
            gt_masks, gt_ranks, saliency_map: as in ``from_map``.

        Raises:
            ValueError: bad input, in one line.
        """
        regions, gt, ranks, values = cls._cut_by_map(gt_masks, gt_ranks, saliency_map)
        levels = np.unique(values[values > 0])
        members = values[:, None] == levels
        image = cls(regions, gt, ranks, members, members, levels.astype(np.float64), np.ones(len(levels)))
        image._painted["map"] = values
        return image

    @staticmethod
    def _cut_by_map(
        gt_masks: ArrayLike, gt_ranks: ArrayLike, saliency_map: ArrayLike
    ) -> tuple[Regions, NDArray[np.bool_], NDArray[np.int64], NDArray[np.uint8]]:
        gt = check_masks(gt_masks, "gt_masks")
        grey = check_map(saliency_map, "saliency_map")
        size = (int(grey.shape[0]), int(grey.shape[1]))
        if gt.size is not None and gt.size != size:
            raise ValueError(
                f"saliency_map: expected the size of gt_masks, {gt.size[0]} x {gt.size[1]} "
                f"(height x width), found {size[0]} x {size[1]}"
            )
        ranks = check_gt_ranks(gt_ranks, len(gt.strict))
        regions, values = regions_of_masks_and_map(list(gt.strict), grey, size)
        return regions, regions.members, ranks, values

    def with_scores(self, scores: FloatArray) -> ImageScores:
        """The same masks under other prediction scores (P,); regions and IoU are shared."""
        other = ImageScores(
            self.regions,
            self.gt,
            self.gt_ranks,
            self.strict,
            self.loose,
            scores,
            self.confidences,
            soft=self._soft,
        )
        for name in ("gt_areas", "pred_areas", "intersections", "unions"):
            other.__dict__[name] = getattr(self, name)
        return other

    @property
    def n_gt(self) -> int:
        """G, the number of ground-truth objects."""
        return len(self.gt_ranks)

    @property
    def n_pred(self) -> int:
        """P, the number of predictions."""
        return len(self.scores)

    @property
    def n_pixels(self) -> int:
        """H * W."""
        return self.regions.size[0] * self.regions.size[1]

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
        """(R,) grey value of each region in the painted prediction or ground truth."""
        if painter not in self._painted:
            how = PAINTERS[painter]
            if how.of_gt:
                drawing, members = how.drawing(self.gt_ranks, self.gt_areas), self.gt
            else:
                members = self.strict if how.strict else self.loose
                drawing = how.drawing(self.scores, self.pred_areas)
            self._painted[painter] = draw(drawing, members)
        return self._painted[painter]

    def painted_gt(self, painter: str) -> NDArray[np.uint8]:
        """(R,) grey value of each region in the ground-truth map that goes with a prediction painter."""
        return self.painted(GT_STYLE.get(painter, "gt10"))

    def grey_inside(self, painter: str) -> tuple[NDArray[np.uint8], FloatArray]:
        """How often each grey value occurs inside each ground-truth mask.

        Returns:
            Distinct values (V,) in ascending order and pixel counts (G, V).
        """
        if painter not in self._inside:
            grey = self.painted(painter)
            values = np.unique(grey)
            self._inside[painter] = values, self.weighted_gt @ (grey[:, None] == values)
        return self._inside[painter]

    @property
    def gt_union(self) -> NDArray[np.bool_]:
        """(R,) whether a region lies in any ground-truth mask."""
        return np.logical_or.reduce(self.gt, axis=1)

    @cached_property
    def binary_error(self) -> float:
        """Mean |maximum of the raw prediction masks - union of the ground truth| over pixels."""
        gt = self.gt_union
        if self._soft is None:
            wrong = self.regions.pixels[gt != self.strict.any(axis=1)].sum()
        else:
            target = self.regions.image(gt.astype(np.float64))
            merged = self._soft.max(axis=0, initial=0) if len(self._soft) else np.zeros(self.regions.size)
            wrong = np.abs(merged.astype(np.float64) - target).sum()
        return float(wrong) / self.n_pixels

    def saliency_map(self, painter: str) -> NDArray[np.uint8]:
        """The painted (H, W) map itself; "map" = the given one."""
        return self.regions.image(self.painted(painter))
