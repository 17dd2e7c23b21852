"""Siamese DETR pre-training (Chen et al., CVPR 2023) as a detectron2 meta-architecture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils.comm import is_main_process
from torch import Tensor, nn
from torchvision.ops import roi_align

from ..layers.batching import same_size_groups
from ..layers.detr.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from ..layers.detr.levels import Memory
from ..layers.detr.losses import SoftmaxCriterion, name_by_layer, weigh
from ..layers.detr.matching import BoxTargets, Matches, Predictions, box_matcher, softmax_cost
from .base import DETRBase, Features, base_arguments, diagnostics, event_storage, record_diagnostics
from .heads import GlobalDiscriminationHead, PredictionHead
from .pictures import draw_views, save_picture
from .transformer import DecoderOutput

REGION = 1  # the class of every region; the published head has a class 0 that is never used
POOL = 7  # side of the pooled region feature


def jitter_boxes(boxes: Tensor, limits: Tensor, ratio: float, noise: Tensor) -> Tensor:
    """Move each side of boxes (..., 4) by up to ``ratio`` of its extent, staying in the view.

    Args:
        boxes: corners in pixels.
        limits: (..., 2) width and height of the view, broadcastable.
        ratio: largest shift as a fraction of width or height.
        noise: normal draws of the shape of ``boxes``.
    """
    extent = (boxes[..., 2:] - boxes[..., :2]).repeat_interleave(2, dim=-1)[..., [0, 2, 1, 3]]
    moved = boxes + extent * (2 * ratio * noise.sigmoid() - ratio)
    return torch.minimum(moved.clamp(min=0), torch.cat((limits, limits), dim=-1))


def swap_views(values: Tensor) -> Tensor:
    """Exchange the halves of the two views in (2B, ...)."""
    first, second = values.chunk(2)
    return torch.cat((second, first))


@dataclass(frozen=True)
class ViewBatch:
    """A batch of B images as 2B views, all first views before all second ones."""

    #: 2B tensors (3, H, W), not normalized; both views of an image have one size.
    images: list[Tensor]
    #: (2B, P, 4) corners in pixels; row p is the same region in both views.
    boxes: Tensor
    #: (2B, P, 3, S, S) the regions cut from the views, not normalized.
    crops: Tensor | None

    @classmethod
    def collate(cls, inputs: Sequence[dict[str, Any]], device: torch.device) -> ViewBatch:
        """Join mapped samples (``views`` (2, 3, H, W), ``boxes`` (2, P, 4), ``crops`` (2, P, 3, S, S))."""

        def join(key: str) -> list[Tensor]:
            return [sample[key][view] for view in (0, 1) for sample in inputs]

        crops = torch.stack(join("crops")) if "crops" in inputs[0] else None
        return cls(join("views"), torch.stack(join("boxes")).to(device).float(), crops)

    @property
    def limits(self) -> Tensor:
        """(2B, 1, 2) width and height of each view."""
        size = [(i.shape[-1], i.shape[-2]) for i in self.images]
        return torch.tensor(size, dtype=torch.float32, device=self.boxes.device)[:, None]

    def targets(self) -> BoxTargets:
        """Return the regions as targets in the view that is searched."""
        boxes = xyxy_to_cxcywh(self.boxes / self.limits.repeat(1, 1, 2))
        labels = torch.full(boxes.shape[:2], REGION, dtype=torch.int64, device=boxes.device)
        return BoxTargets(boxes, labels, [boxes.shape[1]] * len(boxes))


@dataclass(frozen=True)
class CrossView:
    """Results of both branches: index b < B searches view 1 of image b, the others view 2."""

    #: boxes are relative to the view that is searched.
    predictions: Predictions
    decoded: DecoderOutput
    #: of the views, first views before second.
    memory: Memory
    features: Features


@META_ARCH_REGISTRY.register()
class SiameseDETR(DETRBase):
    """Pre-train a detection transformer on unlabeled images.

    Regions of one view, pooled from a frozen backbone, become queries to the other view. There the decoder
    must locate them and regress the feature of their crop; the pooled memories of the two views must agree.

    Args:
        num_regions: regions per view, P; each has num_queries / P queries.
        box_jitter: jitter of the boxes that queries are pooled from.
        criterion: matching and losses of the prediction head.
        weights: weight of ``loss_ce``, ``loss_bbox``, ``loss_giou``, ``loss_feature`` and
            ``loss_enc_global_contra``; a weight of zero removes the term.
        first_image_queries: reproduce the published deformable model, which uses the regions of the first
            image as queries to every image of a batch.
        picture_period: iterations between two pictures of the matched regions; 0 for none.
        picture_images: image pairs per picture.
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
        criterion: SoftmaxCriterion,
        weights: dict[str, float],
        first_image_queries: bool = False,
        picture_period: int = 0,
        picture_images: int = 4,
        picture_folder: str = "views",
        **base: Any,
    ) -> None:
        super().__init__(**base)
        assert base["num_queries"] % num_regions == 0, "every region has the same number of queries"
        self.num_regions = num_regions
        self.box_jitter = box_jitter
        self.weights = weights
        self.first_image_queries = first_image_queries
        self.picture_period = picture_period
        self.picture_images = picture_images
        self.picture_folder = picture_folder
        region_dim = sum(self.channels)
        self.patch2query = nn.Linear(region_dim, self.dim)
        self.pred_head = PredictionHead(self.dim, region_dim if weights["loss_feature"] else 0, criterion)
        self.enc_head: nn.Sequential | None = None
        if weights["loss_enc_global_contra"]:
            pooled_dim = self.dim * len(self.in_features)
            self.enc_head = nn.Sequential(GlobalDiscriminationHead(pooled_dim, self.dim))

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate a config into arguments."""
        pretrain = cfg.MODEL.SIAMESE_DETR.PRETRAIN
        costs = (1.0, 5.0, 2.0)
        return {
            **base_arguments(cfg),
            "num_regions": pretrain.NUM_REGIONS,
            "box_jitter": pretrain.BOX_JITTER,
            "first_image_queries": pretrain.FIRST_IMAGE_QUERIES,
            "picture_period": pretrain.PICTURE_PERIOD,
            "picture_images": pretrain.PICTURE_IMAGES,
            "picture_folder": os.path.join(cfg.OUTPUT_DIR, "views"),
            "criterion": SoftmaxCriterion(box_matcher(softmax_cost, costs), 2, pretrain.EMPTY_WEIGHT),
            "weights": {
                "loss_ce": pretrain.CLASS_WEIGHT,
                "loss_bbox": pretrain.BOX_WEIGHT,
                "loss_giou": pretrain.GIOU_WEIGHT,
                "loss_feature": pretrain.FEATURE_WEIGHT,
                "loss_enc_global_contra": pretrain.GLOBAL_WEIGHT,
            },
        }

    def forward(self, batched_inputs: Sequence[dict[str, Any]]) -> dict[str, Tensor] | list[dict[str, Any]]:
        """Return weighted losses in training, the predictions of :meth:`look` in evaluation.

        Args:
            batched_inputs: samples of :class:`TwoViewMapper`.
        """
        if not self.training:
            return self.look(batched_inputs)
        losses, values = self.losses(ViewBatch.collate(batched_inputs, self.device))
        record_diagnostics(values)
        self._maybe_draw(batched_inputs)
        return name_by_layer(weigh(losses, self.weights))

    def _maybe_draw(self, batched_inputs: Sequence[dict[str, Any]]) -> None:
        """Draw the first images of the batch every ``picture_period`` iterations (main process only)."""
        storage = event_storage()
        if not self.picture_period or storage is None or storage.iter % self.picture_period:
            return
        if not is_main_process():
            return
        shown = list(batched_inputs[: self.picture_images])
        self.eval()
        try:
            found = self.look(shown)
        finally:
            self.train()
        path = os.path.join(self.picture_folder, f"{storage.iter:07d}.png")
        save_picture(path, draw_views(shown, found))

    def losses(
        self, batch: ViewBatch, noise: Tensor | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Compute every loss, unweighted and averaged over the two branches.

        Args:
            batch: of B images.
            noise: (2B, P, 4) normal draws of the box jitter; drawn here if not given.

        Returns:
            losses and diagnostics by published name, each (L,); the global loss is (1,).
        """
        found, targets = self.cross_view(batch, noise), batch.targets()
        regions = targets.boxes.shape[0] * targets.boxes.shape[1]
        losses, matches = self.pred_head.criterion(found.predictions, targets, regions)
        if self.pred_head.feature_align is not None:
            crops = swap_views(self.crop_features(batch))
            losses["loss_feature"] = self.pred_head.feature_loss(found.decoded.hidden, crops, matches)
        if self.enc_head is not None:
            pooled = self.pool_memory(found.memory).chunk(2)
            losses["loss_enc_global_contra"] = self.enc_head[0](*pooled).view(1)
        return losses, diagnostics(found.predictions.logits, targets, matches)

    def cross_view(self, batch: ViewBatch, noise: Tensor | None = None) -> CrossView:
        """Encode both views once, then decode each view's region queries in the other view."""
        boxes = batch.boxes
        if self.box_jitter > 0 and (self.training or noise is not None):
            noise = torch.randn(boxes.shape, device=boxes.device) if noise is None else noise
            boxes = jitter_boxes(boxes, batch.limits, self.box_jitter, noise)
        features = self.extract(batch.images)
        queries = swap_views(self.region_queries(self.region_features(features, boxes)))
        if self.first_image_queries:
            queries = torch.cat([half[:1].expand_as(half) for half in queries.chunk(2)])
        memory = self.transformer.encode(features.maps, features.levels)
        decoded = self.transformer.decode(queries, memory)
        reference = None if decoded.references is None else decoded.references[-1]
        return CrossView(self.pred_head(decoded.hidden, reference), decoded, memory, features)

    def region_features(self, features: Features, boxes: Tensor) -> Tensor:
        """Return the pooled backbone features (2B, P, C') of (2B, P, 4) boxes, levels joined (section 3.2).

        RoIAlign without the half-pixel shift, as published.
        """
        pooled = [
            roi_align(features.backbone[name].float(), list(boxes), POOL, 1 / stride, -1, aligned=False)
            for name, stride in zip(self.in_features, self.strides, strict=True)
        ]
        return torch.cat([p.mean((2, 3)) for p in pooled], dim=1).view(*boxes.shape[:2], -1)

    def region_queries(self, regions: Tensor) -> Tensor:
        """Return positional queries (2B, Q, C): Q / P consecutive ones per region, plus the embedding."""
        repeats = len(self.query_embed.weight) // self.num_regions
        return self.patch2query(regions).repeat_interleave(repeats, dim=1) + self.query_embed.weight

    @torch.no_grad()
    def crop_features(self, batch: ViewBatch) -> Tensor:
        """Return the pooled backbone features (2B, P, C') of the crops, the regression target."""
        assert batch.crops is not None, "the feature loss needs crops"
        maps = self.backbone(self.normalize(batch.crops.flatten(0, 1)))
        pooled = torch.cat([maps[name].float().mean((2, 3)) for name in self.in_features], dim=1)
        return pooled.view(*batch.crops.shape[:2], -1)

    def pool_memory(self, memory: Memory) -> Tensor:
        """Return the mean (2B, C * levels) of the memory over each map, padding included as published."""
        return torch.cat([m.mean((2, 3)) for m in memory.maps()[: len(self.in_features)]], dim=1)

    @torch.no_grad()
    def look(self, samples: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Predict where each view's regions are in the other view.

        Views of different size pass through the network separately, so the result for a sample never depends
        on the rest of the batch.

        Args:
            samples: of :class:`TwoViewMapper`; crops are not needed.

        Returns:
            one dict per sample with, for view v = 0 and 1, ``boxes`` (2, P, 4) corners in pixels that
            are predicted in view v for the regions of the other view, ``scores`` (2, P) and
            ``regions`` (2, P, 4), their true position.
        """
        results: list[dict[str, Any]] = [{} for _ in samples]
        for members in same_size_groups([sample["views"].shape[-2:] for sample in samples], self.device):
            batch = ViewBatch.collate([samples[i] for i in members], self.device)
            predictions = self.cross_view(batch).predictions
            last = Predictions(predictions.logits[-1:], predictions.boxes[-1:])
            boxes, scores = _by_target(last, self.pred_head.criterion.matcher(last, batch.targets()))
            seen = {"boxes": boxes * batch.limits.repeat(1, 1, 2), "scores": scores, "regions": batch.boxes}
            for row, index in enumerate(members):
                pair = [row, row + len(members)]
                results[index] = {key: value[pair] for key, value in seen.items()}
        return results


def _by_target(last: Predictions, matches: Matches) -> tuple[Tensor, Tensor]:
    """Return corners (2B, P, 4) and region probability (2B, P) of the query matched to each region."""
    images = last.logits.shape[1]
    order = matches.target[0].view(images, -1).argsort(1)
    boxes = cxcywh_to_xyxy(matches.gather(last.boxes)[0]).view(images, -1, 4)
    scores = matches.gather(last.logits)[0].softmax(-1)[:, REGION].view(images, -1)
    return boxes.gather(1, order[..., None].expand(-1, -1, 4)), scores.gather(1, order)
