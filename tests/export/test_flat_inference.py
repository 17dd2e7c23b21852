"""Flat inference, the form that is exported, equals the inference of the eager models."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.structures import Instances

from sor_ppa.cpu_inference import fold_for_inference
from sor_ppa.export.model import pad_images
from tests.export.rankers import CENTERMASK, MASK_RCNN, ranker_cfg, small_ranker
from tests.parity import deterministic

SIZES = [(96, 128), (90, 125)]
FIELDS = {
    "scores": "scores",
    "classes": "pred_classes",
    "masks": "pred_masks",
    "rank_logits": "pred_rank_logits",
    "rank_scores": "pred_rank_scores",
    "ranks": "pred_ranks",
}


def images(sizes: list[tuple[int, int]]) -> list[np.ndarray]:
    made = [deterministic().image(f"export{i}", *size) for i, size in enumerate(sizes)]
    return [image.transpose(2, 0, 1).astype(np.float32) for image in made]


def both(model: torch.nn.Module, arrays: list[np.ndarray]) -> tuple[dict[str, torch.Tensor], list[Instances]]:
    inputs = {key: torch.from_numpy(x) for key, x in pad_images(arrays, 32).items()}
    for image, (height, width) in zip(inputs["images"], inputs["sizes"], strict=True):
        image[:, height:] = image[:, :, width:] = 55.0  # the content of the padding is free
    with torch.no_grad():
        flat = model.infer_flat(**inputs)
        eager = model.inference([{"image": torch.from_numpy(x)} for x in arrays], do_postprocess=False)
    return flat, eager


@pytest.mark.parametrize(
    ("config", "changes"),
    [
        (CENTERMASK, {}),
        (CENTERMASK, {"MODEL__SOR__DECODE": "greedy", "MODEL__FCOS__POST_NMS_TOPK_TEST": 50}),
        (CENTERMASK, {"MODEL__SOR__NAME": "SelfAttentionWithOtherPosQuant", "MODEL__FCOS__NUM_CLASSES": 3}),
        (MASK_RCNN, {}),
    ],
)
def test_equals_eager_inference(config: str, changes: dict) -> None:
    classes = changes.get("MODEL__FCOS__NUM_CLASSES", 1)
    cfg = ranker_cfg(config, MODEL__ROI_HEADS__NUM_CLASSES=classes, **changes)
    model = fold_for_inference(small_ranker(cfg))
    fields = dict(FIELDS)
    if config == CENTERMASK:
        model.roi_heads.flat_mask_scores = True
        fields["mask_scores"] = "mask_scores"
    flat, eager = both(model, images(SIZES))
    assert [(flat["image_index"] == i).sum() for i in range(2)] == [len(x) for x in eager]
    assert min(len(x) for x in eager) > 3
    torch.testing.assert_close(flat["boxes"], torch.cat([x.pred_boxes.tensor for x in eager]))
    assert flat.keys() == {"image_index", "boxes", *fields}
    for name, field in fields.items():
        expected = torch.cat([x.get(field) for x in eager])
        torch.testing.assert_close(flat[name], expected, rtol=1e-4, atol=1e-4)


def test_no_objects() -> None:
    cfg = ranker_cfg(CENTERMASK, MODEL__FCOS__INFERENCE_TH_TEST=0.999)
    flat, _ = both(small_ranker(cfg), images(SIZES))
    assert flat["masks"].shape == (0, 1, 28, 28)
    assert flat["ranks"].shape == (0,)
    assert "mask_scores" not in flat, "only on demand"
