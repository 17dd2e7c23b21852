"""Siamese DETR pre-training (Chen et al., CVPR 2023) as a detectron2 meta-architecture."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils.comm import is_main_process
from torch import Tensor, nn
from torchvision.ops import roi_align

from ..layers.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from ..layers.detr_assignment import Matches
from .base import DETRBase, base_arguments, current_iteration, record_diagnostics
from .criterion import SetCriterion, Targets, name_by_layer
from .deformable import DeformableTransformer
from .heads import GlobalDiscriminationHead, PredictionHead
from .pictures import draw_views, save_picture
from .transformer import Encoded, FeatureMaps, TransformerOutput

__all__ = ["CrossView", "SiameseDETR", "ViewBatch", "jitter_boxes"]

REGION = 1  # the class of every region; 0 exists in the published head and is never used
POOL = 7  # side of the pooled region feature


def jitter_boxes(boxes: Tensor, limits: Tensor, ratio: float, noise: Tensor) -> Tensor:
    """Move each side of each box by up to ``ratio`` of its extent, staying in the view.

    Args:
        boxes: (..., 4) corners in pixels.
        limits: (..., 2) width and height of the view, broadcastable.
        ratio: largest shift as a fraction of width or height.
        noise: normal draws of the shape of ``boxes``.

    Returns:
        (..., 4).
    """
    extent = (boxes[..., 2:] - boxes[..., :2]).repeat_interleave(2, dim=-1)[..., [0, 2, 1, 3]]
    moved = boxes + extent * (2 * ratio * noise.sigmoid() - ratio)
    return torch.minimum(moved.clamp(min=0), torch.cat((limits, limits), dim=-1))


@dataclass(frozen=True)
class ViewBatch:
    """A batch of B images as 2B views, all first views before all second ones.

    Attributes:
        images: 2B tensors (3, H, W), not normalised; both views of an image have one size.
        boxes: (2B, P, 4) corners in pixels; row p is the same region in both views.
        crops: (2B, P, 3, S, S) the regions cut from the views, not normalised.
    """

    images: list[Tensor]
    boxes: Tensor
    crops: Tensor | None

    @classmethod
    def collate(cls, inputs: Sequence[dict[str, Any]], device: torch.device) -> ViewBatch:
        """Join mapped samples (``views`` (2, 3, H, W), ``boxes`` (2, P, 4), ``crops`` (2, P, 3, S, S))."""
        images = [sample["views"][view] for view in (0, 1) for sample in inputs]
        boxes = torch.stack([sample["boxes"][view] for view in (0, 1) for sample in inputs])
        crops = None
        if "crops" in inputs[0]:
            crops = torch.stack([sample["crops"][view] for view in (0, 1) for sample in inputs])
        return cls(images, boxes.to(device).float(), crops)

    @property
    def limits(self) -> Tensor:
        """(2B, 1, 2) width and height of each view."""
        size = [(i.shape[-1], i.shape[-2]) for i in self.images]
        return torch.tensor(size, dtype=torch.float32, device=self.boxes.device)[:, None]


@dataclass(frozen=True)
class CrossView:
    """Predictions of both branches; index b < B looks into view 1 of image b, the others into view 2.

    Attributes:
        logits: (L, 2B, Q, 3).
        boxes: (L, 2B, Q, 4) normalised, centre format, in the view that is looked into.
        decoded: the decoder's output.
        encoded: memory of the views, first views before second.
    """

    logits: Tensor
    boxes: Tensor
    decoded: TransformerOutput
    encoded: Encoded


@META_ARCH_REGISTRY.register()
class SiameseDETR(DETRBase):
    """Pre-train a detection transformer on unlabelled images.

    Regions of one view, pooled from a frozen backbone, are the queries that look into the other
    view, where the decoder has to locate them and to regress the feature of their crop; the
    pooled memories of the two views must agree.

    Args:
        num_regions: regions a view, P; every region is asked for by num_queries / P queries.
        box_jitter: jitter of the boxes that queries are pooled from.
        criterion: matching and losses of the prediction head.
        weights: weight of ``loss_ce``, ``loss_bbox``, ``loss_giou``, ``loss_feature`` and
            ``loss_enc_global_contra``; a weight of zero removes the term.
        first_image_queries: reproduce the published deformable model, which asks every image of
            a batch for the regions of the first one.
        picture_period: iterations between two pictures of the matched regions; 0 for none.
        picture_images: image pairs a picture shows.
        picture_folder: where pictures are written.
        **base: of :class:`DETRBase`.
    """

    checkpoint_system = "siamese_detr"

    @configurable
    def __init__(
        self,
        *,
        num_regions: int,
        box_jitter: float,
        criterion: SetCriterion,
        weights: dict[str, float],
        first_image_queries: bool = False,
        picture_period: int = 0,
        picture_images: int = 4,
        picture_folder: str = "views",
        **base: Any,
    ) -> None:
        super().__init__(**base)
        num_queries = base["num_queries"]
        if num_queries % num_regions:
            raise ValueError(
                f"MODEL.SIAMESE_DETR.NUM_QUERIES: found {num_queries}, "
                f"expected a multiple of PRETRAIN.NUM_REGIONS ({num_regions})"
            )
        self.num_regions = num_regions
        self.box_jitter = box_jitter
        self.weights = weights
        self.first_image_queries = first_image_queries
        self.picture_period = picture_period
        self.picture_images = picture_images
        self.picture_folder = picture_folder
        region_dim = (
            sum(self.channels) if isinstance(self.transformer, DeformableTransformer) else self.channels[-1]
        )
        self.patch2query = nn.Linear(region_dim, self.dim)
        self.pred_head = PredictionHead(self.dim, region_dim if weights["loss_feature"] else 0, criterion)
        self.enc_head: nn.Sequential | None = None
        if weights["loss_enc_global_contra"]:
            levels = len(self.in_features) if isinstance(self.transformer, DeformableTransformer) else 1
            self.enc_head = nn.Sequential(GlobalDiscriminationHead(self.dim * levels, self.dim))

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        node = cfg.MODEL.SIAMESE_DETR
        pretrain = node.PRETRAIN
        return {
            **base_arguments(cfg),
            "num_regions": pretrain.NUM_REGIONS,
            "box_jitter": pretrain.BOX_JITTER,
            "first_image_queries": pretrain.FIRST_IMAGE_QUERIES,
            "picture_period": pretrain.PICTURE_PERIOD,
            "picture_images": pretrain.PICTURE_IMAGES,
            "picture_folder": os.path.join(cfg.OUTPUT_DIR, "views"),
            "criterion": SetCriterion(
                num_classes=2,
                classification="softmax",
                cost_class=1.0,
                cost_box=5.0,
                cost_giou=2.0,
                empty_weight=pretrain.EMPTY_WEIGHT,
            ),
            "weights": {
                "loss_ce": pretrain.CLASS_WEIGHT,
                "loss_bbox": pretrain.BOX_WEIGHT,
                "loss_giou": pretrain.GIOU_WEIGHT,
                "loss_feature": pretrain.FEATURE_WEIGHT,
                "loss_enc_global_contra": pretrain.GLOBAL_WEIGHT,
            },
        }

    def forward(self, batched_inputs: Sequence[dict[str, Any]]) -> dict[str, Tensor] | list[dict[str, Any]]:
        """Weighted losses in training; in evaluation the predictions of :meth:`look`.

        Args:
            batched_inputs: samples of :class:`TwoViewMapper`.
        """
        if not self.training:
            return self.look(batched_inputs)
        batch = ViewBatch.collate(batched_inputs, self.device)
        losses, diagnostics = self.losses(batch)
        record_diagnostics(diagnostics)
        self.maybe_draw(batched_inputs)
        return self.weigh(losses)

    def maybe_draw(self, batched_inputs: Sequence[dict[str, Any]]) -> None:
        """Every ``picture_period`` iterations, draw the first images of the batch (main process alone)."""
        iteration = current_iteration()
        if (
            not self.picture_period
            or iteration is None
            or iteration % self.picture_period
            or not is_main_process()
        ):
            return
        shown = list(batched_inputs[: self.picture_images])
        self.eval()
        try:
            found = self.look(shown)
        finally:
            self.train()
        path = os.path.join(self.picture_folder, f"{iteration:07d}.png")
        save_picture(path, draw_views(shown, found))

    def weigh(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Multiply each loss by the weight of its term (auxiliary layers share their term's)."""
        return {
            name: value
            * next(w for key, w in self.weights.items() if name == key or name[: name.rfind("_")] == key)
            for name, value in losses.items()
        }

    def losses(
        self, batch: ViewBatch, noise: Tensor | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Every loss, unweighted and averaged over the two branches.

        Args:
            batch: of B images.
            noise: (2B, P, 4) normal draws of the box jitter; drawn here if not given.

        Returns:
            losses by published name, and diagnostics as (L,) tensors.
        """
        prediction = self.cross_view(batch, noise)
        targets = self.targets(batch)
        terms, matches = self.pred_head.criterion(
            prediction.logits,
            prediction.boxes,
            targets,
            num_boxes=targets.boxes.shape[0] * targets.boxes.shape[1],
        )
        if self.pred_head.feature_align is not None:
            features = swap_views(self.crop_features(batch))
            terms["loss_feature"] = self.pred_head.feature_loss(prediction.decoded.hidden, features, matches)
        named = name_by_layer(terms)
        if self.enc_head is not None:
            named["loss_enc_global_contra"] = self.enc_head[0](*self.pool_memory(prediction.encoded).chunk(2))
        return named, self.pred_head.criterion.diagnostics(prediction.logits, targets, matches)

    def cross_view(self, batch: ViewBatch, noise: Tensor | None = None) -> CrossView:
        """Encode both views once, then decode each view's region queries in the other view."""
        boxes = batch.boxes
        if self.box_jitter > 0 and (self.training or noise is not None):
            noise = torch.randn(boxes.shape, device=boxes.device) if noise is None else noise
            boxes = jitter_boxes(boxes, batch.limits, self.box_jitter, noise)
        features, maps = self.extract(batch.images)
        queries = swap_views(self.region_queries(self.region_features(maps, boxes)))
        encoded, decoded = self.encode_decode(features, queries)
        reference = None if decoded.references is None else decoded.references[-1]
        logits, predicted = self.pred_head(decoded.hidden, reference)
        return CrossView(logits, predicted, decoded, encoded)

    def encode_decode(self, features: FeatureMaps, queries: Tensor) -> tuple[Encoded, TransformerOutput]:
        """Encode the views and decode (2B, Q, C) positional queries in them."""
        encoded = self.transformer.encode(features)
        if self.first_image_queries:
            queries = torch.cat([half[:1].expand_as(half) for half in queries.chunk(2)])
        return encoded, self.transformer.decode(queries, encoded)

    def region_features(self, maps: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """Pooled backbone features (2B, P, C') of (2B, P, 4) boxes, levels joined (section 3.2).

        RoIAlign without the half-pixel shift, as published.
        """
        pooled = []
        for stride, feature in zip(self.strides, maps, strict=True):
            if not isinstance(self.transformer, DeformableTransformer) and feature is not maps[-1]:
                continue
            regions = roi_align(
                feature.float(), list(boxes.to(feature.device)), POOL, 1 / stride, -1, aligned=False
            )
            pooled.append(regions.mean((2, 3)))
        return torch.cat(pooled, dim=1).view(*boxes.shape[:2], -1)

    def region_queries(self, regions: Tensor) -> Tensor:
        """Positional queries (2B, Q, C): Q / P consecutive ones a region, plus the query embedding."""
        repeats = len(self.query_embed.weight) // self.num_regions
        return self.patch2query(regions).repeat_interleave(repeats, dim=1) + self.query_embed.weight

    @torch.no_grad()
    def crop_features(self, batch: ViewBatch) -> Tensor:
        """Average-pooled backbone features (2B, P, C') of the crops: the regression target."""
        if batch.crops is None:
            raise ValueError(
                "sample: found no field 'crops', expected the region crops (PRETRAIN.FEATURE_WEIGHT > 0)"
            )
        maps = self.backbone_maps(self.normalize(batch.crops.flatten(0, 1)))
        if not isinstance(self.transformer, DeformableTransformer):
            maps = maps[-1:]
        return torch.cat([m.float().mean((2, 3)) for m in maps], dim=1).view(*batch.crops.shape[:2], -1)

    def targets(self, batch: ViewBatch) -> Targets:
        """The regions where they lie in the view that is looked into."""
        boxes = xyxy_to_cxcywh(batch.boxes / batch.limits.repeat(1, 1, 2))
        labels = torch.full(boxes.shape[:2], REGION, dtype=torch.int64, device=boxes.device)
        return Targets(boxes, labels, [boxes.shape[1]] * len(boxes))

    def pool_memory(self, encoded: Encoded) -> Tensor:
        """(2B, C * levels) average of the memory over each map, padding included as published."""
        return torch.cat([m.mean((2, 3)) for m in encoded.maps()[: len(self.in_features)]], dim=1)

    @torch.no_grad()
    def look(self, samples: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Where each view's regions are seen in the other view.

        Views of different size go through the network apart, so no answer depends on what else is
        in the batch.

        Args:
            samples: of :class:`TwoViewMapper`; crops are not needed.

        Returns:
            one dict a sample with, for view v = 0 and 1, ``boxes`` (2, P, 4) corners in pixels that
            are predicted in view v for the regions of the other view, ``scores`` (2, P) and
            ``regions`` (2, P, 4), where they truly lie.
        """
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, sample in enumerate(samples):
            groups[tuple(sample["views"].shape)].append(index)
        results: list[dict[str, Any]] = [{} for _ in samples]
        for members in groups.values():
            batch = ViewBatch.collate([samples[i] for i in members], self.device)
            prediction = self.cross_view(batch)
            targets = self.targets(batch)
            matches = self.pred_head.criterion.match(prediction.logits[-1:], prediction.boxes[-1:], targets)
            boxes, scores = _by_target(prediction, matches, len(batch.images), self.num_regions)
            seen = {"boxes": boxes * batch.limits.repeat(1, 1, 2), "scores": scores, "regions": batch.boxes}
            for row, index in enumerate(members):
                pair = [row, row + len(members)]
                results[index] = {key: value[pair] for key, value in seen.items()}
        return results


def _by_target(prediction: CrossView, matches: Matches, images: int, regions: int) -> tuple[Tensor, Tensor]:
    """Corners (2B, P, 4) and region probability (2B, P) of the query matched to each region."""
    order = matches.target[0].view(images, regions).argsort(1)
    boxes = cxcywh_to_xyxy(matches.gather(prediction.boxes[-1:])[0]).view(images, regions, 4)
    scores = matches.gather(prediction.logits[-1:])[0].softmax(-1)[:, REGION].view(images, regions)
    return boxes.gather(1, order[..., None].expand(-1, -1, 4)), scores.gather(1, order)


def swap_views(values: Tensor) -> Tensor:
    """(2B, ...) with the halves of the two views exchanged."""
    first, second = values.chunk(2)
    return torch.cat((second, first))
