"""Mask2Former that ranks the objects of its queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor
from torch.nn import functional as F

from ..ranking import (
    QueryRankingHead,
    RankingOptions,
    build_query_head,
    ground_truth_ranks,
    logit_losses,
    rank_objects,
    set_fields,
)
from .decoder import QueryPredictions
from .instances import mask_boxes, resize_masks
from .meta_arch import Mask2Former, MaskOutput

__all__ = ["RankingMask2Former", "kept_by_mask_nms"]


def kept_by_mask_nms(masks: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Return which masks of each image no better one covers.

    Args:
        masks: (B, Q, S) bool.
        scores: (B, Q); masks of a negative score are left out.
        threshold: a mask is dropped whose IoU with a better kept one exceeds it.

    Returns:
        (B, Q) bool.
    """
    order = scores.argsort(dim=1, descending=True, stable=True)
    pixels = masks.gather(1, order[..., None].expand_as(masks)).float()
    with torch.autocast(masks.device.type, enabled=False):  # half precision has no large areas
        common = pixels @ pixels.transpose(1, 2)
    areas = pixels.sum(-1)
    duplicate = common > threshold * (areas[:, None] + areas[..., None] - common)
    kept = scores.gather(1, order) >= 0
    for row in range(1, kept.shape[1]):
        kept[:, row] &= ~(duplicate[:, row, :row] & kept[:, :row]).any(1)
    return torch.zeros_like(kept).scatter(1, order, kept)


@META_ARCH_REGISTRY.register()
class RankingMask2Former(Mask2Former):
    """Mask2Former with the PPA branch on its queries.

    An object is a query whose score reaches the threshold and whose mask no better object has. Its score is
    the probability of its best class times the mean probability inside its mask, at stride 4. The branch
    reads the query, the features inside and around its mask (mask features, the backbone's finest map and the
    colors of the image) and the position of the mask. In training the objects are the queries that the
    criterion matched in the last layer.

    Args:
        sor_head: the ranking head.
        sor_options: of the branch.
        nms_threshold: IoU of masks above which the less confident of two objects is removed; 1: never.
        **segmenter: of :class:`Mask2Former`.
    """

    @configurable
    def __init__(
        self,
        *,
        sor_head: QueryRankingHead,
        sor_options: RankingOptions,
        nms_threshold: float,
        **segmenter: Any,
    ) -> None:
        super().__init__(**segmenter)
        self.sor_head = sor_head
        self.sor_options = sor_options
        self.nms_threshold = nms_threshold

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate a config into arguments."""
        segmenter = super().from_config(cfg)
        finest = segmenter["backbone"].output_shape()[segmenter["pixel_decoder"].finest]
        pooled = cfg.MODEL.SEM_SEG_HEAD.MASK_DIM + finest.channels + len(cfg.MODEL.PIXEL_MEAN)
        return {
            **segmenter,
            "sor_head": build_query_head(cfg, cfg.MODEL.MASK_FORMER.HIDDEN_DIM, pooled),
            "sor_options": RankingOptions.from_config(cfg, published_threshold=0.1),
            "nms_threshold": cfg.MODEL.MASK_FORMER.TEST.NMS_THRESH,
        }

    def losses(self, batched_inputs: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Return the weighted losses of a training batch, and ``sor_loss``."""
        batch = self.batch([item["image"] for item in batched_inputs])
        losses, output, targets, matches = self.segment_and_score(batch, batched_inputs)
        image, query = matches.image[0], matches.query[0]
        ranks = [ground_truth_ranks(item["instances"]).to(self.device) for item in batched_inputs]
        rows, shape = targets.rows(matches), output.last.masks.shape[-2:]
        exact = F.interpolate(targets.masks[rows, None].float(), shape, mode="area")[:, 0]
        # true masks too: early predictions have little to do with the object
        logits, counts = self.rank_logits(output, batch, image, query, exact)
        gt_ranks = torch.cat(ranks)[rows].repeat(2)
        return losses | logit_losses(logits, counts, gt_ranks, self.sor_options)

    def rank_logits(
        self,
        output: MaskOutput,
        batch: ImageList,
        image: Tensor,
        query: Tensor,
        exact: Tensor | None = None,
    ) -> tuple[Tensor, list[int]]:
        """Return the rank logits (N, K) of queries, and their number in each image.

        With ``exact``, the queries are ranked a second time, with these masks: (2 N, K), twice as many
        numbers.

        Args:
            output: of the network.
            batch: its input.
            image: (N,) int64, rising.
            query: (N,) int64 within the image.
            exact: (N, h, w) other masks in [0, 1] than the predicted ones.
        """
        prediction, images = output.last, batch.tensor
        shape = prediction.masks.shape[-2:]
        masks = prediction.masks.detach()[image, query]
        weights = [masks.sigmoid() * ((masks > 0) & self.inside(prediction, batch)[image])]
        if exact is not None:
            weights.append(exact)
        parts = (
            output.pixels.masks,
            output.backbone[self.pixel_decoder.finest],
            F.interpolate(images, shape, mode="area"),
        )
        features = torch.cat(parts, dim=1)
        counts = torch.bincount(image, minlength=len(images)).tolist()
        sizes = torch.tensor(batch.image_sizes, dtype=torch.float32, device=self.device)
        queries = prediction.queries[image, query]
        stride = self.pixel_decoder.stride
        logits = [self.sor_head(queries, w, features, counts, sizes, stride).float() for w in weights]
        return torch.cat(logits), counts * len(weights)

    def inside(self, prediction: QueryPredictions, batch: ImageList) -> Tensor:
        """Return the cells of the masks (B, h, w) bool that are not padding."""
        height, width = prediction.masks.shape[-2:]
        stride, sizes = self.pixel_decoder.stride, torch.tensor(batch.image_sizes, device=self.device)
        rows = torch.arange(height, device=self.device) * stride < sizes[:, :1]
        columns = torch.arange(width, device=self.device) * stride < sizes[:, 1:]
        return rows[:, :, None] & columns[:, None]

    def select(self, prediction: QueryPredictions, batch: ImageList) -> tuple[Tensor, Tensor, Tensor]:
        """Return the score and the class of every query, and which of them are objects; each (B, Q)."""
        confidence, classes = prediction.logits.softmax(-1)[..., :-1].max(-1)
        masks = (prediction.masks > 0) & self.inside(prediction, batch)[:, None]
        areas = masks.sum((2, 3))
        quality = (prediction.masks.sigmoid() * masks).sum((2, 3)) / areas.clamp(min=1)
        scores = confidence * quality
        kept = (scores >= self.score_thresh) & (areas > 0)
        kept &= kept_by_mask_nms(masks.flatten(2), scores.masked_fill(~kept, -1.0), self.nms_threshold)
        return scores, classes, kept

    def instances(self, batch: ImageList, outputs: Sequence[tuple[int, int]]) -> list[Instances]:
        """Return the ranked objects of images of one padded size, the most confident first."""
        output = self.run(batch.tensor, every_layer=False)
        prediction = output.last
        scores, classes, kept = self.select(prediction, batch)
        order = scores.masked_fill(~kept, -1.0).argsort(dim=1, descending=True, stable=True)
        image, row = torch.nonzero(kept.gather(1, order)[:, : self.count]).unbind(1)
        query = order[image, row]
        logits, counts = self.rank_logits(output, batch, image, query)
        results = []
        height, width = batch.tensor.shape[-2:]
        found = zip(query.split(counts), batch.image_sizes, outputs, strict=True)
        for index, (queries, size, target) in enumerate(found):
            masks, _ = resize_masks(prediction.masks[index, queries], (height, width), size, target)
            result = Instances(target, pred_masks=masks, pred_boxes=Boxes(mask_boxes(masks)))
            result.scores, result.pred_classes = scores[index, queries], classes[index, queries]
            results.append(result)
        set_fields(results, rank_objects(logits, counts, self.sor_options).fields())
        # a tiny object may have no pixel at the output size
        return [result[result.pred_masks.flatten(1).any(1)] for result in results]
