"""The interface of the ranking branch for detectors: options, position maps, losses, predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from detectron2.config import CfgNode
from detectron2.structures import Instances
from torch import Tensor

from ..layers import mean_over_processes
from .decode import decode_ranks
from .head import RankingHead
from .loss import ranking_loss
from .order import ORDER_LOSSES, Places, predicted_places
from .position import measuring_sizes, position_maps

__all__ = [
    "RankedBatch",
    "RankingOptions",
    "ground_truth_ranks",
    "logit_losses",
    "predict_ranks",
    "pyramid_maps",
    "rank_objects",
    "ranking_losses",
    "set_fields",
]


@dataclass(frozen=True)
class RankingOptions:
    """Settings of the ranking branch outside its network.

    Attributes:
        decoder: "greedy", "all" or "utility"; see :func:`decode_ranks`.
        threshold: probability that a greedy pick must exceed.
        loss: see :func:`~sor_ppa.ranking.loss.ranking_loss`.
        loss_weight: factor of the ranking loss.
        canvas: (height, width) of the published canvas in pixels.
        divisibility: what images are padded to, in pixels.
    """

    decoder: str = "greedy"
    threshold: float = 0.1
    loss: str = "cross_entropy"
    loss_weight: float = 1.0
    canvas: tuple[int, int] = (480, 640)
    divisibility: int = 32

    @classmethod
    def from_config(
        cls, cfg: CfgNode, *, published_threshold: float, divisibility: int = 32
    ) -> RankingOptions:
        """Read ``MODEL.SOR``; a negative ``RANK_THRESH`` means ``published_threshold``."""
        options = cfg.MODEL.SOR
        return cls(
            decoder="utility" if options.LOSS in ORDER_LOSSES else options.DECODE,
            threshold=options.RANK_THRESH if options.RANK_THRESH >= 0 else published_threshold,
            loss=options.LOSS,
            loss_weight=options.LOSS_WEIGHT,
            canvas=(options.TRANSFORMER.IMG_HEIGHT, options.TRANSFORMER.IMG_WIDTH),
            divisibility=divisibility,
        )


@dataclass(frozen=True)
class RankedBatch:
    """Predictions for a batch; the objects of all images form one axis.

    Attributes:
        logits: (N, K).
        ranks: (N,) int64, higher is more salient, -1 without rank.
        scores: (N,) float32, higher is more salient.
        places: the probability of each place.
    """

    logits: Tensor
    ranks: Tensor
    scores: Tensor
    places: Places

    def fields(self) -> dict[str, Tensor]:
        """Return the predictions by the names that ``Instances`` have for them."""
        return {
            "pred_ranks": self.ranks,
            "pred_rank_scores": self.scores,
            "pred_rank_logits": self.logits,
            **self.places.fields(),
        }


def set_fields(instances: Sequence[Instances], fields: dict[str, Tensor]) -> None:
    """Give the instances of each image, in place, their part of fields (N, ...) for the whole batch."""
    for name, values in fields.items():
        for image, part in zip(instances, values.split([len(x) for x in instances]), strict=True):
            image.set(name, part)


def pyramid_maps(
    features: Sequence[Tensor],
    strides: Sequence[int],
    image_sizes: Sequence[tuple[int, int]] | Tensor,
    options: RankingOptions,
) -> list[Tensor]:
    """Return position maps for every level of a pyramid, to be pooled at the boxes.

    Args:
        features: (B, C, H_l, W_l) per level.
        strides: of the levels in pixels.
        image_sizes: (height, width) of each image without padding; or a tensor (B, 2).
        options: for the canvas.

    Returns:
        (B, 2, H_l, W_l) per level, float64 for float64 features, else float32. ROI pooling rounds boxes to
        the type of what it pools, so maps in a lower precision would be sampled at other positions.
    """
    sizes = measuring_sizes(image_sizes, options.canvas, options.divisibility, features[0].device)
    return [
        position_maps(sizes, (f.shape[-2], f.shape[-1]), s).to(torch.promote_types(f.dtype, torch.float32))
        for f, s in zip(features, strides, strict=True)
    ]


def _logits(
    head: RankingHead,
    features: Tensor,
    masks: Tensor,
    maps: Tensor | None,
    boxes: Sequence[Tensor],
    image_sizes: Sequence[tuple[int, int]],
    options: RankingOptions,
) -> tuple[Tensor, list[int]]:
    counts = [len(b) for b in boxes]
    sizes = measuring_sizes(image_sizes, options.canvas, options.divisibility, features.device)
    per_object = sizes.repeat_interleave(torch.tensor(counts, device=features.device), dim=0)
    logits = head(features, masks, maps=maps, boxes=torch.cat(list(boxes)), sizes=per_object, counts=counts)
    return logits.float(), counts


def ground_truth_ranks(targets: Instances) -> Tensor:
    """Return the ranks (N,) int64 of objects in training, -1 where the dataset ranks nothing."""
    return targets.gt_ranks if targets.has("gt_ranks") else torch.full_like(targets.gt_classes, -1)


def ranking_losses(
    head: RankingHead,
    features: Tensor,
    masks: Tensor,
    maps: Tensor | None,
    boxes: Sequence[Tensor],
    image_sizes: Sequence[tuple[int, int]],
    gt_ranks: Tensor,
    options: RankingOptions,
    objects: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return the ranking loss of a training batch: the mean over its ranked proposals, objects or pairs.

    Args:
        head: the ranking head.
        features: (N, C, R, R) pooled features of the positive proposals of all images.
        masks: (N, 1, 2R, 2R) mask probabilities; gradients flow through them, as published.
        maps: (N, 2, R, R) pooled position maps, where the head needs them.
        boxes: per image (N_i, 4) XYXY in pixels.
        image_sizes: per image (height, width) without padding.
        gt_ranks: (N,) int64, higher is more salient; -1 = not ranked.
        options: of the branch.
        objects: (N,) int64, the object of each proposal, numbered within its image; None: all differ.

    Returns:
        ``{"sor_loss": scalar}``; zero, with gradients, where nothing is ranked.
    """
    logits, counts = _logits(head, features, masks, maps, boxes, image_sizes, options)
    return logit_losses(logits, counts, gt_ranks, options, objects)


def logit_losses(
    logits: Tensor,
    counts: Sequence[int],
    gt_ranks: Tensor,
    options: RankingOptions,
    objects: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return :func:`ranking_losses` of logits (N, K) of the objects of several images, ``counts`` of each."""
    total, number = ranking_loss(logits, gt_ranks, counts, options.loss, objects)
    return {"sor_loss": total / mean_over_processes(number).clamp(min=1) * options.loss_weight}


def predict_ranks(
    head: RankingHead,
    features: Tensor,
    masks: Tensor,
    maps: Tensor | None,
    boxes: Sequence[Tensor],
    image_sizes: Sequence[tuple[int, int]],
    options: RankingOptions,
) -> RankedBatch:
    """Return the ranks of detected objects; arguments as in :func:`ranking_losses`."""
    logits, counts = _logits(head, features, masks, maps, boxes, image_sizes, options)
    return rank_objects(logits, counts, options)


def rank_objects(logits: Tensor, counts: Sequence[int], options: RankingOptions) -> RankedBatch:
    """Return the predictions for logits (N, K) of the objects of several images, ``counts`` of each."""
    ranks, scores = decode_ranks(logits, counts, options.decoder, options.threshold)
    return RankedBatch(logits, ranks, scores, predicted_places(logits, counts, options.loss))
