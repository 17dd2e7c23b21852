"""Mask2Former that ranks the objects of its queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import ImageList, Instances
from torch import Tensor
from torch.nn import functional as F

from ..layers.batching import without_padding
from ..ranking import (
    QueryRankingHead,
    RankingOptions,
    build_query_head,
    ground_truth_ranks,
    logit_losses,
    rank_objects,
    set_fields,
)
from ..ranking.decode import pad_by_image
from ..ranking.flat import flat_ranks
from ..ranking.query_head import cells_inside
from .decoder import QueryPredictions
from .instances import resized_instances, with_pixels
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
    valid = scores.gather(1, order) >= 0
    better, kept = (duplicate.tril(-1)).float(), valid
    for _ in range(1, kept.shape[1]):  # one more mask is decided each time
        kept = valid & ~((better @ kept.float()[..., None])[..., 0] > 0)
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

    #: what the masks of :meth:`infer_flat` cover
    export_masks = "image"

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
        self.export_divisibility = self.size_divisibility

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
        sizes = torch.tensor(batch.image_sizes, device=self.device)
        logits, counts = self.rank_logits(output, batch.tensor, sizes, image, query, exact)
        gt_ranks = torch.cat(ranks)[rows].repeat(2)
        return losses | logit_losses(logits, counts, gt_ranks, self.sor_options)

    def rank_logits(
        self,
        output: MaskOutput,
        images: Tensor,
        sizes: Tensor,
        image: Tensor,
        query: Tensor,
        exact: Tensor | None = None,
    ) -> tuple[Tensor, list[int]]:
        """Return the rank logits (N, K) of queries, and their number in each image.

        With ``exact``, the queries are ranked a second time, with these masks: (2 N, K), twice as many
        numbers.

        Args:
            output: of the network.
            images: (B, 3, H, W) its input.
            sizes: (B, 2) int64 heights and widths without padding.
            image: (N,) int64, rising.
            query: (N,) int64 within the image.
            exact: (N, h, w) other masks in [0, 1] than the predicted ones.
        """
        prediction = output.last
        masks = prediction.masks.detach()[image, query]
        weights = [masks.sigmoid() * ((masks > 0) & self.inside(prediction, sizes)[image])]
        if exact is not None:
            weights.append(exact)
        features = self.pooled_features(output, images)
        counts = torch.bincount(image, minlength=len(images)).tolist()
        queries, stride = prediction.queries[image, query], self.pixel_decoder.stride
        logits = []
        for weight in weights:
            padded, valid = pad_by_image(weight, counts)
            pooled = self.sor_head.read(padded, features, sizes, stride)[valid]
            logits.append(self.sor_head(queries, pooled, counts).float())
        return torch.cat(logits), counts * len(weights)

    def pooled_features(self, output: MaskOutput, images: Tensor) -> Tensor:
        """Return what the branch averages in masks, (B, F, h, w)."""
        colors = F.interpolate(images, output.pixels.masks.shape[-2:], mode="area")
        return torch.cat((output.pixels.masks, output.backbone[self.pixel_decoder.finest], colors), dim=1)

    def inside(self, prediction: QueryPredictions, sizes: Tensor) -> Tensor:
        """Return the cells of the masks (B, h, w) bool that are not padding in images of sizes (B, 2)."""
        return cells_inside(prediction.masks, sizes, self.pixel_decoder.stride)

    def select(self, prediction: QueryPredictions, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return image and query (N,) of each object, images in order, the most confident object first.

        Also the score and the class of every query (B, Q).
        """
        confidence, classes = prediction.logits.softmax(-1)[..., :-1].max(-1)
        masks = (prediction.masks > 0) & self.inside(prediction, sizes)[:, None]
        areas = masks.sum((2, 3))
        quality = (prediction.masks.sigmoid() * masks).sum((2, 3)) / areas.clamp(min=1)
        scores = confidence * quality
        kept = (scores >= self.score_thresh) & (areas > 0)
        kept = kept & kept_by_mask_nms(masks.flatten(2), scores.masked_fill(~kept, -1.0), self.nms_threshold)
        order = scores.masked_fill(~kept, -1.0).argsort(dim=1, descending=True, stable=True)
        image, row = torch.nonzero(kept.gather(1, order)[:, : self.count]).unbind(1)
        return image, order[image, row], scores, classes

    def infer_flat(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Return the predictions for a batch as flat tensors, in a form for export.

        Args:
            images: (B, 3, H, W) float32 in 0..255, padded at the right and the bottom with anything to
                multiples of ``size_divisibility``.
            sizes: (B, 2) int64 height and width without padding.

        Returns:
            ``image_index``, ``scores``, ``classes`` and the ranks of N objects as of
            :func:`~sor_ppa.ranking.flat.flat_predictions`; ``masks`` (N, 1, h, w) are logits of the whole
            padded image. Boxes are those of the masks at the output size.
        """
        images = without_padding((images - self.pixel_mean) / self.pixel_std, sizes)
        output = self.run(images, every_layer=False)
        prediction = output.last
        image, query, scores, classes = self.select(prediction, sizes)
        masks = prediction.masks
        weights = masks.sigmoid() * ((masks > 0) & self.inside(prediction, sizes)[:, None])
        features = self.pooled_features(output, images)
        pooled = self.sor_head.read(weights, features, sizes, self.pixel_decoder.stride)
        rows = (F.pad(x[image, query], (0, 0, 0, 1)) for x in (prediction.queries, pooled))
        objects = self.sor_head.describe(*rows)
        index = F.pad(image, (0, 1), value=-1)
        return {
            "image_index": image,
            "scores": scores[image, query],
            "classes": classes[image, query],
            "masks": masks[image, query][:, None],
            **flat_ranks(self.sor_head, objects, index, images.shape[0], self.sor_options),
        }

    def instances(self, batch: ImageList, outputs: Sequence[tuple[int, int]]) -> list[Instances]:
        """Return the ranked objects of images of one padded size, the most confident first."""
        output = self.run(batch.tensor, every_layer=False)
        prediction = output.last
        sizes = torch.tensor(batch.image_sizes, device=self.device)
        image, query, scores, classes = self.select(prediction, sizes)
        logits, counts = self.rank_logits(output, batch.tensor, sizes, image, query)
        padded = batch.tensor.shape[-2], batch.tensor.shape[-1]
        results = [
            resized_instances(
                prediction.masks[index, queries],
                padded,
                size,
                target,
                scores=scores[index, queries],
                pred_classes=classes[index, queries],
            )
            for index, (queries, size, target) in enumerate(
                zip(query.split(counts), batch.image_sizes, outputs, strict=True)
            )
        ]
        set_fields(results, rank_objects(logits, counts, self.sor_options).fields())
        return [with_pixels(result) for result in results]
