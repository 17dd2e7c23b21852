"""Images and masks of saliency sets."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from sor_ppa.data import DatasetError
from sor_ppa.inspyrenet import SODDatasetMapper

from .test_meta_arch import config


@pytest.fixture
def record(tmp_path: Path) -> dict:
    image = np.zeros((40, 60, 3), np.uint8)
    image[10:30, 20:50] = (255, 128, 0)  # BGR
    cv2.imwrite(str(tmp_path / "a.png"), image)
    cv2.imwrite(str(tmp_path / "m.png"), image[..., 0])
    return {"file_name": str(tmp_path / "a.png"), "mask_file_name": str(tmp_path / "m.png"), "image_id": 1}


@pytest.mark.parametrize(("order", "first"), [("RGB", 0), ("BGR", 255)])
def test_inference_takes_the_image_as_it_is(record: dict, order: str, first: int) -> None:
    item = SODDatasetMapper(config("base", "INPUT.FORMAT", order), is_train=False)(record)
    assert (item["height"], item["width"], item["image_id"]) == (40, 60, 1)
    assert item["image"].shape == (3, 40, 60)
    assert item["image"][0].max() == first


def test_training_augments_image_and_mask_alike(record: dict) -> None:
    np.random.seed(0)
    mapper = SODDatasetMapper(config("base", "MODEL.INSPYRENET.BASE_SIZE", 64), is_train=True)
    items = [mapper(record) for _ in range(8)]
    for item in items:
        assert item["image"].shape == (3, 64, 64)
        assert ((item["image"][2] > 128) == (item["saliency"][0] > 0.5)).float().mean() > 0.95
    assert not all(torch.equal(item["saliency"], items[0]["saliency"]) for item in items)


def test_a_mask_of_another_size_is_named(record: dict) -> None:
    cv2.imwrite(record["mask_file_name"], np.zeros((5, 6), np.uint8))
    with pytest.raises(DatasetError, match=r"m\.png: expected the image's 40 x 60 pixels, found 5 x 6"):
        SODDatasetMapper(config("base"), is_train=True)(record)
