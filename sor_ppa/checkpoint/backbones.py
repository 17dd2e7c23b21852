"""Names of bare backbones published elsewhere (torchvision, timm, Caffe2) -> ours.

ResNets are detectron2's and named as there (``res2.0.conv1.norm.weight``); VoVNetV2 and MobileNetV2 are ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch

from .errors import CheckpointError
from .rename import Rules, apply_rules, rename_keys, resnet_name

__all__ = ["foreign_backbones", "from_caffe2"]

Tensors = Mapping[str, torch.Tensor]

# timm's ese_vovnet*: stages counted from 0.
_TIMM_VOVNET: Rules = {
    r"^stages\.(\d)\.blocks\.": lambda m: f"stage{int(m[1]) + 2}.blocks.",
    r"\.conv_mid\.": ".layers.",
    r"\.conv_(concat|reduction)\.": r".\1.",
    r"\.attn\.fc\.": ".ese.fc.",
    r"\.conv_dw\.": ".depthwise.",
    r"\.conv_pw\.": ".pointwise.",
    r"\.bn\.": ".norm.",
}
_MOBILENET = re.compile(r"(features\.(\d+)\.conv)\.(\d+)\.(?:([01])\.)?(\w+)")


def _mobilenet_name(name: str) -> str:
    """torchvision's nested ``features.N.conv.I.J`` -> ``features.N.conv.I`` of the published code."""
    if not (match := _MOBILENET.fullmatch(name)):
        return name
    path, layer, block, part, rest = match.groups()
    if part is not None:
        return f"{path}.{3 * int(block) + int(part)}.{rest}"
    # The projection follows one block in the first layer (no expansion), two in all others.
    return f"{path}.{int(block) + (2 if layer == '1' else 4)}.{rest}"


def _from_timm_vovnet(tensors: Tensors) -> dict[str, torch.Tensor]:
    """timm has an eSE only in the last block of a stage, the published network in every block.

    The others get one that changes nothing: hardsigmoid(0 x + 3) = 1.
    """
    renamed = rename_keys(tensors, lambda name: apply_rules(name, _TIMM_VOVNET))
    for name in [n for n in renamed if n.endswith(".concat.conv.weight")]:
        attention = name.replace(".concat.conv.weight", ".ese.fc")
        if f"{attention}.weight" not in renamed:
            channels, like = renamed[name].shape[0], renamed[name]
            renamed[f"{attention}.weight"] = like.new_zeros(channels, channels, 1, 1)
            renamed[f"{attention}.bias"] = like.new_full((channels,), 3.0)
    return renamed


# What it is -> (a name that tells it, its conversion).
_FOREIGN: Mapping[str, tuple[str, Callable[[Tensors], dict[str, torch.Tensor]]]] = {
    "torchvision or timm ResNet": ("layer1.0.conv1.weight", lambda t: rename_keys(t, resnet_name)),
    "timm VoVNet": ("stages.0.blocks.0.attn.fc.weight", _from_timm_vovnet),
    "torchvision MobileNetV2": ("features.1.conv.0.0.weight", lambda t: rename_keys(t, _mobilenet_name)),
}


def foreign_backbones(tensors: Tensors) -> dict[str, dict[str, torch.Tensor]]:
    """Convert a file to every kind of backbone that its names may belong to.

    Returns:
        What the file may be -> our names, without prefix, -> tensors. Usually empty or of one entry.
    """
    return {what: convert(tensors) for what, (sign, convert) in _FOREIGN.items() if sign in tensors}


def from_caffe2(tensors: Tensors) -> dict[str, torch.Tensor]:
    """Rename Caffe2 blobs (Detectron's model zoo, MSRA's ResNets) with detectron2's own converter.

    Args:
        tensors: blob name -> tensor; momentum blobs are left out.

    Raises:
        CheckpointError: if two blobs map to one name.
    """
    from detectron2.checkpoint.c2_model_loading import convert_c2_detectron_names

    blobs = {name: tensor for name, tensor in tensors.items() if not name.endswith("_momentum")}
    try:
        return dict(convert_c2_detectron_names(blobs)[0])
    except (AssertionError, ValueError, TypeError, LookupError, AttributeError, RuntimeError):
        raise CheckpointError(
            "two Caffe2 blobs map to one parameter, expected a model of Detectron"
        ) from None
