"""VoVNetV2 (Lee and Park, CenterMask, CVPR 2020): one-shot aggregation blocks with eSE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec, get_norm
from detectron2.modeling.backbone import Backbone
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import DeformConv2d

from ..layers.deformable_conv import deform, offset_layer
from ..layers.frozen_norm import normalized_conv

__all__ = ["VOVNET_SPECS", "VoVNet", "VoVNetSpec"]


@dataclass(frozen=True)
class VoVNetSpec:
    """Widths and depths of one member of the family; stages run from stage 2 to stage 5."""

    stem: tuple[int, int, int]
    layer_channels: tuple[int, int, int, int]
    stage_channels: tuple[int, int, int, int]
    layers_per_block: int
    blocks: tuple[int, int, int, int]
    depthwise: bool = False


_FULL, _FULL_OUT = (128, 160, 192, 224), (256, 512, 768, 1024)
_SLIM, _SLIM_OUT = (64, 80, 96, 112), (112, 256, 384, 512)
VOVNET_SPECS = {
    "V-19-slim-dw-eSE": VoVNetSpec((64, 64, 64), _SLIM, _SLIM_OUT, 3, (1, 1, 1, 1), depthwise=True),
    "V-19-dw-eSE": VoVNetSpec((64, 64, 64), _FULL, _FULL_OUT, 3, (1, 1, 1, 1), depthwise=True),
    "V-19-slim-eSE": VoVNetSpec((64, 64, 128), _SLIM, _SLIM_OUT, 3, (1, 1, 1, 1)),
    "V-19-eSE": VoVNetSpec((64, 64, 128), _FULL, _FULL_OUT, 3, (1, 1, 1, 1)),
    "V-39-eSE": VoVNetSpec((64, 64, 128), _FULL, _FULL_OUT, 5, (1, 1, 2, 2)),
    "V-57-eSE": VoVNetSpec((64, 64, 128), _FULL, _FULL_OUT, 5, (1, 1, 4, 3)),
    "V-99-eSE": VoVNetSpec((64, 64, 128), _FULL, _FULL_OUT, 5, (1, 3, 9, 3)),
}


class ConvNormReLU(nn.Sequential):
    """Convolution without bias, normalization, ReLU."""

    conv_norm_pairs = (("conv", "norm"),)

    def __init__(self, in_channels: int, channels: int, norm: str, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, bias=False)
        self.norm = get_norm(norm, channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(normalized_conv(x, self.conv, self.norm))


class DepthwiseConvNormReLU(nn.Sequential):
    """3x3 depthwise and 1x1 pointwise convolution, normalization, ReLU."""

    conv_norm_pairs = (("pointwise", "norm"),)

    def __init__(self, in_channels: int, channels: int, norm: str, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, channels, 3, stride, 1, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = get_norm(norm, channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(normalized_conv(self.depthwise(x), self.pointwise, self.norm))


class DeformableConvNormReLU(nn.Module):
    """3x3 deformable convolution (v1, or v2 with modulation), normalization, ReLU."""

    def __init__(self, in_channels: int, channels: int, norm: str, modulated: bool, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.conv_offset = offset_layer(in_channels, modulated, groups)
        self.conv = DeformConv2d(in_channels, channels, 3, padding=1, bias=False)
        self.norm = get_norm(norm, channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu_(self.norm(deform(x, self.conv_offset, self.conv, self.groups)))


class EffectiveSE(nn.Module):
    """Channel attention with a single fully connected layer (CenterMask, section 3.3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * F.hardsigmoid(self.fc(x.mean((2, 3), keepdim=True)))


class OSABlock(nn.Module):
    """One-shot aggregation: a chain of convolutions whose outputs are all fused once, at the end."""

    def __init__(
        self,
        in_channels: int,
        layer_channels: int,
        out_channels: int,
        num_layers: int,
        norm: str,
        depthwise: bool,
        *,
        residual: bool,
        deformable: dict | None,
    ) -> None:
        super().__init__()
        self.residual = residual
        reduce = depthwise and in_channels != layer_channels
        self.reduction = ConvNormReLU(in_channels, layer_channels, norm, 1) if reduce else nn.Identity()
        layers: list[nn.Module] = []
        width = in_channels
        for _ in range(num_layers):
            if depthwise:
                layers.append(DepthwiseConvNormReLU(layer_channels, layer_channels, norm))
            elif deformable is not None:
                layers.append(DeformableConvNormReLU(width, layer_channels, norm, **deformable))
            else:
                layers.append(ConvNormReLU(width, layer_channels, norm))
            width = layer_channels
        self.layers = nn.ModuleList(layers)
        self.concat = ConvNormReLU(in_channels + num_layers * layer_channels, out_channels, norm, 1)
        self.ese = EffectiveSE(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        outputs = [x]
        y = self.reduction(x)
        for layer in self.layers:
            y = layer(y)
            outputs.append(y)
        y = self.ese(self.concat(torch.cat(outputs, dim=1)))
        return y + x if self.residual else y


class OSAStage(nn.Module):
    """Pooling by two (except in stage 2), then one or more blocks; all but the first are residual."""

    def __init__(self, blocks: Sequence[OSABlock], downsample: bool) -> None:
        super().__init__()
        self.downsample = downsample
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        if self.downsample:
            x = F.max_pool2d(x, 3, stride=2, ceil_mode=True)
        return self.blocks(x)


class VoVNet(Backbone):
    """VoVNetV2 as a detectron2 backbone.

    Args:
        body: a key of :data:`VOVNET_SPECS`.
        in_channels: channels of the input images.
        out_features: which of "stem", "stage2" ... "stage5" to return.
        norm: normalization name for ``detectron2.layers.get_norm``.
        freeze_at: freeze the stem and the stages up to this number, as in detectron2's ResNet
            (0 freezes nothing; 1 the stem; 2 also stage 2 ...).
        deformable_stages: four flags, stages 2 to 5.
        modulated, deformable_groups: of the deformable convolutions, see ``MODEL.VOVNET``.
    """

    @configurable
    def __init__(
        self,
        *,
        body: str,
        in_channels: int,
        out_features: Sequence[str],
        norm: str = "FrozenBN",
        freeze_at: int = 0,
        deformable_stages: Sequence[bool] = (False, False, False, False),
        modulated: bool = False,
        deformable_groups: int = 1,
    ) -> None:
        super().__init__()
        spec = VOVNET_SPECS[body]
        names = ["stem", "stage2", "stage3", "stage4", "stage5"]
        assert len(deformable_stages) == 4
        self._out_features = list(out_features)
        self._out_feature_channels = dict(zip(names, (spec.stem[2], *spec.stage_channels), strict=True))
        self._out_feature_strides = dict(zip(names, (4, 4, 8, 16, 32), strict=True))

        later = DepthwiseConvNormReLU if spec.depthwise else ConvNormReLU
        self.stem = nn.Sequential(
            ConvNormReLU(in_channels, spec.stem[0], norm, stride=2),
            later(spec.stem[0], spec.stem[1], norm, stride=1),
            later(spec.stem[1], spec.stem[2], norm, stride=2),
        )
        width = spec.stem[2]
        self.stage_names = names[1:]
        for i, name in enumerate(self.stage_names):
            layers, channels = spec.layer_channels[i], spec.stage_channels[i]
            shape = (layers, channels, spec.layers_per_block, norm, spec.depthwise)
            deform = {"modulated": modulated, "groups": deformable_groups} if deformable_stages[i] else None
            blocks = [OSABlock(width, *shape, residual=False, deformable=deform)]
            for _ in range(spec.blocks[i] - 1):
                blocks.append(OSABlock(channels, *shape, residual=True, deformable=deform))
            width = channels
            self.add_module(name, OSAStage(blocks, downsample=i > 0))
        self._freeze(freeze_at)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        options = cfg.MODEL.VOVNET
        return {
            "body": options.CONV_BODY,
            "in_channels": input_shape.channels,
            "out_features": options.OUT_FEATURES,
            "norm": options.NORM,
            "freeze_at": cfg.MODEL.BACKBONE.FREEZE_AT,
            "deformable_stages": options.STAGE_WITH_DCN,
            "modulated": options.WITH_MODULATED_DCN,
            "deformable_groups": options.DEFORMABLE_GROUPS,
        }

    def _freeze(self, freeze_at: int) -> None:
        for name in ["stem", *self.stage_names][: max(freeze_at, 0)]:
            part = getattr(self, name)
            part.requires_grad_(False)
            setattr(self, name, FrozenBatchNorm2d.convert_frozen_batchnorm(part))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return features of images (B, C, H, W): name -> (B, channels, H / stride, W / stride)."""
        features = {"stem": self.stem(x)}
        x = features["stem"]
        for name in self.stage_names:
            x = features[name] = getattr(self, name)(x)
        return {name: features[name] for name in self._out_features}
