"""Inference equals the published code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.detr import picture
from tests.mask2former.reference import arrays, checks, images, info, reference_model

CASE = "eval_single"


@pytest.fixture(scope="module")
def model() -> Any:
    return reference_model(CASE)


@pytest.fixture(scope="module")
def output(model: Any) -> Any:
    with torch.no_grad():
        return model.run(model.batch(images(CASE)).tensor, every_layer=True)


def test_features(model: Any, output: Any) -> None:
    check = checks(CASE)
    check.sample("input_sample", model.batch(images(CASE)).tensor)
    for name in ("res2", "res3", "res4", "res5"):
        check.sample(name, output.backbone[name])
    check.sample("mask_features", output.pixels.masks)
    for level, found in enumerate(output.pixels.levels):
        check.sample(f"multi_scale_{level}", found)


def test_predictions_of_every_layer(output: Any) -> None:
    check = checks(CASE)
    for layer, prediction in enumerate(output.decoded.predictions):
        check.sample(f"logits_{layer}", prediction.logits)
        check.sample(f"masks_{layer}", prediction.masks)
    check.close("final_logits", output.last.logits)


def test_last_layer_alone_is_the_same(model: Any, output: Any) -> None:
    with torch.no_grad():
        last = model.run(model.batch(images(CASE)).tensor, every_layer=False).last
    assert torch.equal(last.masks, output.last.masks)


@pytest.mark.parametrize("kind", ["inst", "resized"])
def test_instances(model: Any, kind: str) -> None:
    (image,) = images(CASE)
    item = {"image": image}
    if kind == "resized":
        height, width = info(CASE)["output_sizes_of_resized"][0]
        item |= {"height": height, "width": width}
    found = model([item])[0]["instances"]
    expected = {k.removeprefix(f"{kind}0_"): v for k, v in arrays(CASE).items() if k.startswith(f"{kind}0_")}
    np.testing.assert_allclose(found.scores, expected["scores"], rtol=1e-4, atol=1e-5)
    areas = found.pred_masks.sum((1, 2)).numpy()
    assert (np.sort(found.pred_classes) == np.sort(expected["classes"])).all()
    # of objects with different scores
    gaps = np.abs(np.diff(expected["scores"], prepend=np.inf, append=-np.inf))
    clear = (gaps[:-1] > 1e-5) & (gaps[1:] > 1e-5)
    assert clear.sum() > 20
    np.testing.assert_array_equal(found.pred_classes[clear], expected["classes"][clear])
    assert (np.abs(areas - expected["areas"])[clear] <= 2).all()
    boxes = found.pred_boxes.tensor.numpy()
    assert (np.abs(boxes - expected["boxes_from_masks"]).max(1)[clear] <= 1).all()
    bits = np.packbits(found.pred_masks[:20].numpy())
    assert np.unpackbits(bits ^ expected["top20_mask_bits"].ravel()).sum() < 20


def test_an_answer_does_not_depend_on_the_batch(model: Any) -> None:
    pictures = [{"image": picture(*size)} for size in ((60, 90), (64, 96), (40, 130), (60, 90))]
    together = model(pictures)
    for item, found in zip(pictures, together, strict=True):
        alone = model([item])[0]["instances"]
        torch.testing.assert_close(found["instances"].scores, alone.scores, rtol=1e-4, atol=1e-6)
        assert (found["instances"].pred_masks != alone.pred_masks).float().mean() < 1e-4
