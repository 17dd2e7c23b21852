"""The predictor: batches, order, settings, and models it refuses."""

import threading

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T

import sor_ppa
from sor_ppa.config import ConfigError
from sor_ppa.predictor import SORPredictor, demo_predictor
from tests.fake_model import FakeModel, fake_config, picture
from tests.models import make_cfg


def _predictor(model=None, **options):
    return SORPredictor(fake_config(), model=model or FakeModel(), **options)


def test_the_most_salient_object_has_rank_1_and_comes_first():
    (result,) = _predictor()([picture()])
    assert [o.rank for o in result.objects] == [1, 2, None]
    # The model's ranks rise from left to right; its last object has none.
    assert [o.box[0] for o in result.objects] == [27.0, 0.0, 53.0]
    np.testing.assert_array_equal(result.ranks, [1, 2, 0])


def test_masks_boxes_and_instances_are_in_the_order_of_the_objects():
    (result,) = _predictor()([picture()])
    for i, found in enumerate(result.objects):
        np.testing.assert_array_equal(found.mask, result.masks[i])
        np.testing.assert_allclose(found.box, result.instances.pred_boxes.tensor[i])
        columns = np.flatnonzero(found.mask[0])
        assert (columns[0], columns[-1] + 1) == (found.box[0], found.box[2])


def test_ranks_are_closed_up_where_the_score_threshold_takes_objects_away():
    everything = _predictor()([picture()])[0]
    lowest_ranked = min(o.score for o in everything.objects if o.rank)
    (result,) = _predictor(min_score=lowest_ranked + 1e-6)([picture()])
    assert [o.rank for o in result.objects] == [1]
    assert result.objects[0].box == everything.objects[1].box


def test_equal_ranks_are_told_apart_by_the_rank_score():
    class Tied(FakeModel):
        def forward(self, inputs):
            outputs = super().forward(inputs)
            for output in outputs:
                output["instances"].pred_ranks[:] = 4
                output["instances"].pred_rank_scores = torch.tensor([0.2, 0.9, 0.5])
            return outputs

    (result,) = _predictor(Tied())([picture()])
    assert [o.rank for o in result.objects] == [1, 2, 3]
    assert [o.rank_score for o in result.objects] == pytest.approx([0.9, 0.5, 0.2])


def test_no_pictures_give_no_results():
    assert _predictor()([]) == []


def test_the_answer_for_a_picture_does_not_depend_on_its_neighbours():
    images = [
        picture(60, 80, 0),
        picture(90, 50, 1),
        picture(60, 81, 2),
        picture(30, 40, 3),
        picture(10, 200, 4),
    ]
    together = _predictor()(images)
    for image, result in zip(images, together, strict=True):
        (alone,) = _predictor()([image])
        assert (result.height, result.width) == image.shape[:2]
        assert [o.score for o in result.objects] == [o.score for o in alone.objects]


def test_batches_hold_one_padded_size_and_at_most_the_batch_size():
    model = FakeModel()
    images = [picture(60, 80), picture(80, 60), picture(60, 82), picture(60, 80), picture(80, 60)]
    _predictor(model, batch_size=2)(images)
    assert sorted(len(b) for b in model.batches) == [1, 2, 2]
    for batch in model.batches:
        assert len({(-(-h // 32), -(-w // 32)) for h, w in batch}) == 1


def test_models_that_pad_to_a_square_share_batches():
    model = FakeModel()
    model.backbone.padding_constraints = {"square_size": 128, "size_divisibility": 32}
    _predictor(model)([picture(60, 80), picture(80, 60)])
    assert len(model.batches) == 1


def test_a_callable_that_is_no_module_is_a_model():
    model = FakeModel().eval()
    plain = _predictor(lambda inputs: model(inputs))([picture(60, 80), picture(61, 80)])
    assert [len(r.objects) for r in plain] == [3, 3]


@pytest.mark.parametrize("colours", ["RGB", "BGR"])
def test_pictures_are_resized_as_detectron2_does(colours):
    seen = []

    class Seeing(FakeModel):
        def forward(self, inputs):
            seen.extend(item["image"] for item in inputs)
            return super().forward(inputs)

    image = picture(75, 91)
    SORPredictor(fake_config(FORMAT=colours), model=Seeing())([image])
    given = image[:, :, ::-1] if colours == "RGB" else image
    wanted = T.ResizeShortestEdge([64, 64], 100).get_transform(given).apply_image(given)
    np.testing.assert_array_equal(seen[0].numpy(), wanted.transpose(2, 0, 1).astype(np.float32))


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1)])
def test_extreme_sizes(size):
    (result,) = _predictor()([picture(*size)])
    assert result.masks.shape[1:] == size


@pytest.mark.parametrize(
    ("options", "changes", "message"),
    [({"batch_size": 0}, {}, "batch_size: expected 1"), ({}, {"FORMAT": "L"}, "INPUT.FORMAT: expected RGB")],
)
def test_unusable_settings_are_named(options, changes, message):
    with pytest.raises(ValueError, match=message):
        SORPredictor(fake_config(**changes), model=FakeModel(), **options)


def test_the_config_is_copied():
    cfg = fake_config()
    predictor = SORPredictor(cfg, model=FakeModel())
    cfg.INPUT.FORMAT = "RGB"
    assert predictor.cfg.INPUT.FORMAT == "BGR"


def test_random_weights_only_for_those_who_ask(tmp_path):
    (tmp_path / "c.yaml").write_text("VERSION: 2\n")
    with pytest.raises(ValueError, match="MODEL.WEIGHTS: expected a weight file"):
        demo_predictor(tmp_path / "c.yaml", [])


def test_it_is_imported_from_the_package():
    assert sor_ppa.SORPredictor is SORPredictor


def test_one_picture_gives_one_result_and_an_iterable_a_list():
    predictor = _predictor()
    assert len(predictor(picture()).objects) == 3
    assert [r.width for r in predictor(picture(60, width) for width in (80, 81))] == [80, 81]
    assert len(predictor(np.stack([picture()] * 2))) == 2


def test_a_stream_reads_a_few_batches_ahead():
    taken = []

    def pictures():
        for i in range(100):
            taken.append(i)
            yield picture(30, 40)

    predictor = _predictor(batch_size=2)
    stream = predictor.stream(pictures())
    next(stream)
    assert len(taken) <= 8
    assert sum(1 for _ in stream) == 99


def test_threads_share_a_predictor():
    class Alone(FakeModel):
        running = 0

        def forward(self, inputs):
            self.running += 1
            assert self.running == 1
            outputs = super().forward(inputs)
            self.running -= 1
            return outputs

    predictor = _predictor(Alone())
    found = {}

    def work(i):
        found[i] = [len(r.objects) for r in predictor([picture(60, 80, i)] * 10)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {i: [3] * 10 for i in range(4)}


def test_a_picture_that_is_none_is_named_by_its_place():
    with pytest.raises(ValueError, match=r"pictures\[1\]: expected a path"):
        _predictor()([picture(), np.zeros((5, 5), np.uint8)])


def test_instances_without_ranks_are_refused():
    class Rankless(FakeModel):
        def forward(self, inputs):
            outputs = super().forward(inputs)
            outputs[0]["instances"].remove("pred_ranks")
            return outputs

    with pytest.raises(ValueError, match="found no pred_ranks"):
        _predictor(Rankless())(picture())


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        ("inspyrenet/inspyrenet_res2net50.yaml", {}, "expected a detector, .*maps"),
        (
            "siamese_detr/synthetic/pretrain.yaml",
            {},
            "expected a detector, .*pre-training",
        ),
        ("sor/demo.yaml", {"MODEL__SOR__NAME": ""}, "SOR.NAME: expected a ranking head"),
        ("sor/exp/maskrcnn.yaml", {"MODEL__ROI_HEADS__NAME": "StandardROIHeads"}, "SOR.NAME: expected"),
    ],
)
def test_a_wrong_kind_of_model_is_refused_when_the_predictor_is_built(config, options, message):
    with pytest.raises(ConfigError, match=message):
        SORPredictor(make_cfg(f"configs/{config}", **options))


def test_a_plain_transformer_detector_gives_objects_without_ranks():
    options = {"MODEL__SALIENCE_DETR__TEST_SCORE_THRESH": 0.0}
    cfg = make_cfg("configs/salience_detr/demo.yaml", **options)
    cfg.MODEL.META_ARCHITECTURE = "SalienceDETR"
    predictor = SORPredictor(cfg)
    result = predictor(picture(96, 128))
    assert len(result.objects) > 0
    assert not result.ranks.any()
    assert all(m.min() >= 0 and m.max() <= 1 for m in predictor.salience_maps(picture(96, 128)))


def test_models_without_salience_maps_are_named():
    with pytest.raises(ValueError, match="expected a model with salience maps"):
        _predictor().salience_maps(picture())


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
            np.testing.assert_allclose(
                [getattr(o, field) for o in together.objects],
                [getattr(o, field) for o in alone.objects],
                rtol=1e-4,
                atol=1e-4,
            )
