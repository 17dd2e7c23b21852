"""Sharper masks and ranks by saliency."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from torch import nn

from sor_ppa.evaluation.boundary import boundary_accuracy
from sor_ppa.inspyrenet.refine import ColorRefiner, NetworkRefiner, refine_masks, signed_distance
from sor_ppa.inspyrenet.stage import SaliencyStage, mean_saliency, rank_by_saliency, with_saliency

from .test_meta_arch import config, model  # noqa: F401  (a fixture)


def scene(height: int = 240, width: int = 320) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A noisy picture with a bright disc, the disc, and the disc as a coarse detector sees it."""
    rows, columns = np.mgrid[:height, :width]
    disc = (rows - 120) ** 2 + (columns - 160) ** 2 < 70**2
    generator = np.random.default_rng(0)
    image = np.where(disc[..., None], (200, 150, 60), (60, 90, 120)) + generator.normal(
        0, 12, (*disc.shape, 3)
    )
    coarse = np.kron(disc[5::10, 5::10], np.ones((10, 10), bool))
    return np.clip(image, 0, 255).astype(np.uint8), disc, coarse


def found(masks: np.ndarray) -> Instances:
    instances = Instances(masks.shape[1:])
    instances.pred_masks = torch.from_numpy(masks)
    instances.scores = torch.linspace(0.9, 0.5, len(masks))
    instances.pred_boxes = Boxes(torch.tensor([[80.0, 40.0, 240.0, 200.0]] * len(masks)).reshape(-1, 4))
    instances.pred_ranks = torch.arange(len(masks)) - 1
    instances.pred_rank_scores = torch.rand(len(masks))
    return instances


class Detector(nn.Module):
    """Answers with given instances."""

    def __init__(self, instances: Instances) -> None:
        super().__init__()
        self.instances = instances

    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{"instances": self.instances} for _ in batched_inputs]


def test_colors_sharpen_a_coarse_mask() -> None:
    image, truth, coarse = scene()
    (sharper,) = refine_masks(image, coarse[None], ColorRefiner(), band=0.12)
    before, after = boundary_accuracy(coarse, truth), boundary_accuracy(sharper, truth)
    assert before is not None
    assert after is not None
    assert before < 0.8
    assert after > 0.9


def test_nothing_changes_beyond_the_band() -> None:
    image, _, coarse = scene()
    (sharper,) = refine_masks(image, coarse[None], ColorRefiner(), band=0.03)
    reach = 0.03 * np.sqrt(coarse.sum())
    assert (np.abs(signed_distance(coarse))[sharper != coarse] < reach).all()


def test_empty_full_and_tiny_masks_survive() -> None:
    image, _, _ = scene()
    masks = np.zeros((3, 240, 320), bool)
    masks[1] = True
    masks[2, 5, 7] = True
    refined = refine_masks(image, masks, ColorRefiner())
    assert not refined[0].any()
    assert refined[1].all()
    assert refined[2].any()
    assert refine_masks(image, masks[:0], ColorRefiner()).shape == (0, 240, 320)


def test_a_network_decides_inside_the_band_only(model: Any) -> None:  # noqa: F811
    image, _, coarse = scene()
    (sharper,) = refine_masks(image, coarse[None], NetworkRefiner(model, largest=128))
    reach = 0.1 * np.sqrt(coarse.sum())
    assert sharper.shape == coarse.shape
    assert (np.abs(signed_distance(coarse))[sharper != coarse] < reach).all()


def test_mean_saliency_under_masks() -> None:
    masks = torch.zeros(3, 4, 4, dtype=torch.bool)
    masks[0, :2] = True
    masks[1, 2:] = True
    saliency = torch.zeros(4, 4)
    saliency[:2] = 0.5
    saliency[0] = 1.0
    torch.testing.assert_close(mean_saliency(masks, saliency), torch.tensor([0.75, 0.0, 0.0]))


def test_more_salient_objects_rank_higher() -> None:
    masks = np.zeros((3, 4, 4), bool)
    masks[0, :1], masks[1, 1:2], masks[2, 2:3] = True, True, True
    saliency = torch.tensor([0.2, 0.9, 0.5, 0.0])[:, None].expand(4, 4)
    ranked = rank_by_saliency(found(masks), saliency)
    assert ranked.pred_ranks.tolist() == [0, 2, 1]
    assert rank_by_saliency(found(masks), saliency, 0.6).pred_ranks.tolist() == [0, 1, -1]
    assert rank_by_saliency(found(masks[:0]), saliency).pred_ranks.shape == (0,)


def test_only_ranked_objects_are_sharpened_and_boxes_hold_their_masks() -> None:
    image, _, coarse = scene()
    instances = found(np.stack([coarse, coarse]))
    stage = SaliencyStage(Detector(instances), refiner=ColorRefiner(), band=0.12).eval()
    pixels = torch.from_numpy(image.transpose(2, 0, 1).copy())
    (result,) = stage([{"image": pixels.float(), "original": pixels}])
    masks = result["instances"].pred_masks
    assert torch.equal(masks[0], torch.from_numpy(coarse))
    assert not torch.equal(masks[1], torch.from_numpy(coarse))
    rows, columns = torch.nonzero(masks[1], as_tuple=True)
    box = result["instances"].pred_boxes.tensor[1]
    assert box[0] <= columns.min()
    assert box[1] <= rows.min()
    assert box[2] >= columns.max() + 1
    assert box[3] >= rows.max() + 1
    assert torch.equal(instances.pred_masks[1], torch.from_numpy(coarse))


def test_a_saliency_model_ranks_behind_a_detector(model: Any) -> None:  # noqa: F811
    image, truth, _ = scene()
    stage = SaliencyStage(Detector(found(np.stack([truth, ~truth]))), saliency=model).eval()
    (result,) = stage([{"image": torch.from_numpy(image[:, :, ::-1].transpose(2, 0, 1).copy())}])
    assert sorted(result["instances"].pred_ranks.tolist()) == [0, 1]
    assert result["instances"].pred_rank_scores.dtype == torch.float32


def test_nothing_asked_for_leaves_the_detector_alone() -> None:
    detector = nn.Identity()
    assert with_saliency(config(), detector) is detector
    stage = with_saliency(config("base", "MODEL.SOR.REFINE", True), detector)
    assert isinstance(stage, SaliencyStage)
    assert isinstance(stage.refiner, ColorRefiner)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["MODEL.SOR.RANK_BY", "saliency"], r"REFINER\.CONFIG: expected the config of a saliency model"),
        (["MODEL.SOR.RANK_BY", "area"], r"RANK_BY: expected 'head' or 'saliency', found 'area'"),
        (["MODEL.SOR.REFINE", True, "MODEL.SOR.REFINER.METHOD", "magic"], r"METHOD: expected 'color' or"),
        (["MODEL.SOR.REFINE", True, "MODEL.SOR.REFINER.METHOD", "network"], r"REFINER\.CONFIG: expected"),
    ],
)
def test_unusable_settings_are_named(options: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_saliency(config("base", *options), nn.Identity())


def test_a_missing_saliency_config_is_named() -> None:
    cfg = config("base", "MODEL.SOR.RANK_BY", "saliency", "MODEL.SOR.REFINER.CONFIG", "nowhere.yaml")
    with pytest.raises(FileNotFoundError, match=r"REFINER\.CONFIG: no such file: nowhere\.yaml"):
        with_saliency(cfg, nn.Identity())
