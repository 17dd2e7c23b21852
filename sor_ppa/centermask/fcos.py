"""FCOS as the proposal generator of CenterMask."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import PROPOSAL_GENERATOR_REGISTRY
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn
from torch.nn import functional as F

from ..config.thresholds import score_threshold
from ..layers import DeformableConv2d
from ..layers.precision import full_precision
from ..ranking.flat import FlatDetections, flat_detections
from .fcos_proposals import Detections, ProposalOptions, select_candidates, select_proposals
from .fcos_targets import assign_targets, fcos_losses, level_locations

__all__ = ["FCOS", "FCOSHead"]

# the objectness logit that detectron2 gives ground-truth boxes
_CERTAIN = math.log((1.0 - 1e-10) / 1e-10)


class Scale(nn.Module):
    """Multiply by one learned factor."""

    def __init__(self, value: float = 1.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([value]))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class FCOSHead(nn.Module):
    """Predict classes by one tower, box distances and centerness by another, on every level.

    Args:
        in_channels: channels C of every level.
        num_classes: foreground classes.
        num_levels: of the pyramid.
        num_convs: (class, box, shared) tower lengths.
        norm: "GN" or "none" ("" means "none").
        use_scale: multiply the distances by a learned factor per level.
        prior: foreground probability at initialization.
        deformable: deformable convolutions in the box and shared towers.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        num_levels: int,
        num_convs: tuple[int, int, int],
        norm: str,
        use_scale: bool,
        prior: float,
        deformable: bool = False,
    ) -> None:
        super().__init__()
        assert norm in ("GN", "none", "")

        def tower(length: int, deform: bool) -> nn.Sequential:
            layers: list[nn.Module] = []
            for _ in range(length):
                if deform:
                    layers.append(DeformableConv2d(in_channels, in_channels, bias=True))
                else:
                    layers.append(nn.Conv2d(in_channels, in_channels, 3, padding=1))
                if norm == "GN":
                    layers.append(nn.GroupNorm(32, in_channels))
                layers.append(nn.ReLU(inplace=True))
            return nn.Sequential(*layers)

        self.cls_tower = tower(num_convs[0], False)
        self.bbox_tower = tower(num_convs[1], deformable)
        self.share_tower = tower(num_convs[2], deformable)
        self.cls_logits = nn.Conv2d(in_channels, num_classes, 3, padding=1)
        self.bbox_pred = nn.Conv2d(in_channels, 4, 3, padding=1)
        self.ctrness = nn.Conv2d(in_channels, 1, 3, padding=1)
        for m in self.modules():
            if type(m) is nn.Conv2d:
                nn.init.normal_(m.weight, std=0.01)
                nn.init.zeros_(m.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.cls_logits.bias, -math.log((1 - prior) / prior))  # type: ignore[arg-type]
        self.scales = nn.ModuleList([Scale() for _ in range(num_levels)]) if use_scale else None

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Predict for every cell of (B, C, H_l, W_l) levels.

        Returns:
            Per level: class logits (B, classes, H, W), distances in strides (B, 4, H, W) and
            centerness logits (B, 1, H, W).
        """
        logits, distances, centerness = [], [], []
        for level, feature in enumerate(features):
            shared = self.share_tower(feature)
            box = self.bbox_tower(shared)
            logits.append(self._predict(self.cls_logits, self.cls_tower(shared)))
            centerness.append(self._predict(self.ctrness, box))
            distance = self._predict(self.bbox_pred, box)
            distances.append(F.relu(self.scales[level](distance) if self.scales is not None else distance))
        return logits, distances, centerness

    def _predict(self, layer: nn.Module, tower: Tensor) -> Tensor:
        """Apply a last layer; in inference in float32, so that autocast does not round scores and boxes."""
        return layer(tower) if self.training else full_precision(layer, tower)


@PROPOSAL_GENERATOR_REGISTRY.register()
class FCOS(nn.Module):
    """FCOS (Tian et al., ICCV 2019) with center sampling, as a proposal generator.

    Args:
        in_features: names of the levels, finest first.
        strides: of the levels in pixels.
        head: predicts for every cell.
        size_limits: upper limit in pixels of the object size of every level but the last.
        num_classes: foreground classes.
        radius: center sampling radius in strides; None for the whole box.
        loss_options: alpha, gamma and loc_loss of :func:`fcos_losses`.
        train_options, test_options: how proposals are selected.
    """

    @configurable
    def __init__(
        self,
        *,
        in_features: Sequence[str],
        strides: Sequence[int],
        head: FCOSHead,
        num_classes: int,
        size_limits: Sequence[float],
        radius: float | None,
        loss_options: dict[str, Any],
        train_options: ProposalOptions,
        test_options: ProposalOptions,
    ) -> None:
        super().__init__()
        assert len(strides) == len(in_features) == len(size_limits) + 1
        self.in_features, self.strides = list(in_features), list(strides)
        self.fcos_head = head
        self.num_classes, self.size_limits, self.radius = num_classes, list(size_limits), radius
        self.loss_options = loss_options
        self.train_options, self.test_options = train_options, test_options

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        options = cfg.MODEL.FCOS
        head = FCOSHead(
            in_channels=input_shape[options.IN_FEATURES[0]].channels,
            num_classes=options.NUM_CLASSES,
            num_levels=len(options.FPN_STRIDES),
            num_convs=(options.NUM_CLS_CONVS, options.NUM_BOX_CONVS, options.NUM_SHARE_CONVS),
            norm=options.NORM,
            use_scale=options.USE_SCALE,
            prior=options.PRIOR_PROB,
            deformable=options.USE_DEFORMABLE,
        )

        nms = (options.NMS_TH, options.THRESH_WITH_CTR)
        train = (options.INFERENCE_TH_TRAIN, options.PRE_NMS_TOPK_TRAIN, options.POST_NMS_TOPK_TRAIN)
        threshold = score_threshold(cfg, options.INFERENCE_TH_TEST)
        test = (threshold, options.PRE_NMS_TOPK_TEST, options.POST_NMS_TOPK_TEST)
        return {
            "in_features": options.IN_FEATURES,
            "strides": options.FPN_STRIDES,
            "head": head,
            "num_classes": options.NUM_CLASSES,
            "size_limits": options.SIZES_OF_INTEREST,
            "radius": options.POS_RADIUS if options.CENTER_SAMPLE else None,
            "loss_options": {
                "alpha": options.LOSS_ALPHA,
                "gamma": options.LOSS_GAMMA,
                "loc_loss": options.LOC_LOSS_TYPE,
            },
            "train_options": ProposalOptions(*train, *nms),
            "test_options": ProposalOptions(*test, *nms),
        }

    def forward(
        self, images: ImageList, features: dict[str, Tensor], gt_instances: list[Instances] | None = None
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Return proposals for each image, and losses.

        Args:
            images: the batch; only its sizes are used.
            features: name -> (B, C, H, W).
            gt_instances: with ``gt_boxes`` and ``gt_classes``, in training.

        Returns:
            Proposals (in training ``proposal_boxes`` and ``objectness_logits``; in inference
            ``pred_boxes``, ``scores``, ``pred_classes`` and ``locations``; best first, boxes not
            clipped), and the losses (empty in inference).
        """
        locations, class_rows, side_rows, center_rows = self._predict(features)
        options = self.train_options if self.training else self.test_options
        found = select_proposals(locations, class_rows, side_rows, center_rows, self.strides, options)
        if not self.training:
            return [_as_predictions(d, size) for d, size in zip(found, images.image_sizes, strict=True)], {}

        assert gt_instances is not None, "training needs ground-truth instances"
        targets = assign_targets(
            locations,
            self.strides,
            self.size_limits,
            [x.gt_boxes.tensor for x in gt_instances],
            [x.gt_classes for x in gt_instances],
            self.num_classes,
            self.radius,
        )
        logits, sides, centers = (torch.cat(rows, dim=1) for rows in (class_rows, side_rows, center_rows))
        losses = fcos_losses(logits, sides, centers, targets, **self.loss_options)
        return [_as_proposals(d, size) for d, size in zip(found, images.image_sizes, strict=True)], losses

    def _predict(
        self, features: dict[str, Tensor]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
        """Return per level locations (L, 2), class logits (B, L, C), sides (B, L, 4), centerness (B, L)."""
        levels = [features[name] for name in self.in_features]
        logits, distances, centerness = self.fcos_head(levels)
        locations = [
            level_locations((f.shape[-2], f.shape[-1]), stride, f.device)
            for f, stride in zip(levels, self.strides, strict=True)
        ]
        center_rows = [x.squeeze(2) for x in _as_rows(centerness)]
        return locations, _as_rows(logits), _as_rows(distances), center_rows

    def detect_flat(self, features: dict[str, Tensor]) -> FlatDetections:
        """Return the detections of all images, in a form for export."""
        found = select_candidates(*self._predict(features), self.strides, self.test_options)
        return flat_detections(found.kept, found.boxes, found.scores, found.classes)


def _as_rows(maps: Sequence[Tensor]) -> list[Tensor]:
    """Flatten (B, C, H, W) to (B, H * W, C), in float32 also under autocast."""
    return [x.flatten(2).transpose(1, 2).float() for x in maps]


def _as_predictions(found: Detections, size: tuple[int, int]) -> Instances:
    fields = {"scores": found.scores, "pred_classes": found.classes, "locations": found.locations}
    return Instances(size, pred_boxes=Boxes(found.boxes), **fields)


def _as_proposals(found: Detections, size: tuple[int, int]) -> Instances:
    logits = torch.logit(found.scores, eps=1e-6).clamp(max=_CERTAIN)
    return Instances(size, proposal_boxes=Boxes(found.boxes), objectness_logits=logits)
