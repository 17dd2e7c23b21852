"""Results of the predictor: maps, drawings, JSON, COCO and supervision."""

import json
import sys

import numpy as np
import pytest
import torch
from pycocotools import mask as mask_util

from sor_ppa.data.masks import segmentation_mask
from sor_ppa.visualization import EVERYTHING, RankStyle, draw_ranked
from tests.fake_model import FakeModel, fake_predictor, picture


def test_pictures_without_objects():
    (result,) = fake_predictor(FakeModel(count=0))([picture()])
    assert result.objects == ()
    assert result.masks.shape == (0, 60, 80)
    assert result.to_json()["objects"] == []
    np.testing.assert_array_equal(result.saliency_map(), np.zeros((60, 80), np.uint8))
    np.testing.assert_array_equal(result.draw(picture()), picture()[:, :, ::-1])


def test_json_holds_the_ranks_and_exact_masks():
    (result,) = fake_predictor()([picture()])
    content = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert (content["height"], content["width"]) == (60, 80)
    assert [o["rank"] for o in content["objects"]] == [1, 2, None]
    for written, found in zip(content["objects"], result.objects, strict=True):
        np.testing.assert_array_equal(mask_util.decode(written["segmentation"]).astype(bool), found.mask)
        assert written["area"] == found.mask.sum()


def test_json_says_how_sure_the_order_is_if_the_model_does():
    def add(found):
        number = len(found)
        found.pred_rank_probabilities = torch.full((number, 2), 1 / 3)
        found.pred_expected_rank = torch.arange(1.0, number + 1)
        found.pred_first_probability = torch.full((number,), 1 / 3)

    (result,) = fake_predictor(FakeModel(change=add))([picture()])
    written = result.to_json()["objects"][0]
    assert written["rank_probabilities"] == [0.3333, 0.3333]
    assert written["first_probability"] == 0.3333
    assert sorted(o.expected_rank for o in result.objects) == [1, 2, 3]
    assert "expected_rank" not in fake_predictor()([picture()])[0].to_json()["objects"][0]


def test_json_with_polygons():
    (result,) = fake_predictor()([picture()])
    for written, found in zip(result.to_json(masks="polygons")["objects"], result.objects, strict=True):
        np.testing.assert_array_equal(segmentation_mask(written["segmentation"], 60, 80), found.mask)


def test_json_has_no_nan():
    def spoil(found):
        found.pred_rank_scores[0] = float("nan")

    json.dumps(fake_predictor(FakeModel(change=spoil))(picture()).to_json(), allow_nan=False)


def test_doubtful_objects_are_left_out_without_gaps():
    whole = fake_predictor()(picture())
    kept = whole.confident(sorted(o.score for o in whole.objects)[1])
    assert len(kept.objects) == len(kept.masks) == len(whole.objects) - 1
    assert [o.rank for o in kept.objects if o.rank] == [*range(1, (kept.ranks > 0).sum() + 1)]


def test_the_saliency_map_paints_ranked_objects_only():
    (result,) = fake_predictor()([picture()])
    gray = result.saliency_map()
    assert [int(gray[o.mask].max()) for o in result.objects] == [255, 229, 0]


def test_drawing_needs_no_picture_again():
    image = picture()
    result = fake_predictor()(image)
    drawn = result.draw()
    assert drawn.shape == image.shape
    np.testing.assert_array_equal(drawn, result.draw(image))
    assert (drawn != image[:, :, ::-1]).any()


def test_a_drawing_leaves_out_unsure_objects_and_those_beyond_the_tenth():
    def twenty(found):
        found.scores = 1 - torch.arange(20) / 30  # objects beyond the 15th are unsure
        found.pred_ranks = torch.arange(20, 0, -1)

    result = fake_predictor(FakeModel(count=20, change=twenty))(picture(120, 400))
    assert (result.ranks == np.arange(1, 21)).all()
    ten = draw_ranked(result.image_bgr[:, :, ::-1], result.masks[:10], result.ranks[:10])
    np.testing.assert_array_equal(result.draw(), ten)
    sure = draw_ranked(result.image_bgr[:, :, ::-1], result.masks[:16], result.ranks[:16])
    np.testing.assert_array_equal(result.draw(style=RankStyle(most=20)), sure)
    assert (result.draw(style=RankStyle(**EVERYTHING)) != sure).any()


def test_objects_of_a_plain_detector_are_drawn_with_their_classes():
    def plain(found):
        found.remove("pred_ranks")
        found.pred_masks[0] = False
        found.pred_masks[0, 10:20, 5:10] = True

    first = fake_predictor(FakeModel(change=plain), class_names=("cup",))(picture(240, 320)).draw()
    second = fake_predictor(FakeModel(change=plain), class_names=("dog",))(picture(240, 320)).draw()
    assert first.shape == (240, 320, 3)
    assert (first != second).any()


def test_objects_carry_their_class():
    names = fake_predictor(class_names=("person",))(picture()).objects
    assert {(o.class_id, o.class_name) for o in names} == {(0, "person")}
    assert names[0].to_json()["class"] == "person"


def test_representations_are_short():
    result = fake_predictor(class_names=("person",))(picture())
    assert repr(result) == "RankedImage(array, 60 x 80, 3 objects, 2 ranked)"
    assert repr(result.objects[0]).startswith("RankedObject(rank=1, person, score=0.")


def test_coco_annotations_of_ranked_objects():
    result = fake_predictor()(picture())
    annotations = result.to_coco(7, category_id=3)
    json.dumps(annotations, allow_nan=False)
    assert [(a["image_id"], a["category_id"], a["rank"]) for a in annotations] == [(7, 3, 1), (7, 3, 2)]
    assert annotations[0]["bbox"] == [27.0, 0.0, 26.0, 60.0]
    np.testing.assert_array_equal(
        mask_util.decode(annotations[0]["segmentation"]).astype(bool), result.objects[0].mask
    )


@pytest.mark.parametrize("count", [3, 0])
def test_supervision_takes_and_draws_the_result(count: int):
    sv = pytest.importorskip("supervision")
    result = fake_predictor(FakeModel(count=count), class_names=("person",))(picture())
    found = result.to_supervision()
    assert len(found) == count
    assert found.data["rank"].tolist() == [1, 2, 0][:count]
    np.testing.assert_array_equal(found.mask, result.masks)
    np.testing.assert_allclose(found.xyxy, np.array([o.box for o in result.objects]).reshape(-1, 4))
    ranked = found[found.data["rank"] > 0]
    assert [str(name) for name in ranked.data["class_name"]] == ["person"] * len(ranked)
    drawn = sv.MaskAnnotator().annotate(result.image_bgr.copy(), ranked)
    drawn = sv.LabelAnnotator().annotate(drawn, ranked, labels=[str(rank) for rank in ranked.data["rank"]])
    assert (drawn != result.image_bgr).any() == (count > 0)


def test_supervision_that_is_not_installed_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ImportError, match=r"pip install supervision"):
        fake_predictor()(picture()).to_supervision()
