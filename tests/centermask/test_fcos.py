"""FCOS targets, losses and proposals against the published ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sor_ppa.centermask.fcos_proposals import ProposalOptions, select_proposals
from sor_ppa.centermask.fcos_targets import (
    FCOSTargets,
    assign_targets,
    centerness_targets,
    fcos_losses,
    level_locations,
)
from tests.models import ppa_cases
from tests.parity import deterministic, parity_dir

STRIDES = (8, 16, 32, 64, 128)
LIMITS = (64, 128, 256, 512)
CASES = ("one", "two", "edge", "two_nocenter", "with_empty", "only_empty")


@pytest.fixture(scope="module")
def manifest() -> dict:
    return ppa_cases()["fcos_targets"]


@pytest.fixture(scope="module")
def arrays() -> dict:
    return dict(np.load(parity_dir("ppa") / "fcos_targets.npz"))


def locations(height: int = 480, width: int = 640) -> list[torch.Tensor]:
    size = [(math.ceil(height / s), math.ceil(width / s)) for s in STRIDES]
    return [level_locations(hw, s, torch.device("cpu")) for hw, s in zip(size, STRIDES, strict=True)]


def make_targets(case: dict) -> FCOSTargets:
    boxes = [torch.tensor(image).reshape(-1, 4) for image in case["images"]]
    classes = [torch.zeros(len(b), dtype=torch.int64) for b in boxes]
    radius = 1.5 if case["center_sampling"] else None
    return assign_targets(locations(), STRIDES, LIMITS, boxes, classes, 1, radius)


def predictions(name: str, batch: int) -> tuple[list, list, list]:
    uniform = deterministic()._uniform
    rows: tuple[list, list, list] = ([], [], [])
    for level, stride in enumerate(STRIDES):
        h, w = math.ceil(480 / stride), math.ceil(640 / stride)
        for part, (kind, channels, mean) in zip(
            rows, (("logits", 1, -2), ("reg", 4, 3), ("ctr", 1, 0)), strict=True
        ):
            key = f"fcos/{name}/{kind}/{level}"
            part.append(uniform(key, (batch, channels, h, w), std=1, mean=mean).flatten(2).transpose(1, 2))
    return rows[0], [x.relu() for x in rows[1]], [x.squeeze(2) for x in rows[2]]


@pytest.mark.parametrize("name", CASES)
def test_targets_agree(manifest: dict, arrays: dict, name: str) -> None:
    case = manifest["cases"][name]
    found = make_targets(case)
    lengths = [len(part) for part in locations()]
    centers = []
    for k, (labels, distances) in enumerate(
        zip(found.labels.split(lengths, 1), found.distances.split(lengths, 1), strict=True)
    ):
        labels, distances = labels.reshape(-1), distances.reshape(-1, 4)
        positive = torch.nonzero(labels != 1).squeeze(1)
        assert positive.tolist() == arrays[f"{name}_pos_l{k}"].tolist()
        np.testing.assert_allclose(distances[positive], arrays[f"{name}_reg_l{k}"].reshape(-1, 4), atol=1e-5)
        centers.append(centerness_targets(distances[positive]))
    np.testing.assert_allclose(torch.cat(centers), arrays[f"{name}_ctr_all_levels"], atol=1e-5)


@pytest.mark.parametrize("loc_loss", ["giou", "iou", "linear_iou"])
@pytest.mark.parametrize("name", CASES)
def test_losses_agree(manifest: dict, name: str, loc_loss: str) -> None:
    case = manifest["cases"][name]
    parts = (torch.cat(part, dim=1) for part in predictions(name, len(case["images"])))
    losses = fcos_losses(*parts, make_targets(case), alpha=0.25, gamma=2.0, loc_loss=loc_loss)
    for key, value in case[f"losses_{loc_loss}"].items():
        assert losses[key].item() == pytest.approx(value, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("name", CASES)
def test_proposals_agree(manifest: dict, arrays: dict, name: str) -> None:
    case = manifest["cases"][name]
    options = ProposalOptions(threshold=0.3, pre_nms=1000, post_nms=100, nms_threshold=0.6)
    logits, distances, centerness = predictions(name, len(case["images"]))
    found = select_proposals(locations(), logits, distances, centerness, STRIDES, options)
    assert [len(d.scores) for d in found] == case["n_proposals"]
    keys = sorted(k for k in arrays if k.startswith(f"{name}_prop_"))
    assert keys
    for i, image in enumerate(found):
        suffix = [k for k in keys if k.endswith(f"_{i}") or len(found) == 1]
        boxes = next(k for k in suffix if "boxes" in k)
        scores = next(k for k in suffix if "scores" in k)
        np.testing.assert_allclose(image.boxes, arrays[boxes], atol=2e-3)
        np.testing.assert_allclose(image.scores, arrays[scores], atol=1e-5)


def test_a_threshold_nothing_exceeds_leaves_nothing() -> None:
    logits, distances, centerness = predictions("two", 2)
    options = ProposalOptions(threshold=0.9999, pre_nms=1000, post_nms=100, nms_threshold=0.6)
    for image in select_proposals(locations(), logits, distances, centerness, STRIDES, options):
        assert image.boxes.shape == (0, 4)
        assert image.scores.shape == (0,)
