"""Published parameter names -> ours."""

from __future__ import annotations

import json
import re

import pytest

from sor_ppa.checkpoint import CheckpointError, convert_published
from sor_ppa.checkpoint.sor import published_to_ours
from tests.parity import parity_dir

# Names of VoVNets that the published model, tested below as a whole, does not have.
CASES = {
    "stem.stem_2/dw_conv3x3.weight": "stem.1.depthwise.weight",
    "stem.stem_2/pw_norm.bias": "stem.1.norm.bias",
    "stage2.OSA2_1.layers.2.OSA2_1_2/pw_conv1x1.weight": "stage2.blocks.0.layers.2.pointwise.weight",
    "stage3.OSA3_1.conv_reduction.OSA3_1_reduction_0/norm.weight": "stage3.blocks.0.reduction.norm.weight",
    "stage4.OSA4_1.layers.0.OSA4_1_0/conv_offset.bias": "stage4.blocks.0.layers.0.conv_offset.bias",
}


@pytest.mark.parametrize("prefix", ["", "backbone.bottom_up."])
def test_vovnet_names_are_mapped(prefix: str) -> None:
    assert [published_to_ours(prefix + name) for name in CASES] == [prefix + name for name in CASES.values()]


def test_our_own_names_and_those_of_other_backbones_pass_through() -> None:
    names = [*CASES.values(), "features.1.conv.0.weight", "res2.0.conv1.norm.running_mean"]
    assert [published_to_ours(name) for name in names] == names


def test_whole_published_model_is_mapped_without_loss() -> None:
    published = [n for n, _ in json.loads((parity_dir("ppa") / "state_ppa_v39.json").read_text())["tensors"]]
    converted = convert_published({n: n for n in published})
    assert list(converted.values()) == published
    assert not [n for n in converted if "/" in n or re.search(r"OSA|stem_", n)]
    assert convert_published(converted) == converted


def test_two_names_for_one_parameter_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"stem_2/dw_conv.*stem\.1\.depthwise.*both map to"):
        convert_published(dict.fromkeys(next(iter(CASES.items()))))


def test_unknown_system_is_refused() -> None:
    with pytest.raises(CheckpointError, match="unknown system 'yolo', expected one of sor"):
        convert_published({}, system="yolo")
