"""Test-time augmentation: one answer for a picture from several resized and flipped views of it.

Each view is detected apart. Detections of one object in several views become one: box and confidence are
averaged (weighted boxes fusion, Solovyev et al. 2021), and what less than half of the views see is dropped.
The fused boxes then go to the mask and ranking heads of every view, on features computed before; mask
probabilities, mask scores and rank logits of an object are averaged, and ranks are decoded once, from the
averaged logits. So all views rank the same objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances, pairwise_iou
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torchvision.ops import batched_nms

from .config import ConfigError
from .ranking import decode_ranks

__all__ = ["AugmentedRanker", "View", "fuse", "unresized", "with_views"]

_MAX_SIDE = 65535  # of a view, in pixels


@dataclass(frozen=True)
class View:
    """One way to look at a picture.

    Attributes:
        short_side: that the picture is resized to, in pixels; 0 leaves its size.
        max_side: that its long side may have.
        flip: left and right exchanged.
    """

    short_side: int
    max_side: int
    flip: bool


def views_from_config(cfg: CfgNode) -> list[View]:
    """``TEST.AUG``: ``MIN_SIZES`` where given, else ``SCALES`` of ``INPUT.MIN_SIZE_TEST``, and ``FLIP``.

    Raises:
        ConfigError: no size at all, or one that is not positive or no size of a picture.
    """
    options = cfg.TEST.AUG
    if options.MIN_SIZES:
        limit = cfg.TEST.AUG.MAX_SIZE
        if limit < 1:
            raise ConfigError(f"TEST.AUG.MAX_SIZE: found {limit}, expected 1 or more")
        sizes = _numbers("TEST.AUG.MIN_SIZES", options.MIN_SIZES, whole=True)
        pairs = [(int(size), limit) for size in sizes]
    else:
        base, limit = cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST
        if base <= 0:
            raise ConfigError(
                f"TEST.AUG.SCALES: found INPUT.MIN_SIZE_TEST {base}, expected a size to scale "
                "(or TEST.AUG.MIN_SIZES)"
            )
        if limit < 1:
            raise ConfigError(f"INPUT.MAX_SIZE_TEST: found {limit}, expected 1 or more")
        scales = _numbers("TEST.AUG.SCALES", options.SCALES, whole=False)
        pairs = [(round(base * scale), round(limit * scale)) for scale in scales]
        if not all(1 <= min(pair) <= _MAX_SIDE for pair in pairs):
            raise ConfigError(
                f"TEST.AUG.SCALES: found {tuple(scales)}, expected 1 to {_MAX_SIDE} pixels "
                f"of INPUT.MIN_SIZE_TEST {base} and MAX_SIZE_TEST {limit}"
            )
    return [View(*pair, flip) for pair in pairs for flip in ((False, True) if options.FLIP else (False,))]


def _numbers(name: str, values: Sequence[Any], *, whole: bool) -> Sequence[Any]:
    """The values of a key, which must be numbers above 0, at least one of them."""
    kinds = (int,) if whole else (int, float)
    usable = all(isinstance(v, kinds) and not isinstance(v, bool) and 0 < v < np.inf for v in values)
    if not values or not usable:
        kind = "whole number" if whole else "number"
        raise ConfigError(f"{name}: found {tuple(values)}, expected at least one {kind}, all positive")
    return values


def unresized(cfg: CfgNode) -> CfgNode:
    """The config by which pictures reach the views as they are, where ``TEST.AUG.ENABLED``."""
    if not cfg.TEST.AUG.ENABLED:
        return cfg
    cfg = cfg.clone()
    cfg.defrost()
    cfg.INPUT.MIN_SIZE_TEST = 0
    return cfg


def fuse(
    boxes: Tensor, scores: Tensor, classes: Tensor, view: Tensor, views: int, threshold: float, limit: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Detections of one picture in several views, joined by overlap.

    The detections that survive non-maximum suppression found the clusters; every detection joins the one
    that it overlaps most. A cluster's box is the mean of its boxes, weighted by confidence; its
    confidence the mean over all views of the view's best, 0 where a view has none.

    Args:
        boxes: (N, 4) XYXY in coordinates of the picture.
        scores: (N,).
        classes: (N,) int64.
        view: (N,) int64, which view each comes from.
        views: how many there are.
        threshold: IoU from which two detections are one object.
        limit: clusters to keep, the most confident; 0 keeps all.

    Returns:
        boxes (M, 4), scores (M,) and classes (M,) of the clusters that at least half of the views see, most
        confident first.
    """
    if len(boxes) == 0:
        return boxes, scores, classes
    founders = batched_nms(boxes.float(), scores.float(), classes, threshold)
    overlap = pairwise_iou(Boxes(boxes), Boxes(boxes[founders]))
    overlap = overlap.masked_fill(classes[:, None] != classes[founders][None], -1.0)
    best, cluster = overlap.max(dim=1)
    cluster[founders] = torch.arange(len(founders), device=boxes.device)
    best[founders] = 1.0
    joined = best >= threshold
    boxes, scores, view, cluster = boxes[joined], scores[joined], view[joined], cluster[joined]

    weight = scores.new_zeros(len(founders)).index_add_(0, cluster, scores)
    mean = boxes.new_zeros(len(founders), 4).index_add_(0, cluster, boxes * scores[:, None])
    by_view = scores.new_zeros(len(founders) * views)
    by_view.scatter_reduce_(0, cluster * views + view, scores, "amax")
    by_view = by_view.view(-1, views)
    kept = torch.nonzero(2 * (by_view > 0).sum(1) >= views).squeeze(1)
    confidence = by_view.mean(1)
    kept = kept[confidence[kept].argsort(descending=True, stable=True)]
    if limit > 0:
        kept = kept[:limit]
    return mean[kept] / weight[kept, None].clamp(min=1e-12), confidence[kept], classes[founders][kept]


class AugmentedRanker(nn.Module):
    """A detector that looks at several views of every picture; takes and returns what the detector does.

    Args:
        detector: with ``detect(inputs)``, which gives the features and detections of images of one padded
            size, and ``roi_heads`` with ``forward_with_given_boxes`` and ``ranking``.
        views: to look at.
        threshold: see :func:`fuse`.
        limit: see :func:`fuse`.
        min_score: fused detections below this confidence are left out before they are ranked.
    """

    def __init__(
        self,
        detector: nn.Module,
        views: Sequence[View],
        threshold: float,
        limit: int,
        min_score: float = 0.0,
    ) -> None:
        super().__init__()
        self.detector = detector
        self.views = list(views)
        self.threshold = threshold
        self.limit = limit
        self.min_score = min_score

    @property
    def backbone(self) -> Any:
        """The detector's backbone, which says how pictures are padded."""
        return self.detector.backbone

    @torch.no_grad()
    def forward(self, batched_inputs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Ranked objects of pictures.

        Args:
            batched_inputs: per picture ``image`` (3, H, W) with values of uint8, not resized, and
                optionally ``height`` and ``width`` of the answer.

        Returns:
            Per picture ``{"instances": Instances}`` at the size of the answer.
        """
        return [{"instances": self._one(item)} for item in batched_inputs]

    def _one(self, item: dict[str, Any]) -> Instances:
        picture = np.ascontiguousarray(item["image"].to(torch.uint8).cpu().numpy().transpose(1, 2, 0))
        height = int(item.get("height") or picture.shape[0])
        width = int(item.get("width") or picture.shape[1])
        groups = _look(picture, self.views)
        count = sum(len(members) for _, members in groups)
        if count == 1 and not groups[0][1][0]:
            # No frame is shared: the plain answer, without the rounding of a way there and back.
            alone = {"image": groups[0][0], "height": height, "width": width}
            return self.detector([alone])[0]["instances"]

        detector: Any = self.detector
        seen = []  # per size: features, flips, size
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        for image, flips in groups:
            rows, columns = image.shape[-2:]
            features, found = detector.detect(
                [{"image": image.flip(-1) if flip else image} for flip in flips]
            )
            seen.append((features, flips, (rows, columns)))
            for flip, instances in zip(flips, found, strict=True):
                boxes = instances.pred_boxes.tensor
                boxes = _mirrored(boxes, columns) if flip else boxes
                scale = boxes.new_tensor([width / columns, height / rows] * 2)
                parts.append((boxes * scale, instances.scores, instances.pred_classes))

        boxes, scores, classes = fuse(
            torch.cat([part[0] for part in parts]),
            torch.cat([part[1] for part in parts]),
            torch.cat([part[2] for part in parts]),
            torch.cat([torch.full_like(part[2], view) for view, part in enumerate(parts)]),
            count,
            self.threshold,
            self.limit,
        )
        kept = scores >= self.min_score
        boxes, scores, classes = boxes[kept], scores[kept], classes[kept]

        masks, mask_scores, logits = [], [], []
        for features, flips, (rows, columns) in seen:
            scaled = boxes * boxes.new_tensor([columns / width, rows / height] * 2)
            given = []
            for flip in flips:
                instances = Instances((rows, columns))
                instances.pred_boxes = Boxes(_mirrored(scaled, columns) if flip else scaled)
                instances.scores, instances.pred_classes = scores, classes
                given.append(instances)
            for flip, instances in zip(
                flips, detector.roi_heads.forward_with_given_boxes(features, given), strict=True
            ):
                masks.append(instances.pred_masks.flip(-1) if flip else instances.pred_masks)
                mask_scores.append(instances.mask_scores)
                if instances.has("pred_rank_logits"):
                    logits.append(instances.pred_rank_logits)

        result = Instances((height, width))
        result.pred_boxes, result.scores, result.pred_classes = Boxes(boxes), scores, classes
        result.pred_masks = torch.stack(masks).mean(0)
        result.mask_scores = torch.stack(mask_scores).mean(0)
        if logits:
            result.pred_rank_logits = torch.stack(logits).mean(0)
            options = detector.roi_heads.ranking
            result.pred_ranks, result.pred_rank_scores = decode_ranks(
                result.pred_rank_logits, [len(boxes)], options.decoder, options.threshold
            )
        return detector_postprocess(result, height, width)


def _look(picture: np.ndarray, views: Sequence[View]) -> list[tuple[Tensor, list[bool]]]:
    """A picture (H, W, 3) uint8 in every size that views ask for, resized as detectron2's loaders do.

    Returns:
        Per size (3, h, w) uint8, not flipped, and whether to look at it flipped, unflipped or both. Views
        that come out alike, such as two limited by ``max_side``, are one.
    """
    sizes: dict[tuple[int, int], tuple[Any, set[bool]]] = {}
    for view in views:
        transform = T.ResizeShortestEdge([view.short_side] * 2, view.max_side).get_transform(picture)
        size = picture.shape[:2]
        if isinstance(transform, T.ResizeTransform):
            # An extreme aspect would round its short side down to nothing.
            size = max(transform.new_h, 1), max(transform.new_w, 1)
            transform = T.ResizeTransform(*picture.shape[:2], *size, transform.interp)
        sizes.setdefault(size, (transform, set()))[1].add(view.flip)
    looks = []
    for transform, flips in sizes.values():
        image = np.array(transform.apply_image(picture).transpose(2, 0, 1), order="C")
        looks.append((torch.from_numpy(image), sorted(flips)))
    return looks


def _mirrored(boxes: Tensor, width: int) -> Tensor:
    """(N, 4) XYXY boxes of an image of that width with left and right exchanged."""
    x1, y1, x2, y2 = boxes.unbind(1)
    return torch.stack([width - x2, y1, width - x1, y2], dim=1)


def with_views(cfg: CfgNode, detector: nn.Module, min_score: float = 0.0) -> nn.Module:
    """The detector with the views that ``TEST.AUG`` asks for; itself where it is not enabled.

    Args:
        cfg: the detector's config.
        detector: built; wrapped for distributed training or not.
        min_score: see :class:`AugmentedRanker`.

    Raises:
        ConfigError: an unusable setting, or a model that does not segment and rank given boxes.
    """
    options = cfg.TEST.AUG
    if not options.ENABLED:
        return detector
    inner: Any = detector.module if isinstance(detector, DistributedDataParallel) else detector
    heads = getattr(inner, "roi_heads", None)
    if not hasattr(inner, "detect") or not hasattr(heads, "sor_head"):
        raise ConfigError(
            f"TEST.AUG.ENABLED: found True with MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE} and "
            f"MODEL.ROI_HEADS.NAME {cfg.MODEL.ROI_HEADS.NAME}, expected a detector that segments and ranks"
        )
    if cfg.MODEL.SALIENCE_DETR.TEST_RESIZE and cfg.MODEL.META_ARCHITECTURE == "RankingSalienceDETR":
        raise ConfigError(
            f"TEST.AUG.ENABLED: found True with MODEL.SALIENCE_DETR.TEST_RESIZE "
            f"{list(cfg.MODEL.SALIENCE_DETR.TEST_RESIZE)}, expected [] (views have sizes of their own)"
        )
    if not 0 < options.FUSION_IOU <= 1:
        raise ConfigError(f"TEST.AUG.FUSION_IOU: found {options.FUSION_IOU}, expected above 0, at most 1")
    return AugmentedRanker(
        inner, views_from_config(cfg), options.FUSION_IOU, cfg.TEST.DETECTIONS_PER_IMAGE, min_score
    ).train(detector.training)
