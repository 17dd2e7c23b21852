"""The ranking branch in a form for export: objects of all images on one axis, no Python lists."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .branch import RankingOptions
from .decode import decode_flat
from .head import ObjectInteraction, RankingHead
from .position import measuring_sizes

__all__ = ["FlatDetections", "flat_detections", "flat_predictions", "flat_ranks", "with_spare_object"]


@dataclass(frozen=True)
class FlatDetections:
    """Detections of a batch; images in order, best first within an image.

    Attributes:
        image_index: (N,) int64 image of each object.
        boxes: (N, 4) XYXY in pixels of the network input.
        scores: (N,).
        classes: (N,) int64.
    """

    image_index: Tensor
    boxes: Tensor
    scores: Tensor
    classes: Tensor


def flat_detections(kept: Tensor, boxes: Tensor, scores: Tensor, classes: Tensor) -> FlatDetections:
    """Return the kept rows of tables (B, M), (B, M, 4), (B, M) and (B, M), best first in each image."""
    image, row = torch.nonzero(kept).unbind(dim=1)
    return FlatDetections(image, *(table[image, row] for table in (boxes, scores, classes)))


def with_spare_object(image_index: Tensor, boxes: Tensor, classes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the arguments with one more object, of image -1, at the end.

    So heads always get an object: runtimes do not support all layers, and exporters not all checks, for none.
    """
    return F.pad(image_index, (0, 1), value=-1), F.pad(boxes, (0, 0, 0, 1)), F.pad(classes, (0, 1))


def flat_predictions(
    head: RankingHead,
    found: FlatDetections,
    features: Tensor,
    masks: Tensor,
    maps: Tensor | None,
    boxes: Tensor,
    image_index: Tensor,
    image_sizes: Tensor,
    options: RankingOptions,
) -> dict[str, Tensor]:
    """Rank the detections of a batch; return the outputs of an exported model by name.

    Args:
        head: the ranking head.
        found: N detections.
        features: (N + 1, C, R, R) pooled features; here and below with the spare object.
        masks: (N + 1, 1, 2R, 2R) mask probabilities.
        maps: (N + 1, 2, R, R) pooled position maps, where the head needs them.
        boxes: (N + 1, 4) XYXY in pixels of the network input.
        image_index: (N + 1,) int64 image of each object.
        image_sizes: (B, 2) int64 height and width without padding.
        options: of the branch.

    Returns:
        The fields of ``found``, ``masks`` (N, 1, 2R, 2R), ``rank_logits`` (N, K), ``rank_scores`` (N,) and
        ``ranks`` (N,) int64, as :func:`~sor_ppa.ranking.predict_ranks` computes them.
    """
    sizes = measuring_sizes(image_sizes, options.canvas, options.divisibility, features.device)
    objects = head.describe(features, masks, maps, boxes, sizes[image_index])
    return {
        "image_index": found.image_index,
        "boxes": found.boxes,
        "scores": found.scores,
        "classes": found.classes,
        "masks": masks[:-1],
        **flat_ranks(head, objects, image_index, image_sizes.shape[0], options),
    }


def flat_ranks(
    head: ObjectInteraction, objects: Tensor, image_index: Tensor, num_images: int, options: RankingOptions
) -> dict[str, Tensor]:
    """Return ``rank_logits`` (N, K), ``rank_scores`` (N,) and ``ranks`` (N,) int64.

    Args:
        head: the ranking head.
        objects: (N + 1, D) described by the head, with the spare object.
        image_index: (N + 1,) int64 image of each object.
        num_images: B.
        options: of the branch.
    """
    if head.interaction:
        objects = head.interact_flat(objects, image_index)
    logits = head.sor(objects)[:-1]
    ranks, scores = decode_flat(logits, image_index[:-1], num_images, options.decoder, options.threshold)
    return {"rank_logits": logits, "rank_scores": scores, "ranks": ranks}
