"""A model for prediction: weights, tuning, wrappers."""

import pytest
import torch

import sor_ppa.building
from sor_ppa.inference_model import build_inference_model, gives_ranks
from sor_ppa.saliency_refinement import SaliencyRefinement
from sor_ppa.test_time_augmentation import AugmentedRanker
from tests.fake_model import FakeModel
from tests.models import make_cfg

DEMO = "configs/sor/demo.yaml"


class _Layers(FakeModel):
    """A fake model with parameters."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(3, 3)
        self.second = torch.nn.Linear(3, 3)


@pytest.fixture
def _fake(monkeypatch):
    monkeypatch.setattr(sor_ppa.building, "build_checked_model", lambda cfg: _Layers())


@pytest.mark.usefixtures("_fake")
def test_weights_are_loaded(tmp_path):
    trained = _Layers()
    torch.save({"model": trained.state_dict()}, tmp_path / "model.pth")
    model = build_inference_model(make_cfg(MODEL__WEIGHTS=str(tmp_path / "model.pth")))
    torch.testing.assert_close(model.second.weight, trained.second.weight, check_stride=False)
    assert not model.training


@pytest.mark.usefixtures("_fake")
def test_weights_that_do_not_exist_are_named():
    with pytest.raises(FileNotFoundError, match=r"MODEL\.WEIGHTS: no such file: nowhere\.pth"):
        build_inference_model(make_cfg(MODEL__WEIGHTS="nowhere.pth"))


@pytest.mark.usefixtures("_fake")
def test_missing_parameters_are_reported(tmp_path, caplog):
    state = {k: v for k, v in _Layers().state_dict().items() if k.startswith("first")}
    torch.save({"model": state}, tmp_path / "model.pth")
    build_inference_model(make_cfg(MODEL__WEIGHTS=str(tmp_path / "model.pth")))
    assert "lacks 2 parameters of this model (second" in caplog.text


@pytest.mark.parametrize("needs", [True, False])
@pytest.mark.usefixtures("_fake")
def test_random_weights_are_reported_for_models_that_need_some(monkeypatch, caplog, needs):
    monkeypatch.setattr(_Layers, "needs_weights", needs, raising=False)
    build_inference_model(make_cfg())
    assert ("random weights" in caplog.text) == needs


def test_wrappers_pass_attributes_through():
    cfg = make_cfg(DEMO, TEST__AUG__ENABLED=True, MODEL__SOR__REFINE=True)
    model = build_inference_model(cfg)
    assert isinstance(model, SaliencyRefinement)
    assert isinstance(model.detector, AugmentedRanker)
    assert model.needs_original
    assert model.resizes_images
    assert model.backbone is model.detector.detector.backbone
    assert not hasattr(model, "salience_maps")


@pytest.mark.parametrize(
    ("config", "options", "expected"),
    [
        (DEMO, {}, True),
        (DEMO, {"MODEL__SOR__NAME": ""}, False),
        (DEMO, {"MODEL__SOR__NAME": "", "MODEL__SOR__RANK_BY": "saliency"}, True),
        ("configs/sor/exp/maskrcnn.yaml", {"MODEL__ROI_HEADS__NAME": "StandardROIHeads"}, False),
    ],
)
def test_which_models_rank(config, options, expected):
    assert gives_ranks(make_cfg(config, **options)) == expected
