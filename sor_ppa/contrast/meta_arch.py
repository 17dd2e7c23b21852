"""The training-free ranker as a detectron2 meta-architecture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Boxes, Instances
from numpy.typing import NDArray
from torch import Tensor, nn

from .background import background_probability, optimize_saliency, weighted_contrast
from .candidates import candidate_regions
from .cues import RegionCues, measure_regions, objectness
from .outlines import resize_mask, tighten
from .selection import box_of, select_objects, separate, vote
from .superpixels import Superpixels, color_words, segment, to_lab

__all__ = ["ContrastRanker"]

_LEAST_SIDE = 8  # pixels; nothing is looked for in a picture with a shorter side
_SCALE = 3.0  # of the logistic function from scores to confidences
_MIDDLE = 3.0  # score of confidence 0.5


@dataclass(frozen=True, eq=False)
class _View:
    """One segmentation of a picture, analyzed."""

    pixels: Superpixels
    saliency: NDArray[np.float64]
    regions: RegionCues


@META_ARCH_REGISTRY.register()
class ContrastRanker(nn.Module):
    """Rank the objects of photographs by contrast, without weights and training.

    Background is detected as by Zhu et al. (CVPR 2014). Candidate regions come from trees of merged
    superpixels and from thresholds of the saliency map; they are scored by cues of an object
    (``MODEL.CONTRAST.WEIGHTS``), candidates of several segmentations vote together, and the best that do not
    overlap become objects.

    Inputs are detectron2's list of dicts with ``image`` (3, H, W) in [0, 255] in ``INPUT.FORMAT`` order,
    and optionally ``height`` and ``width`` of the answer. Answers are ``{"instances": Instances}`` with
    ``pred_boxes``, ``scores``, ``pred_classes`` (0), ``pred_masks`` (N, height, width) bool, ``mask_scores``,
    ``pred_ranks`` (int64, higher = more salient) and ``pred_rank_scores`` (float32).
    """

    needs_weights = False

    @configurable
    def __init__(
        self,
        *,
        weights: Mapping[str, float],
        order: Mapping[str, float],
        rgb: bool = False,
        side: int = 400,
        superpixels: int = 400,
        segmentations: int = 2,
        words: int = 24,
        max_objects: int = 5,
        min_score: float = 0.05,
        min_contrast: float = 5.0,
        min_outline: float = 0.3,
        vote_iou: float = 0.6,
        vote_share: float = 0.6,
        nms_iou: float = 0.45,
        band: float = 0.05,
    ) -> None:
        """
        Args:
            weights: of the cues of an object, see ``MODEL.CONTRAST.WEIGHTS``.
            order: weights of saliency, size and center in the order of the objects.
            rgb: whether images are RGB; else BGR.
            side: long side in pixels at which a picture is analyzed.
            superpixels: per segmentation.
            segmentations: how many vote together.
            words: color words.
            max_objects: most objects per picture.
            min_score: least confidence.
            min_contrast: least CIELAB distance between an object and its surround.
            min_outline: least share of an object's outline with an edge.
            vote_iou: box IoU from which candidates vote for one another.
            vote_share: share of the vote in a score.
            nms_iou: box IoU above which the lower of two candidates is dropped.
            band: half width of the band that GrabCut may change, as a fraction of the square root of the
                object's area; 0: no GrabCut.
        """
        super().__init__()
        # Holds no value; it says on which device answers are wanted.
        self.anchor = nn.Parameter(torch.zeros(0), requires_grad=False)
        self.weights, self.order, self.rgb = dict(weights), dict(order), rgb
        self.side, self.superpixels, self.segmentations, self.words = side, superpixels, segmentations, words
        self.max_objects, self.min_score = max_objects, min_score
        self.min_contrast, self.min_outline = min_contrast, min_outline
        self.vote_iou, self.vote_share, self.nms_iou, self.band = vote_iou, vote_share, nms_iou, band

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Return the arguments from ``MODEL.CONTRAST`` and ``INPUT.FORMAT``."""
        node = cfg.MODEL.CONTRAST
        return {
            "weights": dict(node.WEIGHTS),
            "order": dict(node.ORDER),
            "rgb": cfg.INPUT.FORMAT == "RGB",
            "side": node.SIDE,
            "superpixels": node.SUPERPIXELS,
            "segmentations": node.SEGMENTATIONS,
            "words": node.WORDS,
            "max_objects": node.MAX_OBJECTS,
            "min_score": node.MIN_SCORE,
            "min_contrast": node.MIN_CONTRAST,
            "min_outline": node.MIN_OUTLINE,
            "vote_iou": node.VOTE_IOU,
            "vote_share": node.VOTE,
            "nms_iou": node.NMS_IOU,
            "band": node.BAND if node.GRABCUT else 0.0,
        }

    @property
    def device(self) -> torch.device:
        """Where answers are put; the work is done on the CPU."""
        return self.anchor.device

    @torch.no_grad()
    def forward(self, batched_inputs: Sequence[dict[str, Any]]) -> list[dict[str, Instances]]:
        """Return the ranked objects of each picture; see the class."""
        assert not self.training, "ContrastRanker has nothing to train"
        return [{"instances": self._rank(item).to(self.device)} for item in batched_inputs]

    def salience_maps(self, image: Tensor) -> list[Tensor]:
        """Return the saliency of an image (3, H, W) as one (h, w) map in [0, 1] at the analyzed size."""
        bgr = self._picture(image)
        if bgr is None:
            return [torch.zeros(image.shape[-2:])]
        return [torch.from_numpy(_saliency_map(self._views(bgr)))]

    def score_masks(self, image: Tensor, masks: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return rank scores (N,), higher = more salient, of given objects.

        Args:
            image: (3, H, W) as for the model.
            masks: (N, H, W).
        """
        bgr = self._picture(image)
        if bgr is None or not len(masks):
            return np.zeros(len(masks))
        views = self._views(bgr)
        sized = [resize_mask(mask, *bgr.shape[:2]) for mask in masks]
        scores = [objectness(_regions_of(view.pixels, sized), self.weights) for view in views]
        return np.mean(scores, axis=0) + self._place(sized, _saliency_map(views))

    def _rank(self, item: dict[str, Any]) -> Instances:
        image = item["image"]
        height, width = int(item.get("height", image.shape[-2])), int(item.get("width", image.shape[-1]))
        bgr = self._picture(image)
        masks, scores, ranks = self._objects(bgr) if bgr is not None else ([], np.zeros(0), np.zeros(0))
        sized = [resize_mask(mask, height, width) for mask in masks]
        keep = [i for i, mask in enumerate(sized) if mask.any()]
        pixels = np.stack([sized[i] for i in keep]) if keep else np.zeros((0, height, width), bool)
        rank_scores = torch.as_tensor(ranks[keep], dtype=torch.float32)
        result = Instances((height, width))
        result.pred_boxes = Boxes(
            torch.tensor([box_of(mask) for mask in pixels], dtype=torch.float32).reshape(-1, 4)
        )
        result.scores = torch.as_tensor(scores[keep], dtype=torch.float32)
        result.pred_classes = torch.zeros(len(keep), dtype=torch.int64)
        result.pred_masks = torch.from_numpy(pixels)
        result.mask_scores = result.scores.clone()
        result.pred_ranks = rank_scores.argsort(stable=True).argsort()
        result.pred_rank_scores = rank_scores
        return result

    def _picture(self, image: Tensor) -> NDArray[np.uint8] | None:
        """Return an image at the analyzed size, (h, w, 3) uint8 BGR; None where it is too small."""
        pixels = image.detach().cpu().permute(1, 2, 0).clamp(0, 255).to(torch.uint8).numpy()
        height, width = pixels.shape[:2]
        scale = self.side / max(height, width)
        size = (round(width * scale), round(height * scale))
        if min(height, width, *size) < _LEAST_SIDE:
            return None
        bgr = np.ascontiguousarray(pixels[:, :, ::-1] if self.rgb else pixels)
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(bgr, size, interpolation=how), np.uint8)

    def _views(self, bgr: NDArray[np.uint8]) -> list[_View]:
        lab = to_lab(bgr)
        words = color_words(lab, self.words)
        views = []
        for index in range(self.segmentations):
            pixels = segment(lab, words, self.superpixels + index // 2 * 50, mirrored=index % 2 == 1)
            background = background_probability(pixels)
            saliency = optimize_saliency(pixels, background, weighted_contrast(pixels, background))
            members = candidate_regions(pixels, saliency, background)
            regions = measure_regions(pixels, members, background, self.min_contrast, self.min_outline)
            views.append(_View(pixels, saliency, regions))
        return views

    def _objects(
        self, bgr: NDArray[np.uint8]
    ) -> tuple[list[NDArray[np.bool_]], NDArray[np.float64], NDArray[np.float64]]:
        """Return (h, w) masks, confidences in (0, 1) and rank scores of the objects."""
        views = self._views(bgr)
        boxes = np.concatenate([view.regions.boxes for view in views])
        scores = np.concatenate([objectness(view.regions, self.weights) for view in views])
        origin = [(view, row) for view in views for row in range(len(view.regions.boxes))]
        if not len(boxes):
            return [], scores, scores
        scores = vote(boxes, scores, self.vote_iou, self.vote_share)
        confidence = 1 / (1 + np.exp((_MIDDLE - scores) / _SCALE))

        def mask(index: int) -> NDArray[np.bool_]:
            view, row = origin[index]
            return view.regions.members[row][view.pixels.labels]

        order = [i for i in np.argsort(-scores, kind="stable") if confidence[i] >= self.min_score]
        chosen, masks = select_objects(boxes, order, mask, self.nms_iou, self.max_objects)
        if not masks:
            return [], scores[:0], scores[:0]
        if self.band > 0:
            masks = [tighten(bgr, m, self.band) for m in masks]
        masks = separate(masks)
        ranks = scores[chosen] + self._place(masks, _saliency_map(views))
        return masks, confidence[chosen], ranks

    def _place(
        self, masks: Sequence[NDArray[np.bool_]], saliency: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Return what mean saliency, size and place add to the rank scores of objects."""
        height, width = saliency.shape
        mean = np.array([saliency[mask].mean() if mask.any() else 0.0 for mask in masks])
        box = np.array([box_of(mask) for mask in masks]) / [width, height, width, height]
        area = (box[:, 2:] - box[:, :2]).prod(1)
        distance = np.linalg.norm((box[:, 2:] + box[:, :2]) / 2 - 0.5, axis=1) / np.sqrt(0.5)
        order = self.order
        return order["SALIENCY"] * mean + order["SIZE"] * np.sqrt(area) - order["CENTER"] * distance


def _regions_of(pixels: Superpixels, masks: Sequence[NDArray[np.bool_]]) -> RegionCues:
    """Return the cues of masks (h, w), each as the superpixels that lie mostly in it, at least one."""
    areas = np.bincount(pixels.labels.ravel())
    shares = np.array([np.bincount(pixels.labels[mask], minlength=len(areas)) for mask in masks]) / areas
    members = shares > 0.5
    members[np.arange(len(masks)), shares.argmax(axis=1)] = True
    background = background_probability(pixels)
    return measure_regions(pixels, members, background, min_contrast=-1.0, min_outline=-1.0)


def _saliency_map(views: Sequence[_View]) -> NDArray[np.float32]:
    """Return the (h, w) mean of the saliency of all segmentations."""
    maps = [view.saliency[view.pixels.labels] for view in views]
    return np.stack(maps).mean(0).astype(np.float32)
