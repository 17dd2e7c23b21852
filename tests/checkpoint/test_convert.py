"""Published parameter names -> ours."""

from __future__ import annotations

import json
import re

import pytest

from sor_ppa.checkpoint import CheckpointError, convert_published
from sor_ppa.checkpoint.sor import published_to_ours
from tests.parity import parity_dir

CASES = {
    "stem.stem_1/conv.weight": "stem.0.conv.weight",
    "stem.stem_3/norm.running_var": "stem.2.norm.running_var",
    "stem.stem_2/dw_conv3x3.weight": "stem.1.depthwise.weight",
    "stem.stem_2/pw_norm.bias": "stem.1.norm.bias",
    "stage4.OSA4_9.layers.4.OSA4_9_4/norm.bias": "stage4.blocks.8.layers.4.norm.bias",
    "stage2.OSA2_1.layers.2.OSA2_1_2/dw_conv3x3.weight": "stage2.blocks.0.layers.2.depthwise.weight",
    "stage2.OSA2_1.layers.2.OSA2_1_2/pw_conv1x1.weight": "stage2.blocks.0.layers.2.pointwise.weight",
    "stage2.OSA2_1.layers.2.OSA2_1_2/pw_norm.weight": "stage2.blocks.0.layers.2.norm.weight",
    "stage3.OSA3_1.concat.OSA3_1_concat/conv.weight": "stage3.blocks.0.concat.conv.weight",
    "stage3.OSA3_1.ese.fc.bias": "stage3.blocks.0.ese.fc.bias",
    "stage3.OSA3_1.conv_reduction.OSA3_1_reduction_0/norm.weight": "stage3.blocks.0.reduction.norm.weight",
    "stage4.OSA4_1.layers.0.OSA4_1_0/conv_offset.bias": "stage4.blocks.0.layers.0.conv_offset.bias",
}
KEPT = [
    "backbone.fpn_lateral3.weight",
    "backbone.fpn_output5.bias",
    "backbone.top_block.p6.weight",
    "proposal_generator.fcos_head.cls_tower.0.weight",
    "proposal_generator.fcos_head.scales.4.scale",
    "roi_heads.mask_head.spatialAtt.conv.weight",
    "roi_heads.maskiou_head.maskiou_fcn1.weight",
    "roi_heads.sor_head.pos_embedding",
    "roi_heads.sor_head.transformer_encoder.layers.0.self_attn.in_proj_weight",
    "backbone.bottom_up.features.1.conv.0.weight",  # MobileNetV2
    "backbone.bottom_up.res2.0.conv1.norm.running_mean",  # ResNet
]


@pytest.mark.parametrize("prefix", ["", "backbone.bottom_up."])
def test_vovnet_names_are_mapped(prefix: str) -> None:
    assert [published_to_ours(prefix + name) for name in CASES] == [prefix + name for name in CASES.values()]


def test_other_names_and_our_own_pass_through() -> None:
    names = [*KEPT, *CASES.values()]
    assert [published_to_ours(name) for name in names] == names


def test_whole_published_model_is_mapped_without_loss() -> None:
    published = [n for n, _ in json.loads((parity_dir("ppa") / "state_ppa_v39.json").read_text())["tensors"]]
    converted = convert_published({n: n for n in published})
    assert list(converted.values()) == published
    assert not [n for n in converted if "/" in n or re.search(r"OSA|stem_", n)]
    assert convert_published(converted) == converted


def test_two_names_for_one_parameter_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"stem_1/conv.*stem\.0\.conv.*both map to"):
        convert_published(dict.fromkeys(next(iter(CASES.items()))))


def test_unknown_system_is_refused() -> None:
    with pytest.raises(CheckpointError, match="unknown system 'yolo', expected one of sor"):
        convert_published({}, system="yolo")
