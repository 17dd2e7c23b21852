import dataclasses
import json

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import transforms as T
from pycocotools import mask as mask_util

import sor_ppa.predictor
from sor_ppa import add_sor_config
from sor_ppa.config import ConfigError, load_config
from sor_ppa.data.masks import segmentation_mask
from sor_ppa.predictor import SORPredictor, demo_predictor
from sor_ppa.visualization.files import ImageReadError
from tests.fake_model import FakeModel
from tests.models import make_cfg


def _cfg(**changes):
    cfg = get_cfg()
    add_sor_config(cfg)
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 64, 100
    for key, value in changes.items():
        setattr(cfg.INPUT, key, value)
    return cfg


def _image(height=60, width=80, seed=0):
    return np.random.default_rng(seed).integers(100, 256, (height, width, 3), dtype=np.uint8)


def _predictor(model=None, **options):
    return SORPredictor(_cfg(), model=model or FakeModel(), **options)


def test_the_most_salient_object_has_rank_1_and_comes_first():
    (result,) = _predictor()([_image()])
    assert [o.rank for o in result.objects] == [1, 2, None]
    # The model's ranks rise from left to right; its last object has none.
    assert [o.box[0] for o in result.objects] == [27.0, 0.0, 53.0]
    np.testing.assert_array_equal(result.ranks, [1, 2, 0])


def test_masks_boxes_and_instances_are_in_the_order_of_the_objects():
    (result,) = _predictor()([_image()])
    for i, found in enumerate(result.objects):
        np.testing.assert_array_equal(found.mask, result.masks[i])
        np.testing.assert_allclose(found.box, result.instances.pred_boxes.tensor[i])
        columns = np.flatnonzero(found.mask[0])
        assert (columns[0], columns[-1] + 1) == (found.box[0], found.box[2])


def test_ranks_are_closed_up_where_the_score_threshold_takes_objects_away():
    everything = _predictor()([_image()])[0]
    lowest_ranked = min(o.score for o in everything.objects if o.rank)
    (result,) = _predictor(min_score=lowest_ranked + 1e-6)([_image()])
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

    (result,) = _predictor(Tied())([_image()])
    assert [o.rank for o in result.objects] == [1, 2, 3]
    assert [o.rank_score for o in result.objects] == pytest.approx([0.9, 0.5, 0.2])


def test_pictures_without_objects():
    (result,) = _predictor(FakeModel(count=0))([_image()])
    assert result.objects == ()
    assert result.masks.shape == (0, 60, 80)
    assert result.to_json()["objects"] == []
    np.testing.assert_array_equal(result.saliency_map(), np.zeros((60, 80), np.uint8))
    np.testing.assert_array_equal(result.draw(_image()), _image()[:, :, ::-1])


def test_no_pictures_give_no_results():
    assert _predictor()([]) == []


def test_the_answer_for_a_picture_does_not_depend_on_its_neighbours():
    images = [_image(60, 80, 0), _image(90, 50, 1), _image(60, 81, 2), _image(30, 40, 3), _image(10, 200, 4)]
    together = _predictor()(images)
    for image, result in zip(images, together, strict=True):
        (alone,) = _predictor()([image])
        assert (result.height, result.width) == image.shape[:2]
        assert [o.score for o in result.objects] == [o.score for o in alone.objects]


def test_batches_hold_one_padded_size_and_at_most_the_batch_size():
    model = FakeModel()
    images = [_image(60, 80), _image(80, 60), _image(60, 82), _image(60, 80), _image(80, 60)]
    _predictor(model, batch_size=2)(images)
    assert sorted(len(b) for b in model.batches) == [1, 2, 2]
    for batch in model.batches:
        assert len({(-(-h // 32), -(-w // 32)) for h, w in batch}) == 1


def test_models_that_pad_to_a_square_share_batches():
    model = FakeModel()
    model.backbone.padding_constraints = {"square_size": 128, "size_divisibility": 32}
    _predictor(model)([_image(60, 80), _image(80, 60)])
    assert len(model.batches) == 1


def test_a_callable_that_is_no_module_is_a_model():
    model = FakeModel().eval()
    plain = _predictor(lambda inputs: model(inputs))([_image(60, 80), _image(61, 80)])
    assert [len(r.objects) for r in plain] == [3, 3]


@pytest.mark.parametrize("colours", ["RGB", "BGR"])
def test_pictures_are_resized_as_detectron2_does(colours):
    seen = []

    class Seeing(FakeModel):
        def forward(self, inputs):
            seen.extend(item["image"] for item in inputs)
            return super().forward(inputs)

    image = _image(75, 91)
    SORPredictor(_cfg(FORMAT=colours), model=Seeing())([image])
    given = image[:, :, ::-1] if colours == "RGB" else image
    wanted = T.ResizeShortestEdge([64, 64], 100).get_transform(given).apply_image(given)
    np.testing.assert_array_equal(seen[0].numpy(), wanted.transpose(2, 0, 1).astype(np.float32))


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1)])
def test_extreme_sizes(size):
    (result,) = _predictor()([_image(*size)])
    assert result.masks.shape[1:] == size


def test_files_are_read_and_named(tmp_path):
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), _image())
    from_file, from_array = _predictor()([path, _image()])
    assert from_file.file == str(path)
    assert from_array.file is None
    assert [o.score for o in from_file.objects] == [o.score for o in from_array.objects]


def test_an_unreadable_file_is_named(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    with pytest.raises(ImageReadError, match=r"broken\.jpg: "):
        _predictor()([str(tmp_path / "broken.jpg")])


@pytest.mark.parametrize(
    "picture", [np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3)), np.zeros((0, 5, 3), np.uint8)]
)
def test_what_is_no_picture_is_named(picture):
    with pytest.raises(ValueError, match=r"images\[1\]: expected uint8"):
        _predictor()([_image(), picture])


def test_a_single_picture_is_refused_rather_than_taken_apart(tmp_path):
    for single in (_image(), "photo.jpg", tmp_path):
        with pytest.raises(ValueError, match="a single one"):
            _predictor()(single)


def test_json_holds_the_ranks_and_exact_masks():
    (result,) = _predictor()([_image()])
    content = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert (content["height"], content["width"]) == (60, 80)
    assert [o["rank"] for o in content["objects"]] == [1, 2, None]
    for written, found in zip(content["objects"], result.objects, strict=True):
        np.testing.assert_array_equal(mask_util.decode(written["segmentation"]).astype(bool), found.mask)
        assert written["area"] == found.mask.sum()


def test_json_with_polygons():
    (result,) = _predictor()([_image()])
    for written, found in zip(result.to_json(masks="polygons")["objects"], result.objects, strict=True):
        np.testing.assert_array_equal(segmentation_mask(written["segmentation"], 60, 80), found.mask)


def test_json_has_no_nan():
    class Strange(FakeModel):
        def forward(self, inputs):
            outputs = super().forward(inputs)
            outputs[0]["instances"].pred_rank_scores[0] = float("nan")
            return outputs

    (result,) = _predictor(Strange())([_image()])
    json.dumps(result.to_json(), allow_nan=False)


def test_the_saliency_map_paints_ranked_objects_only():
    (result,) = _predictor()([_image()])
    grey = result.saliency_map()
    assert [int(grey[o.mask].max()) for o in result.objects] == [255, 229, 0]


def test_results_cannot_be_changed():
    (result,) = _predictor()([_image()])
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.height = 3


def test_a_model_without_ranks_is_refused():
    class Rankless(FakeModel):
        def forward(self, inputs):
            outputs = super().forward(inputs)
            outputs[0]["instances"].remove("pred_ranks")
            return outputs

    with pytest.raises(ValueError, match="lack pred_ranks"):
        _predictor(Rankless())([_image()])


@pytest.mark.parametrize(
    ("options", "changes", "message"),
    [({"batch_size": 0}, {}, "batch_size: expected 1"), ({}, {"FORMAT": "L"}, "INPUT.FORMAT: expected RGB")],
)
def test_unusable_settings_are_named(options, changes, message):
    with pytest.raises(ValueError, match=message):
        SORPredictor(_cfg(**changes), model=FakeModel(), **options)


def test_the_config_is_copied():
    cfg = _cfg()
    predictor = SORPredictor(cfg, model=FakeModel())
    cfg.INPUT.FORMAT = "RGB"
    assert predictor.cfg.INPUT.FORMAT == "BGR"


def test_a_config_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"no\.yaml: no such config file"):
        load_config(tmp_path / "no.yaml")


def test_an_override_without_a_key_of_that_name(tmp_path):
    (tmp_path / "c.yaml").write_text("VERSION: 2\n")
    with pytest.raises(ValueError, match="MODEL.SALIENCY"):
        load_config(tmp_path / "c.yaml", ["MODEL.SALIENCY", "1"])


def test_overrides_are_applied_and_a_missing_gpu_is_replaced(tmp_path):
    (tmp_path / "c.yaml").write_text("VERSION: 2\n")
    cfg = load_config(tmp_path / "c.yaml", ["INPUT.MIN_SIZE_TEST", "96"])
    assert cfg.INPUT.MIN_SIZE_TEST == 96
    usable = "cuda" if torch.cuda.is_available() else "cpu"
    assert usable == cfg.MODEL.DEVICE


def test_random_weights_only_for_those_who_ask(tmp_path):
    (tmp_path / "c.yaml").write_text("VERSION: 2\n")
    with pytest.raises(ValueError, match="names no weights"):
        demo_predictor(tmp_path / "c.yaml", [])


def test_weights_that_are_not_there_are_named(tmp_path):
    (tmp_path / "c.yaml").write_text("VERSION: 2\n")
    with pytest.raises(FileNotFoundError, match=r"MODEL\.WEIGHTS: no such file: nowhere\.pth"):
        demo_predictor(tmp_path / "c.yaml", ["MODEL.WEIGHTS", "nowhere.pth"])


class _Layers(FakeModel):
    """A fake model with parameters."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(3, 3)
        self.second = torch.nn.Linear(3, 3)


def test_weights_are_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(sor_ppa.predictor, "build_checked_model", lambda cfg: _Layers())
    trained = _Layers()
    torch.save({"model": trained.state_dict()}, tmp_path / "model.pth")
    (tmp_path / "c.yaml").write_text("VERSION: 2\n")
    options = ["MODEL.WEIGHTS", str(tmp_path / "model.pth")]
    predictor = SORPredictor.from_config_file(tmp_path / "c.yaml", options)
    torch.testing.assert_close(predictor.model.second.weight, trained.second.weight)


def test_weights_that_leave_parameters_random_are_reported(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(sor_ppa.predictor, "build_checked_model", lambda cfg: _Layers())
    state = {k: v for k, v in _Layers().state_dict().items() if k.startswith("first")}
    torch.save({"model": state}, tmp_path / "model.pth")
    (tmp_path / "c.yaml").write_text("VERSION: 2\n")
    SORPredictor.from_config_file(tmp_path / "c.yaml", ["MODEL.WEIGHTS", str(tmp_path / "model.pth")])
    assert "lacks 2 parameters of this model (second" in caplog.text


@pytest.mark.slow
def test_the_full_network_answers_alike_alone_and_in_a_mixed_batch():
    torch.manual_seed(0)
    cfg = make_cfg(MODEL__FCOS__INFERENCE_TH_TEST=0.0, MODEL__FCOS__POST_NMS_TOPK_TEST=4)
    cfg.INPUT.MIN_SIZE_TEST = 160
    predictor = SORPredictor(cfg)
    images = [_image(120, 160, 0), _image(200, 90, 1), _image(118, 158, 2), _image(120, 160, 3)]
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
