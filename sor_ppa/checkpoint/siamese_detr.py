"""Names of published Siamese DETR and Conditional DETR parameters -> ours.

Only the ResNet differs: published files use torchvision's names below ``backbone.`` (pre-training) or
``backbone.0.body.`` (detectors); here it is detectron2's ResNet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .errors import CheckpointError
from .rename import resnet_name

__all__ = [
    "COCO_CATEGORY_IDS",
    "coco_rows",
    "convert",
    "convert_detector",
    "published_to_ours",
    "to_detector",
]

COCO_CATEGORY_IDS = [i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]

_BACKBONE = re.compile(r"backbone\.(?:0\.body\.)?")
_BOX_HEAD = "pred_head.bbox_embed."
_DECODER_LAYER = re.compile(r"transformer\.decoder\.layers\.\d+\.norm1\.weight")


def published_to_ours(name: str) -> str | None:
    """Return our name of a published parameter or buffer; None for what has no counterpart.

    Dropped are the batch counters of the frozen norms and the classifier of the backbone.
    """
    if not (prefix := _BACKBONE.match(name)):
        return name
    name = name[prefix.end() :]
    dropped = name.endswith("num_batches_tracked") or name.startswith("fc.")
    return None if dropped else "backbone." + resnet_name(name)


def convert(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Map a published state dict, of the pre-training or of a detector, to our names."""
    renamed = {published_to_ours(name): value for name, value in state_dict.items()}
    return {name: value for name, value in renamed.items() if name is not None}


def convert_detector(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Map a published detector to our names; a pre-training gives a detector's initial weights."""
    ours = convert(state_dict)
    return to_detector(ours) if any(name.startswith("pred_head.") for name in ours) else ours


def to_detector(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Make initial weights of a detector from a pre-training checkpoint in our names.

    Transformer, queries, input projection, backbone and box head carry over; the classifier, the feature head
    and the global head do not (the detector has other classes). For the deformable transformer the shared box
    head is copied to every decoder layer.

    Args:
        state_dict: of ``SiameseDETR``, in our names.

    Returns:
        state dict of ``DETRDetector`` without the classifier.

    Raises:
        CheckpointError: if this is no pre-training checkpoint.
    """
    if "query_embed.weight" not in state_dict or not any(k.startswith("pred_head.") for k in state_dict):
        raise CheckpointError("found no 'query_embed' and 'pred_head', expected a Siamese DETR pre-training")
    kept = ("backbone.", "transformer.", "query_embed.", "input_proj")
    detector = {name: value for name, value in state_dict.items() if name.startswith(kept)}
    heads = ["bbox_embed."]
    if "transformer.tgt_embed.weight" in state_dict:  # deformable
        layers = sum(_DECODER_LAYER.fullmatch(name) is not None for name in state_dict)
        heads = [f"bbox_embed.{i}." for i in range(layers)]
    for name, value in state_dict.items():
        if name.startswith(_BOX_HEAD):
            detector |= {head + name.removeprefix(_BOX_HEAD): value for head in heads}
    return detector


def coco_rows(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Reduce a 91-class COCO classifier, indexed by category id, to detectron2's 80 classes.

    Args:
        state_dict: of a detector, in our names; classifiers of other sizes stay as they are.
    """
    return {
        name: value[COCO_CATEGORY_IDS] if name.startswith("class_embed.") and value.shape[0] == 91 else value
        for name, value in state_dict.items()
    }
