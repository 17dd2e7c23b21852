"""The training-free ranker on made-up pictures and on photographs beside the project."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.engine import default_argument_parser
from detectron2.structures import Instances

from sor_ppa.config import ConfigError, load_config
from sor_ppa.contrast import ContrastRanker
from sor_ppa.engine import run
from sor_ppa.predictor import SORPredictor, demo_predictor
from tests.contrast.pictures import as_input, disc, mask_iou, picture
from tests.models import REPO

CONFIG = REPO / "configs" / "contrast" / "contrast.yaml"
PHOTOS = REPO.parent / "shared" / "photos"  # beside the project, as tests/parity.py
RED, BLUE, DULL = (40, 60, 220), (200, 80, 30), (120, 140, 150)


@pytest.fixture(scope="module")
def ranker() -> ContrastRanker:
    return ContrastRanker(load_config(CONFIG)).eval()


def rank(ranker: ContrastRanker, image: np.ndarray, **size: int) -> Instances:
    """The objects of a picture, most salient first."""
    instances = ranker([as_input(image) | size])[0]["instances"]
    return instances[instances.pred_ranks.argsort(descending=True)]


def same(a: Instances, b: Instances) -> bool:
    return torch.equal(a.pred_masks, b.pred_masks) and torch.equal(a.pred_rank_scores, b.pred_rank_scores)


def test_a_bright_disc_is_the_most_salient_object(ranker: ContrastRanker) -> None:
    mask = disc(110, 80, 30)
    found = rank(ranker, picture((mask, (230, 230, 230))))
    assert mask_iou(found.pred_masks[0].numpy(), mask) > 0.9
    left, top, right, bottom = found.pred_boxes.tensor[0].tolist()
    assert (left, top, right, bottom) == pytest.approx((80, 50, 141, 111), abs=3)


def test_touching_discs_of_different_color_are_two_objects(ranker: ContrastRanker) -> None:
    discs = disc(70, 80, 30), disc(128, 80, 30)
    found = rank(ranker, picture((discs[0], RED), (discs[1], BLUE)))
    for mask in discs:
        assert max(mask_iou(m, mask) for m in found.pred_masks.numpy()) > 0.6


def test_the_object_of_more_contrast_comes_first(ranker: ContrastRanker) -> None:
    dull, bright = disc(50, 80, 25), disc(150, 80, 25)
    found = rank(ranker, picture((dull, DULL), (bright, RED))).pred_masks.numpy()
    assert mask_iou(found[0], bright) > 0.6


def test_answers_hold_what_every_ranker_gives(ranker: ContrastRanker) -> None:
    found = rank(ranker, picture((disc(60, 80, 25), RED), (disc(150, 80, 20), BLUE)), height=80, width=100)
    count = len(found)
    assert count >= 2
    assert found.image_size == (80, 100)
    assert found.pred_masks.shape == (count, 80, 100)
    assert found.pred_masks.dtype == torch.bool
    assert found.pred_ranks.tolist() == list(range(count))[::-1]
    assert found.pred_rank_scores.dtype == torch.float32
    assert (found.pred_rank_scores.diff() <= 0).all()
    assert ((found.scores > 0) & (found.scores < 1)).all()


def test_the_answer_does_not_depend_on_the_batch_and_repeats(ranker: ContrastRanker) -> None:
    first, second = picture((disc(60, 80, 25), RED)), picture((disc(120, 60, 35), BLUE))[:120]
    alone = ranker([as_input(first)])[0]["instances"]
    together = ranker([as_input(second), as_input(first)])[1]["instances"]
    assert same(alone, together)


def test_rgb_and_bgr_give_the_same_answer(ranker: ContrastRanker) -> None:
    image = picture((disc(60, 80, 25), RED))
    rgb = ContrastRanker(load_config(CONFIG, ["INPUT.FORMAT", "RGB"])).eval()
    assert same(rank(ranker, image), rank(rgb, image[:, :, ::-1]))


@pytest.mark.parametrize(
    "shape", [(1, 1), (3, 3), (60, 3), (3, 6000), (1, 40)], ids=lambda shape: f"{shape[0]}x{shape[1]}"
)
def test_pictures_too_small_for_objects_have_none(ranker: ContrastRanker, shape: tuple[int, int]) -> None:
    found = rank(ranker, np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8))
    assert len(found) == 0
    assert found.pred_masks.shape == (0, *shape)
    assert found.pred_boxes.tensor.shape == (0, 4)


@pytest.mark.parametrize("gray", [0, 127, 255])
def test_a_picture_of_one_color_has_no_objects(ranker: ContrastRanker, gray: int) -> None:
    assert len(rank(ranker, np.full((120, 160, 3), gray, np.uint8))) == 0


@pytest.mark.parametrize("shape", [(40, 640), (2000, 3000)], ids=lambda shape: f"{shape[0]}x{shape[1]}")
def test_any_size_and_aspect(ranker: ContrastRanker, shape: tuple[int, int]) -> None:
    rows, columns = np.indices(shape)
    radius = min(shape) * 0.3
    mask = np.hypot(columns - shape[1] / 2, rows - shape[0] / 2) <= radius
    image = np.where(mask[:, :, None], np.uint8([40, 60, 220]), np.uint8(120))
    found = rank(ranker, image)
    assert mask_iou(found.pred_masks[0].numpy(), mask) > 0.7


def test_weights_of_the_order_change_the_order() -> None:
    small, large = disc(40, 60, 16), disc(140, 90, 45)
    image = picture((small, RED), (large, (90, 150, 160)))
    by_size = load_config(CONFIG, ["MODEL.CONTRAST.ORDER.SIZE", "100.0"])
    found = rank(ContrastRanker(by_size).eval(), image)
    assert mask_iou(found.pred_masks[0].numpy(), large) > 0.8


def test_the_saliency_map_can_be_looked_at(ranker: ContrastRanker) -> None:
    mask = disc(110, 80, 30)
    (saliency,) = SORPredictor(load_config(CONFIG)).salience_maps(picture((mask, RED)))
    assert saliency.shape == (320, 400)
    assert saliency.min() >= 0
    assert saliency.max() <= 1
    assert saliency[160, 220] > 0.8
    assert saliency[20, 20] < 0.2


def test_the_predictor_of_the_demo_needs_no_weights(caplog: pytest.LogCaptureFixture) -> None:
    mask = disc(110, 80, 30)
    (result,) = demo_predictor(CONFIG, [])([picture((mask, RED))])
    assert result.objects[0].rank == 1
    assert mask_iou(result.objects[0].mask, mask) > 0.9
    assert not [r for r in caplog.records if r.levelname == "WARNING"]


def test_training_is_refused(tmp_path: Path) -> None:
    options = ["--config-file", str(CONFIG), "OUTPUT_DIR", str(tmp_path), "DATASETS.TEST", "()"]
    with pytest.raises(ConfigError, match=r"expected a model that can be trained, found ContrastRanker"):
        run(default_argument_parser().parse_args(options))


def _score() -> ModuleType:
    spec = importlib.util.spec_from_file_location("score", PHOTOS / "score.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.skipif(not PHOTOS.is_dir(), reason=f"photographs not found: {PHOTOS}")
def test_photographs_are_ranked_sensibly(tmp_path: Path) -> None:
    predictor = SORPredictor(load_config(CONFIG))
    for name in json.loads((PHOTOS / "objects.json").read_text()):
        (result,) = predictor([PHOTOS / name])
        (tmp_path / f"{Path(name).stem}.json").write_text(json.dumps(result.to_json()))
    first, _, found, _ = _score().main(tmp_path)
    assert first >= 6
    assert found >= 10
