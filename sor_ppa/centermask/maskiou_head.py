"""Predicting the IoU of each mask with its object (Huang et al., Mask Scoring R-CNN, CVPR 2019)."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec
from torch import Tensor, nn
from torch.nn import functional as F

from ..config.registries import ROI_MASKIOU_HEAD_REGISTRY
from ..layers import mean_over_processes

__all__ = ["ROI_MASKIOU_HEAD_REGISTRY", "MaskIoUHead", "build_maskiou_head", "mask_iou_loss"]


@ROI_MASKIOU_HEAD_REGISTRY.register()
class MaskIoUHead(nn.Module):
    """Predict the IoU of a mask with its object from the pooled features and the mask.

    Args:
        in_channels: of the pooled features.
        resolution: side R of the pooled square.
        num_classes: number of IoUs, one per class.
        conv_dim, num_conv: of the 3x3 convolutions; the last has stride two.
    """

    @configurable
    def __init__(
        self, *, in_channels: int, resolution: int, num_classes: int, conv_dim: int = 256, num_conv: int = 4
    ) -> None:
        super().__init__()
        self.convs = []
        channels = in_channels + 1
        for k in range(num_conv):
            stride = 2 if k + 1 == num_conv else 1
            conv = Conv2d(channels, conv_dim, 3, stride=stride, padding=1, activation=F.relu)
            self.add_module(f"maskiou_fcn{k + 1}", conv)
            self.convs.append(conv)
            channels = conv_dim
        side = (resolution + 1) // 2
        self.maskiou_fc1 = nn.Linear(conv_dim * side**2, 1024)
        self.maskiou_fc2 = nn.Linear(1024, 1024)
        self.maskiou = nn.Linear(1024, num_classes)
        for layer in [*self.convs, self.maskiou_fc1, self.maskiou_fc2]:
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.maskiou.weight, std=0.01)
        nn.init.zeros_(self.maskiou.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        return {
            "in_channels": input_shape.channels,
            "resolution": input_shape.width,
            "num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "conv_dim": cfg.MODEL.ROI_MASKIOU_HEAD.CONV_DIM,
            "num_conv": cfg.MODEL.ROI_MASKIOU_HEAD.NUM_CONV,
        }

    def forward(self, features: Tensor, masks: Tensor) -> Tensor:
        """Return IoUs (N, classes) for features (N, C, R, R) and mask probabilities (N, 1, 2R, 2R)."""
        x = torch.cat([features, F.max_pool2d(masks.to(features.dtype), 2)], dim=1)
        for conv in self.convs:
            x = conv(x)
        x = F.relu(self.maskiou_fc1(x.flatten(1)))
        return self.maskiou(F.relu(self.maskiou_fc2(x)))


def build_maskiou_head(cfg: CfgNode, input_shape: ShapeSpec) -> nn.Module:
    """Build the head that ``MODEL.ROI_MASKIOU_HEAD.NAME`` names."""
    return ROI_MASKIOU_HEAD_REGISTRY.get(cfg.MODEL.ROI_MASKIOU_HEAD.NAME)(cfg, input_shape)


def mask_iou_loss(pred: Tensor, classes: Tensor, target: Tensor, weight: float) -> Tensor:
    """Return half the squared error, averaged over the masks whose true IoU is above zero.

    Args:
        pred: (N, classes) predicted IoUs.
        classes: (N,) int64 class of each mask.
        target: (N,) true IoUs; the result has their precision.
        weight: factor.
    """
    chosen = pred.gather(1, classes[:, None]).squeeze(1)
    counted = target > 0
    error = torch.where(counted, chosen - target, 0.0)
    number = mean_over_processes(counted.sum().to(error.dtype))
    return weight * 0.5 * error.square().sum() / number.clamp(min=1)
