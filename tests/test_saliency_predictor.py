"""Saliency maps of pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sor_ppa.saliency_predictor import SaliencyPredictor

from .inspyrenet.test_meta_arch import config, model  # noqa: F401  (a fixture)


@pytest.mark.parametrize("mode", ["quality", "speed"])
def test_the_map_has_the_size_of_the_picture(model, mode: str) -> None:  # noqa: F811
    predictor = SaliencyPredictor(config(), model=model, mode=mode)
    image = np.random.default_rng(0).integers(0, 256, (123, 181, 3)).astype(np.uint8)
    saliency = predictor(image)
    assert saliency.shape == (123, 181)
    assert saliency.dtype == np.float32
    assert saliency.min() >= 0
    assert saliency.max() <= 1


def test_tuning_does_not_change_the_map(model) -> None:  # noqa: F811
    image = np.random.default_rng(0).integers(0, 256, (100, 140, 3)).astype(np.uint8)
    rgb = torch.from_numpy(image[:, :, ::-1].transpose(2, 0, 1).copy())
    expected = model([{"image": rgb}])[0]["saliency"].numpy()
    found = SaliencyPredictor(config(), model=model)(image)
    assert np.abs(found - expected).mean() < 1e-4


def test_invalid_pictures_and_modes_are_refused(model) -> None:  # noqa: F811
    with pytest.raises(ValueError, match="mode: expected one of quality, speed, found 'fast'"):
        SaliencyPredictor(config(), model=model, mode="fast")
    with pytest.raises(ValueError, match=r"picture: expected a path"):
        SaliencyPredictor(config(), model=model)(np.zeros((3, 3)))
