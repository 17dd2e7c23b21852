"""Test-time augmentation: one result for an image from several resized and flipped views of it.

Each view is detected separately. Detections of one object in several views are fused: boxes and confidences
are averaged (weighted boxes fusion, Solovyev et al. 2021), and objects that fewer than half of the views see
are dropped. The fused boxes then go to the mask and ranking heads of every view, on the features computed
before. Mask probabilities, mask scores and rank logits of an object are averaged, and ranks are decoded once,
from the averaged logits, so all views rank the same objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances, pairwise_iou
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torchvision.ops import batched_nms

from .building import DetectorWrapper
from .config import ConfigError
from .pictures import resize_shortest_edge
from .ranking import rank_objects, set_fields

__all__ = ["AugmentedRanker", "View", "fuse", "unresized", "views_from_config", "with_views"]


@dataclass(frozen=True)
class View:
    """A resized and possibly flipped copy of an image."""

    short_side: int  # in pixels; 0 keeps the size of the image
    max_side: int  # limit of the long side in pixels
    flip: bool  # horizontally


def views_from_config(cfg: CfgNode) -> list[View]:
    """Return the views of ``TEST.AUG``; see the comments of these keys."""
    options = cfg.TEST.AUG
    if options.MIN_SIZES:
        pairs = [(size, options.MAX_SIZE) for size in options.MIN_SIZES]
    else:
        base, limit = cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST
        pairs = [(round(base * scale), round(limit * scale)) for scale in options.SCALES]
    assert pairs
    return [View(*pair, flip) for pair in pairs for flip in ((False, True) if options.FLIP else (False,))]


def unresized(cfg: CfgNode) -> CfgNode:
    """Return a config whose mappers do not resize for testing if ``TEST.AUG.ENABLED``, else ``cfg``."""
    if not cfg.TEST.AUG.ENABLED:
        return cfg
    cfg = cfg.clone()
    cfg.defrost()
    cfg.INPUT.MIN_SIZE_TEST = 0
    return cfg


def fuse(
    boxes: Tensor, scores: Tensor, classes: Tensor, view: Tensor, views: int, threshold: float, limit: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Fuse the detections of one image in several views by overlap.

    Each detection that survives non-maximum suppression starts a cluster; every other detection joins the
    cluster that it overlaps most. The box of a cluster is the mean of its boxes, weighted by confidence. Its
    confidence is the mean over all views of the best score in the view, 0 where a view has no detection.

    Args:
        boxes: (N, 4) XYXY in pixels of the image.
        scores: (N,).
        classes: (N,) int64.
        view: (N,) int64, the view that each comes from.
        views: number of views.
        threshold: IoU from which two detections are one object.
        limit: keep so many clusters, the most confident; 0 keeps all.

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


class AugmentedRanker(DetectorWrapper):
    """A detector applied to several views of each image; inputs and outputs are those of the detector.

    Args:
        detector: has ``detect(inputs)``, which returns features and detections of images of one padded size,
            and ``roi_heads`` with ``forward_with_given_boxes`` and ``ranking``.
        views: of each image.
        threshold, limit: see :func:`fuse`.
        min_score: fused detections below this confidence are dropped before ranking.
    """

    #: images are to be given in their own size
    resizes_images = True

    def __init__(
        self, detector: nn.Module, views: Sequence[View], threshold: float, limit: int, min_score: float = 0.0
    ) -> None:
        super().__init__(detector)
        self.views = list(views)
        self.threshold = threshold
        self.limit = limit
        self.min_score = min_score

    @torch.no_grad()
    def forward(self, batched_inputs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rank the objects of images.

        Args:
            batched_inputs: per image ``image`` (3, H, W) with values of uint8, not resized, and optionally
                ``height`` and ``width`` of the result.
        """
        return [{"instances": self._one(item)} for item in batched_inputs]

    def _one(self, item: dict[str, Any]) -> Instances:
        picture = np.ascontiguousarray(item["image"].to(torch.uint8).cpu().numpy().transpose(1, 2, 0))
        height = int(item.get("height") or picture.shape[0])
        width = int(item.get("width") or picture.shape[1])
        groups = _resized_views(picture, self.views)
        if [flips for _, flips in groups] == [[False]]:
            # Exactly the result without augmentation, not rounded by scaling boxes back and forth.
            alone = {"image": groups[0][0], "height": height, "width": width}
            return self.detector([alone])[0]["instances"]

        detector: Any = self.detector
        seen = []  # per size: features, flips, size
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        for image, flips in groups:
            rows, columns = image.shape[-2:]
            copies = [{"image": image.flip(-1) if flip else image} for flip in flips]
            features, found = detector.detect(copies)
            seen.append((features, flips, (rows, columns)))
            for flip, instances in zip(flips, found, strict=True):
                boxes = instances.pred_boxes.tensor
                boxes = _mirrored_boxes(boxes, columns) if flip else boxes
                scale = boxes.new_tensor([width / columns, height / rows] * 2)
                parts.append((boxes * scale, instances.scores, instances.pred_classes))

        view = torch.cat([torch.full_like(part[2], number) for number, part in enumerate(parts)])
        boxes, scores, classes = (torch.cat(columns) for columns in zip(*parts, strict=True))
        boxes, scores, classes = fuse(boxes, scores, classes, view, len(parts), self.threshold, self.limit)
        kept = scores >= self.min_score
        boxes, scores, classes = boxes[kept], scores[kept], classes[kept]

        every: list[Instances] = []
        for features, flips, (rows, columns) in seen:
            scaled = boxes * boxes.new_tensor([columns / width, rows / height] * 2)
            given = []
            for flip in flips:
                own = Boxes(_mirrored_boxes(scaled, columns) if flip else scaled)
                given.append(Instances((rows, columns), pred_boxes=own, scores=scores, pred_classes=classes))
            answers = detector.roi_heads.forward_with_given_boxes(features, given)
            for flip, instances in zip(flips, answers, strict=True):
                if flip:
                    instances.pred_masks = instances.pred_masks.flip(-1)
                every.append(instances)

        result = Instances((height, width), pred_boxes=Boxes(boxes), scores=scores, pred_classes=classes)
        for field in ("pred_masks", "mask_scores", "pred_rank_logits"):
            if every[0].has(field):
                result.set(field, torch.stack([instances.get(field) for instances in every]).mean(0))
        if result.has("pred_rank_logits"):
            ranked = rank_objects(result.pred_rank_logits, [len(boxes)], detector.roi_heads.ranking)
            set_fields([result], ranked.fields())
        return detector_postprocess(result, height, width)


def _resized_views(picture: np.ndarray, views: Sequence[View]) -> list[tuple[Tensor, list[bool]]]:
    """Resize an image (H, W, 3) uint8 for all views, as detectron2's loaders do.

    Returns:
        Per size (3, h, w) uint8, not flipped, and the ``flip`` values of its views. Equal views, such as two
        that ``max_side`` limits to one size, count once.
    """
    sizes: dict[tuple[int, ...], tuple[Tensor, set[bool]]] = {}
    for view in views:
        resized = resize_shortest_edge(picture, view.short_side, view.max_side)
        image = torch.from_numpy(np.array(resized.transpose(2, 0, 1), order="C"))
        sizes.setdefault(resized.shape, (image, set()))[1].add(view.flip)
    return [(image, sorted(flips)) for image, flips in sizes.values()]


def _mirrored_boxes(boxes: Tensor, width: int) -> Tensor:
    """Flip (N, 4) XYXY boxes of an image of that width horizontally."""
    x1, y1, x2, y2 = boxes.unbind(1)
    return torch.stack([width - x2, y1, width - x1, y2], dim=1)


def with_views(cfg: CfgNode, detector: nn.Module, min_score: float = 0.0) -> nn.Module:
    """Wrap a detector for the views of ``TEST.AUG``; return it unchanged if that is not enabled.

    Args:
        cfg: the detector's config.
        detector: wrapped for distributed training or not.
        min_score: see :class:`AugmentedRanker`.

    Raises:
        ConfigError: the model cannot segment and rank given boxes.
    """
    options = cfg.TEST.AUG
    if not options.ENABLED:
        return detector
    inner: Any = detector.module if isinstance(detector, DistributedDataParallel) else detector
    if not hasattr(inner, "detect") or not hasattr(getattr(inner, "roi_heads", None), "sor_head"):
        kind, heads = cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.ROI_HEADS.NAME
        raise ConfigError(
            f"TEST.AUG.ENABLED: expected False for MODEL.META_ARCHITECTURE {kind} with MODEL.ROI_HEADS.NAME "
            f"{heads}, which does not segment and rank given boxes, found True"
        )
    return AugmentedRanker(
        inner, views_from_config(cfg), options.FUSION_IOU, cfg.TEST.DETECTIONS_PER_IMAGE, min_score
    ).train(detector.training)
