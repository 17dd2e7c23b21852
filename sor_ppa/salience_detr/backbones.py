"""Swin, ConvNeXt and FocalNet as detectron2 backbones, in the layout of the published weights.

The published weights fit torchvision's Swin and ConvNeXt, and timm's FocalNet with a normalized modulator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone import Backbone
from torch import Tensor, nn

STRIDES = (4, 8, 16, 32)


@dataclass(frozen=True)
class Architecture:
    """One published backbone."""

    #: "swin", "convnext" or "focalnet".
    family: str
    #: channels of the first stage; every stage doubles them.
    dim: int
    #: blocks per stage.
    depths: tuple[int, ...]
    #: published rate of stochastic depth.
    drop_path: float
    #: other arguments of the family.
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def channels(self) -> tuple[int, ...]:
        return tuple(self.dim * 2**stage for stage in range(4))


ARCHITECTURES: dict[str, Architecture] = {
    "swin_t": Architecture("swin", 96, (2, 2, 6, 2), 0.2, {"num_heads": [3, 6, 12, 24], "window": 7}),
    "swin_s": Architecture("swin", 96, (2, 2, 18, 2), 0.3, {"num_heads": [3, 6, 12, 24], "window": 7}),
    "swin_b": Architecture("swin", 128, (2, 2, 18, 2), 0.5, {"num_heads": [4, 8, 16, 32], "window": 7}),
    "swin_l": Architecture("swin", 192, (2, 2, 18, 2), 0.2, {"num_heads": [6, 12, 24, 48], "window": 7}),
    "swin_l_384": Architecture("swin", 192, (2, 2, 18, 2), 0.2, {"num_heads": [6, 12, 24, 48], "window": 12}),
    "convnext_t": Architecture("convnext", 96, (3, 3, 9, 3), 0.1),
    "convnext_s": Architecture("convnext", 96, (3, 3, 27, 3), 0.4),
    "convnext_b": Architecture("convnext", 128, (3, 3, 27, 3), 0.5),
    "convnext_l": Architecture("convnext", 192, (3, 3, 27, 3), 0.5),
    "focalnet_l_lrf_fl4": Architecture(
        "focalnet",
        192,
        (2, 2, 18, 2),
        0.5,
        {"focal_levels": (4, 4, 4, 4), "focal_windows": (3, 3, 3, 3), "normalize_modulator": True},
    ),
}
"""Names for ``MODEL.PYRAMID_BACKBONE.ARCH``."""


def _last_stage(out_features: Sequence[str]) -> int:
    return max(int(name.removeprefix("res")) - 2 for name in out_features)


class _PyramidBackbone(Backbone):
    """Names, strides and shapes of the outputs, "res2" (stride 4) to "res5" (stride 32)."""

    def __init__(self, arch: Architecture, out_features: Sequence[str]) -> None:
        super().__init__()
        assert set(out_features) <= {"res2", "res3", "res4", "res5"}
        self._out_features = list(out_features)
        self._out_feature_channels = {f"res{i + 2}": channels for i, channels in enumerate(arch.channels)}
        self._out_feature_strides = {f"res{i + 2}": stride for i, stride in enumerate(STRIDES)}

    @property
    def size_divisibility(self) -> int:
        return STRIDES[-1]


class FeatureListBackbone(_PyramidBackbone):
    """torchvision's Swin or ConvNeXt: stem, stage, downsampling, stage, ... in one list."""

    def __init__(self, arch: Architecture, out_features: Sequence[str], drop_path: float) -> None:
        super().__init__(arch, out_features)
        self.channels_last = arch.family == "swin"
        if arch.family == "swin":
            from torchvision.models.swin_transformer import SwinTransformer

            window = arch.options["window"]
            features = SwinTransformer(
                [4, 4],
                arch.dim,
                list(arch.depths),
                arch.options["num_heads"],
                [window, window],
                stochastic_depth_prob=drop_path,
                num_classes=1,
            ).features
        else:
            from torchvision.models.convnext import CNBlockConfig, ConvNeXt

            widths = [*arch.channels, None]
            settings = [CNBlockConfig(widths[i], widths[i + 1], arch.depths[i]) for i in range(4)]
            features = ConvNeXt(settings, drop_path, num_classes=1).features
        self.features = features[: 2 * _last_stage(out_features) + 2]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        outputs = {}
        for index, module in enumerate(self.features):
            x = module(x)
            name = f"res{index // 2 + 2}"
            if index % 2 and name in self._out_features:
                outputs[name] = x.permute(0, 3, 1, 2) if self.channels_last else x
        return outputs

    def freeze(self, freeze_at: int) -> None:
        """Freeze the stem and ``freeze_at - 1`` stages with their downsampling; nothing for 0."""
        for module in self.features[: 0 if freeze_at < 1 else 2 * freeze_at - 1]:
            module.requires_grad_(False)


class FocalNetBackbone(_PyramidBackbone):
    """timm's FocalNet with a LayerNorm at every output."""

    def __init__(self, arch: Architecture, out_features: Sequence[str], drop_path: float) -> None:
        super().__init__(arch, out_features)
        from timm.layers import LayerNorm2d
        from timm.models.focalnet import FocalNet

        net: Any = FocalNet(
            num_classes=0,
            embed_dim=arch.dim,
            depths=arch.depths,
            use_overlap_down=True,
            use_post_norm=True,
            layerscale_value=1e-4,
            drop_path_rate=drop_path,
            **arch.options,
        )
        net.layers = net.layers[: _last_stage(out_features) + 1]
        net.norm = nn.Identity()
        net.head = nn.Identity()
        self.net = net
        stages = [int(name.removeprefix("res")) - 2 for name in out_features]
        self.norms = nn.ModuleDict({str(i): LayerNorm2d(arch.channels[i], eps=1e-5) for i in stages})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        outputs = {}
        x = self.net.stem(x)
        for stage, module in enumerate(self.net.layers):
            x = module(x)
            if str(stage) in self.norms:
                outputs[f"res{stage + 2}"] = self.norms[str(stage)](x)
        return outputs

    def freeze(self, freeze_at: int) -> None:
        """Freeze the stem and ``freeze_at - 1`` stages with their downsampling; nothing for 0."""
        if freeze_at >= 1:
            self.net.stem.requires_grad_(False)
        for stage in range(max(freeze_at - 1, 0)):
            self.net.layers[stage].requires_grad_(False)
            if stage + 1 < len(self.net.layers):
                self.net.layers[stage + 1].downsample.requires_grad_(False)


@BACKBONE_REGISTRY.register()
def build_pyramid_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """Build the backbone of ``MODEL.PYRAMID_BACKBONE``, frozen up to ``MODEL.BACKBONE.FREEZE_AT``."""
    node = cfg.MODEL.PYRAMID_BACKBONE
    arch = ARCHITECTURES[node.ARCH]
    drop_path = node.DROP_PATH if node.DROP_PATH >= 0 else arch.drop_path
    kind = FocalNetBackbone if arch.family == "focalnet" else FeatureListBackbone
    backbone = kind(arch, node.OUT_FEATURES, drop_path)
    backbone.freeze(cfg.MODEL.BACKBONE.FREEZE_AT)
    return backbone
