"""From image files to batches of views."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from sor_ppa.data import DatasetError
from sor_ppa.siamese_detr.loading import TwoViewMapper, build_pretraining_loader
from tests.detr import picture

from .tiny import tiny_cfg


def save(path, height=60, width=80, seed=0):
    Image.fromarray(picture(height, width, seed).permute(1, 2, 0).numpy()).save(path)
    return {"file_name": str(path), "image_id": 3, "proposal_row": 0}


def make_mapper(**views):
    cfg = tiny_cfg("SiameseDETR")
    cfg.INPUT.TWO_VIEWS.MIN_SIZES = [64, 80]
    for key, value in views.items():
        cfg.INPUT.TWO_VIEWS[key] = value
    return TwoViewMapper(cfg, None)


@pytest.mark.parametrize("size", [(60, 80), (300, 40), (7, 400), (1, 1)])
def test_samples_of_any_size_are_well_formed(tmp_path, size):
    record, mapper = save(tmp_path / "a.png", *size), make_mapper()
    np.random.seed(0)
    found = [mapper(record) for _ in range(8)]
    samples = [s for s in found if s is not None]
    assert samples or min(size) < 60
    for sample in samples:
        views, boxes = sample["views"], sample["boxes"]
        assert views.dtype == torch.uint8
        assert boxes.shape == (2, 10, 4)
        assert sample["crops"].shape == (2, 10, 3, 128, 128)
        limit = torch.tensor([views.shape[-1], views.shape[-2]] * 2)
        assert (boxes >= 0).all()
        assert (boxes <= limit).all()
        assert (boxes[..., 2:] >= boxes[..., :2]).all()


def test_regions_show_the_same_pixels_in_both_views(tmp_path):
    """A smooth picture: a region cut from either view looks the same."""
    y, x = np.mgrid[:200, :300]
    ramp = np.stack((x * 255 / 299, y * 255 / 199, (x + y) * 255 / 498), axis=-1).astype(np.uint8)
    record = save(tmp_path / "ramp.png")
    Image.fromarray(ramp).save(record["file_name"])
    np.random.seed(1)
    first, second = make_mapper(PHOTOMETRIC=False, MIN_SIZES=[200])(record)["crops"].float()
    assert (first - second).abs().mean() < 3


def test_an_unreadable_image_is_said(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"a\.jpg"):
        make_mapper()({"file_name": str(tmp_path / "a.jpg"), "image_id": 0, "proposal_row": 0})


def test_the_loader_makes_batches_of_a_folder(tmp_path):
    for seed in range(3):
        save(tmp_path / f"{seed}.png", seed=seed)
    cfg = tiny_cfg("SiameseDETR")
    cfg.DATASETS.TRAIN = (f"folder://{tmp_path}",)
    cfg.INPUT.TWO_VIEWS.MIN_SIZES = [64]
    cfg.INPUT.TWO_VIEWS.PROPOSALS.METHOD = "random"
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.DATALOADER.NUM_WORKERS = 0
    batch = next(iter(build_pretraining_loader(cfg)))
    assert len(batch) == 2
    assert batch[0]["views"].shape[:2] == (2, 3)
