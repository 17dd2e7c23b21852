"""Every kind of picture becomes the same array."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from sor_ppa.pictures import is_picture, to_bgr
from sor_ppa.visualization.files import ImageReadError
from tests.fake_model import picture

BGR = picture(6, 8)
RGB = BGR[:, :, ::-1].copy()


@pytest.mark.parametrize(
    ("given", "order"),
    [
        (BGR, "bgr"),
        (RGB, "rgb"),
        (Image.fromarray(RGB), "bgr"),
        (Image.fromarray(RGB), "rgb"),
        (torch.from_numpy(BGR), "bgr"),
        (torch.from_numpy(RGB).permute(2, 0, 1), "rgb"),
    ],
)
def test_kinds_and_channel_orders(given, order):
    assert is_picture(given)
    np.testing.assert_array_equal(to_bgr(given, order), BGR)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1", "CMYK", "I;16"])
def test_pil_images_of_any_mode(mode):
    assert to_bgr(Image.new(mode, (8, 6))).shape == (6, 8, 3)


def test_files(tmp_path):
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), BGR)
    np.testing.assert_array_equal(to_bgr(path), BGR)
    np.testing.assert_array_equal(to_bgr(str(path), "rgb"), BGR)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    with pytest.raises(ImageReadError, match=r"broken\.jpg: "):
        to_bgr(tmp_path / "broken.jpg")


@pytest.mark.parametrize(
    "given",
    [
        np.zeros((5, 5), np.uint8),
        np.zeros((5, 5, 3)),
        np.zeros((0, 5, 3), np.uint8),
        3,
        Image.new("L", (0, 5)),
    ],
)
def test_what_is_no_picture_is_named(given):
    assert is_picture(given)
    with pytest.raises(ValueError, match="picture: expected a path, a PIL image, a uint8 array"):
        to_bgr(given)


@pytest.mark.parametrize("given", [[BGR], np.stack([BGR]), torch.zeros(2, 3, 4, 4), iter([])])
def test_several_pictures_are_not_one(given):
    assert not is_picture(given)
