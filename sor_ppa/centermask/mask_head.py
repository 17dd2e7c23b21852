"""The spatial attention-guided mask head (CenterMask, section 3.2)."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ConvTranspose2d, ShapeSpec, get_norm
from detectron2.modeling import ROI_MASK_HEAD_REGISTRY
from fvcore.nn import weight_init
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["SpatialAttention", "SpatialAttentionMaskHead"]


class SpatialAttention(nn.Module):
    """Weight each position by a convolution of the channel mean and maximum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = Conv2d(2, 1, 3, padding=1, bias=False)
        weight_init.c2_msra_fill(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        """Return the weighted features, (N, C, H, W) as given."""
        summary = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        return x * self.conv(summary).sigmoid()


@ROI_MASK_HEAD_REGISTRY.register()
class SpatialAttentionMaskHead(nn.Module):
    """Predict one mask per class: convolutions, spatial attention, upsampling by two.

    Args:
        in_channels: of the pooled features.
        num_classes: masks per object.
        conv_dim, num_conv: of the 3x3 convolutions.
        norm: after each convolution; empty for none (the convolutions then have a bias).
    """

    @configurable
    def __init__(
        self, *, in_channels: int, num_classes: int, conv_dim: int = 256, num_conv: int = 4, norm: str = ""
    ) -> None:
        super().__init__()
        self.convs = []
        channels = in_channels
        for k in range(num_conv):
            after = {"norm": get_norm(norm, conv_dim), "activation": F.relu}
            conv = Conv2d(channels, conv_dim, 3, padding=1, bias=not norm, **after)
            self.add_module(f"mask_fcn{k + 1}", conv)
            self.convs.append(conv)
            channels = conv_dim
        self.spatialAtt = SpatialAttention()
        self.deconv = ConvTranspose2d(channels, conv_dim, 2, stride=2)
        self.predictor = Conv2d(conv_dim, num_classes, 1)
        for layer in [*self.convs, self.deconv]:
            weight_init.c2_msra_fill(layer)
        nn.init.normal_(self.predictor.weight, std=0.001)
        nn.init.zeros_(self.predictor.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        options = cfg.MODEL.ROI_MASK_HEAD
        return {
            "in_channels": input_shape.channels,
            "num_classes": 1 if options.CLS_AGNOSTIC_MASK else cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "conv_dim": options.CONV_DIM,
            "num_conv": options.NUM_CONV,
            "norm": options.NORM,
        }

    def layers(self, x: Tensor) -> Tensor:
        """Return mask logits (N, classes, 2H, 2W) of pooled features (N, C, H, W).

        ``layers`` is the name that detectron2's mask heads use.
        """
        for conv in self.convs:
            x = conv(x)
        return self.predictor(F.relu(self.deconv(self.spatialAtt(x))))

    forward = layers
