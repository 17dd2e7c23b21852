"""Sharper masks and ranks by saliency, behind a detector."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from torch import nn

from sor_ppa.config import ConfigError
from sor_ppa.inspyrenet.refine import ColorRefiner, refine_masks
from sor_ppa.saliency_predictor import SaliencyPredictor
from sor_ppa.saliency_refinement import SaliencyRefinement, rank_by_saliency, with_saliency
from tests.inspyrenet.test_meta_arch import config, model  # noqa: F401  (a fixture)
from tests.inspyrenet.test_refine import scene


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


def test_objects_of_higher_mean_saliency_rank_higher() -> None:
    masks = np.zeros((3, 4, 4), bool)
    masks[0, :1], masks[1, 1:3], masks[2, 2:3] = True, True, True
    saliency = torch.tensor([0.2, 0.9, 0.5, 0.0])[:, None].expand(4, 4)
    ranked = rank_by_saliency(found(masks), saliency)
    assert ranked.pred_ranks.tolist() == [0, 2, 1]
    torch.testing.assert_close(ranked.pred_rank_scores, torch.tensor([0.2, 0.7, 0.5]))
    assert rank_by_saliency(found(masks & False), saliency).pred_rank_scores.tolist() == [0, 0, 0]
    assert rank_by_saliency(found(masks), saliency, 0.6).pred_ranks.tolist() == [0, 1, -1]
    assert rank_by_saliency(found(masks[:0]), saliency).pred_ranks.shape == (0,)


def test_only_ranked_objects_are_sharpened_and_boxes_hold_their_masks() -> None:
    image, _, coarse = scene()
    instances = found(np.stack([coarse, coarse]))
    sharpen = partial(refine_masks, refiner=ColorRefiner(), band=0.12)
    stage = SaliencyRefinement(Detector(instances), sharpen=sharpen).eval()
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
    predictor = SaliencyPredictor(config(), model=model)
    stage = SaliencyRefinement(Detector(found(np.stack([truth, ~truth]))), saliency=predictor).eval()
    (result,) = stage([{"image": torch.from_numpy(image[:, :, ::-1].transpose(2, 0, 1).copy())}])
    assert sorted(result["instances"].pred_ranks.tolist()) == [0, 1]
    assert result["instances"].pred_rank_scores.dtype == torch.float32


def test_nothing_asked_for_leaves_the_detector_alone() -> None:
    detector = nn.Identity()
    assert with_saliency(config(), detector) is detector
    stage = with_saliency(config("base", "MODEL.SOR.REFINE", True), detector)
    assert isinstance(stage, SaliencyRefinement)
    assert stage.sharpen is not None
    assert stage.saliency is None


@pytest.mark.parametrize("options", [["MODEL.SOR.RANK_BY", "saliency"], ["MODEL.SOR.REFINE", True]])
def test_a_missing_saliency_config_is_named(options: list[Any]) -> None:
    words = ["MODEL.SOR.REFINER.METHOD", "network", "MODEL.SOR.REFINER.CONFIG", "nowhere.yaml"]
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        with_saliency(config("base", *options, *words), nn.Identity())
