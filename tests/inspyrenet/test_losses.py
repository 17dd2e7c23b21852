"""Losses, and losses and gradients of a training pass, against the recorded ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from sor_ppa.inspyrenet.losses import CONSISTENCY_WEIGHT, iou_loss, pyramid_losses, weighted_bce
from sor_ppa.inspyrenet.network import InSPyReNetNetwork, SaliencyPyramid
from sor_ppa.inspyrenet.pyramid import reduce
from tests.parity import deterministic

from .fixtures import arrays, assert_close, filled_network, manifest, normalized, unit


@pytest.fixture(scope="module")
def trained() -> tuple[InSPyReNetNetwork, SaliencyPyramid, dict[str, Tensor], Tensor]:
    entry, data = manifest()["r50_train"], arrays("r50_train")
    network = filled_network("r50_train").train()
    images = [deterministic().image(i["key"], i["height"], i["width"]) for i in entry["images"]]
    bits = np.unpackbits(data["gt/bits"])[: data["gt/shape"].prod()]
    mask = torch.from_numpy(bits.astype(np.float32)).reshape(2, 1, 384, 384)
    pyramid = network(torch.cat([normalized(image) for image in images]))
    losses = pyramid_losses(pyramid, mask)
    sum(losses.values()).backward()  # type: ignore[union-attr]
    return network, pyramid, losses, mask


@pytest.mark.slow
def test_maps_agree(trained) -> None:
    _, pyramid, _, _ = trained
    data = arrays("r50_train")
    for level, saliency in zip((3, 2, 1, 0), pyramid.saliency, strict=True):
        assert_close(saliency, data, f"saliency/d{level}", 3e-3)


@pytest.mark.slow
def test_losses_agree(trained) -> None:
    _, _, losses, _ = trained
    terms = manifest()["r50_train"]["terms"]
    for level in range(4):
        assert losses[f"loss_bce{level}"].item() == pytest.approx(terms[f"wbce{level}"], rel=1e-4)
        assert losses[f"loss_iou{level}"].item() == pytest.approx(terms[f"iou{level}"], rel=1e-4)
    for level in range(1, 4):
        found = losses[f"loss_consistency{level}"].item() / CONSISTENCY_WEIGHT
        assert found == pytest.approx(terms[f"pc{level}_raw"], rel=1e-4)
    assert sum(losses.values()).item() == pytest.approx(terms["total"], rel=1e-4)


@pytest.mark.slow
def test_gradient_of_every_parameter_agrees(trained) -> None:
    network = trained[0]
    recorded = manifest()["r50_train"]["grad_norms"]
    found = {name: value.grad.double().norm().item() for name, value in network.named_parameters()}
    assert set(found) == set(recorded)
    largest = max(recorded.values())
    for name, value in found.items():
        assert value == pytest.approx(recorded[name], rel=2e-2, abs=1e-6 * largest), name


def test_losses() -> None:
    recorded = manifest()["units"]["units"]["loss"]
    logits, mask = unit("loss/logits"), unit("loss/mask").float()
    assert weighted_bce(logits, mask).item() == pytest.approx(recorded["wbce"], rel=1e-5)
    assert iou_loss(logits, mask).item() == pytest.approx(recorded["iou"], rel=1e-5)
    logits, mask = logits[:, :, ::2, ::2], reduce(mask)
    assert weighted_bce(logits, mask).item() == pytest.approx(recorded["wbce_soft_half"], rel=1e-5)
    assert iou_loss(logits, mask).item() == pytest.approx(recorded["iou_soft_half"], rel=1e-5)
