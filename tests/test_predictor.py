"""The predictor: batches, order, settings, and models it refuses."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T

from sor_ppa.config import ConfigError
from sor_ppa.predictor import SORPredictor, demo_predictor
from tests.fake_model import FakeModel, fake_config, fake_predictor, picture
from tests.models import make_cfg


def test_the_most_salient_object_has_rank_1_and_comes_first():
    (result,) = fake_predictor()([picture()])
    assert [o.rank for o in result.objects] == [1, 2, None]
    # The model's ranks rise from left to right; its last object has none.
    assert [o.box[0] for o in result.objects] == [27.0, 0.0, 53.0]
    np.testing.assert_array_equal(result.ranks, [1, 2, 0])


def test_masks_boxes_and_instances_are_in_the_order_of_the_objects():
    (result,) = fake_predictor()([picture()])
    for i, found in enumerate(result.objects):
        np.testing.assert_array_equal(found.mask, result.masks[i])
        np.testing.assert_allclose(found.box, result.instances.pred_boxes.tensor[i])
        columns = np.flatnonzero(found.mask[0])
        assert (columns[0], columns[-1] + 1) == (found.box[0], found.box[2])


def test_ranks_are_closed_up_where_the_score_threshold_takes_objects_away():
    everything = fake_predictor()([picture()])[0]
    lowest_ranked = min(o.score for o in everything.objects if o.rank)
    (result,) = fake_predictor(min_score=lowest_ranked + 1e-6)([picture()])
    assert [o.rank for o in result.objects] == [1]
    assert result.objects[0].box == everything.objects[1].box


def test_equal_ranks_are_told_apart_by_the_rank_score():
    def tie(found):
        found.pred_ranks[:] = 4
        found.pred_rank_scores = torch.tensor([0.2, 0.9, 0.5])

    (result,) = fake_predictor(FakeModel(change=tie))([picture()])
    assert [o.rank for o in result.objects] == [1, 2, 3]
    assert [o.rank_score for o in result.objects] == pytest.approx([0.9, 0.5, 0.2])


def test_the_answer_for_a_picture_does_not_depend_on_its_neighbors():
    sizes = [(60, 80), (90, 50), (60, 81), (30, 40), (10, 200)]
    images = [picture(*size, seed) for seed, size in enumerate(sizes)]
    for image, result in zip(images, fake_predictor()(images), strict=True):
        (alone,) = fake_predictor()([image])
        assert (result.height, result.width) == image.shape[:2]
        assert [o.score for o in result.objects] == [o.score for o in alone.objects]


def test_batches_hold_one_padded_size_and_at_most_the_batch_size():
    model = FakeModel()
    images = [picture(60, 80), picture(80, 60), picture(60, 82), picture(60, 80), picture(80, 60)]
    fake_predictor(model, batch_size=2)(images)
    assert sorted(len(b) for b in model.batches) == [1, 2, 2]
    for batch in model.batches:
        assert len({(-(-image.shape[1] // 32), -(-image.shape[2] // 32)) for image in batch}) == 1


def test_models_that_pad_to_a_square_share_batches():
    model = FakeModel()
    model.backbone.padding_constraints = {"square_size": 128, "size_divisibility": 32}
    fake_predictor(model)([picture(60, 80), picture(80, 60)])
    assert len(model.batches) == 1


@pytest.mark.parametrize("colors", ["RGB", "BGR"])
def test_pictures_are_resized_as_detectron2_does(colors):
    model, image = FakeModel(), picture(75, 91)
    SORPredictor(fake_config(FORMAT=colors), model=model)([image])
    given = image[:, :, ::-1] if colors == "RGB" else image
    wanted = T.ResizeShortestEdge([64, 64], 100).get_transform(given).apply_image(given)
    np.testing.assert_array_equal(model.batches[0][0].numpy(), wanted.transpose(2, 0, 1).astype(np.float32))


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1)])
def test_extreme_sizes(size):
    (result,) = fake_predictor()([picture(*size)])
    assert result.masks.shape[1:] == size


@pytest.mark.parametrize(
    ("options", "changes", "message"),
    [({"batch_size": 0}, {}, "batch_size: expected 1"), ({}, {"FORMAT": "L"}, "INPUT.FORMAT: expected RGB")],
)
def test_unusable_settings_are_named(options, changes, message):
    with pytest.raises(ValueError, match=message):
        SORPredictor(fake_config(**changes), model=FakeModel(), **options)


def test_random_weights_only_for_those_who_ask(tmp_path):
    (tmp_path / "c.yaml").write_text("VERSION: 2\n")
    with pytest.raises(ValueError, match="MODEL.WEIGHTS: expected a weight file"):
        demo_predictor(tmp_path / "c.yaml", [])


def test_one_picture_gives_one_result_and_an_iterable_a_list():
    predictor = fake_predictor()
    assert len(predictor(picture()).objects) == 3
    assert [r.width for r in predictor(picture(60, width) for width in (80, 81))] == [80, 81]
    assert len(predictor(np.stack([picture()] * 2))) == 2
    assert predictor([]) == []


def test_a_stream_reads_a_few_batches_ahead():
    taken = []

    def pictures():
        for i in range(100):
            taken.append(i)
            yield picture(30, 40)

    predictor = fake_predictor(batch_size=2)
    stream = predictor.stream(pictures())
    next(stream)
    assert len(taken) <= 8
    assert sum(1 for _ in stream) == 99


def test_threads_take_turns_at_the_model():
    running = []

    def model(inputs):
        running.append(1)
        assert len(running) == 1
        outputs = fake(inputs)
        running.pop()
        return outputs

    fake = FakeModel().eval()
    predictor = fake_predictor(model)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda i: predictor([picture(60, 80, i)] * 10), range(4)))
    assert [[len(r.objects) for r in found] for found in results] == [[3] * 10] * 4


def test_a_picture_that_is_none_is_named_by_its_place():
    with pytest.raises(ValueError, match=r"pictures\[1\]: expected a path"):
        fake_predictor()([picture(), np.zeros((5, 5), np.uint8)])


def test_objects_of_a_plain_detector_have_no_rank_and_come_by_confidence():
    def plain(found):
        found.remove("pred_ranks")
        found.remove("pred_rank_scores")

    result = fake_predictor(FakeModel(change=plain))(picture())
    assert not result.ranks.any()
    scores = [item.score for item in result.objects]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("inspyrenet/inspyrenet_res2net50.yaml", "expected a detector, .*maps"),
        ("siamese_detr/synthetic/pretrain.yaml", "expected a detector, .*pre-training"),
    ],
)
def test_a_wrong_kind_of_model_is_refused_when_the_predictor_is_built(config, message):
    with pytest.raises(ConfigError, match=message):
        SORPredictor(make_cfg(f"configs/{config}"))


def test_a_plain_transformer_detector_gives_objects_without_ranks():
    options = {"MODEL__SALIENCE_DETR__TEST_SCORE_THRESH": 0.0}
    cfg = make_cfg("configs/salience_detr/demo.yaml", **options)
    cfg.MODEL.META_ARCHITECTURE = "SalienceDETR"
    predictor = SORPredictor(cfg)
    result = predictor(picture(96, 128))
    assert len(result.objects) > 0
    assert not result.ranks.any()
    assert all(m.min() >= 0 and m.max() <= 1 for m in predictor.salience_maps(picture(96, 128)))


@pytest.mark.slow
def test_the_full_network_answers_alike_alone_and_in_a_mixed_batch():
    torch.manual_seed(0)
    cfg = make_cfg(MODEL__FCOS__INFERENCE_TH_TEST=0.0, MODEL__FCOS__POST_NMS_TOPK_TEST=4)
    cfg.INPUT.MIN_SIZE_TEST = 160
    predictor = SORPredictor(cfg)
    images = [picture(120, 160, 0), picture(200, 90, 1), picture(118, 158, 2), picture(120, 160, 3)]
    for image, together in zip(images, predictor(images), strict=True):
        (alone,) = predictor([image])
        assert together.masks.shape == (len(alone.objects), *image.shape[:2])
        assert len(alone.objects)
        np.testing.assert_array_equal(together.ranks, alone.ranks)
        for field in ("score", "rank_score", "box"):
            one, other = ([getattr(o, field) for o in result.objects] for result in (together, alone))
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
