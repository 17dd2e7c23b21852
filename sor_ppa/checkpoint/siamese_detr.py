"""Names of published Siamese DETR and Conditional DETR parameters in this package.

Only the ResNet differs: published files use torchvision's names below ``backbone.``
(pre-training) or ``backbone.0.body.`` (detectors); here it is detectron2's ResNet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from .rename import resnet_name

__all__ = [
    "COCO_CATEGORY_IDS",
    "coco_rows",
    "convert",
    "convert_detector",
    "published_to_ours",
    "resnet_name",
    "to_detector",
]

T = TypeVar("T")

COCO_CATEGORY_IDS = [i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]


def published_to_ours(name: str) -> str | None:
    """Return our name of a published parameter or buffer; None for what has no counterpart.

    Dropped are the batch counters of the frozen norms and the classifier of the backbone.
    """
    name = name.removeprefix("module.")
    for prefix in ("backbone.0.body.", "backbone."):
        if name.startswith(prefix):
            name = name.removeprefix(prefix)
            if name.endswith("num_batches_tracked") or name.startswith("fc."):
                return None
            return "backbone." + resnet_name(name)
    return name


def convert(state_dict: Mapping[str, T]) -> dict[str, T]:
    """Map a published state dict, of the pre-training or of a detector, to our names.

    Args:
        state_dict: published name -> value (tensors, or anything else).

    Returns:
        our name -> the same value.
    """
    renamed = {published_to_ours(name): value for name, value in state_dict.items()}
    return {name: value for name, value in renamed.items() if name is not None}


def convert_detector(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Map a published detector to our names; a pre-training gives a detector's initial weights.

    Args:
        state_dict: published name, or ours -> value.

    Returns:
        name in ``DETRDetector`` -> the same value; see ``to_detector`` for a pre-training.
    """
    ours = convert(state_dict)
    return to_detector(ours) if any(name.startswith("pred_head.") for name in ours) else ours


def to_detector(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Make initial weights of a detector from a pre-training checkpoint in our names.

    Transformer, queries, input projection, backbone and box head carry over; the classifier,
    the feature head and the global head do not (the detector has other classes). For the
    deformable transformer the shared box head is copied to every decoder layer.

    Args:
        state_dict: of ``SiameseDETR``, in our names.

    Returns:
        state dict of ``DETRDetector`` without the classifier.

    Raises:
        ValueError: if this is no pre-training checkpoint.
    """
    if "query_embed.weight" not in state_dict or not any(k.startswith("pred_head.") for k in state_dict):
        raise ValueError(
            "checkpoint: found no 'query_embed' and 'pred_head', expected a Siamese DETR pre-training"
        )
    kept = ("backbone.", "transformer.", "query_embed.", "input_proj")
    detector = {name: value for name, value in state_dict.items() if name.startswith(kept)}
    layers = sum(
        bool(re.fullmatch(r"transformer\.decoder\.layers\.\d+\.norm1\.weight", name)) for name in state_dict
    )
    deformable = "transformer.tgt_embed.weight" in state_dict
    for name, value in state_dict.items():
        if name.startswith("pred_head.bbox_embed."):
            rest = name.removeprefix("pred_head.bbox_embed.")
            names = (
                [f"bbox_embed.{i}.{rest}" for i in range(layers)] if deformable else [f"bbox_embed.{rest}"]
            )
            detector.update(dict.fromkeys(names, value))
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
