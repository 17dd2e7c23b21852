import cv2
import numpy as np
import pytest

from sor_ppa.visualization.colors import UNRANKED, rank_colors

# Linear RGB as seen without one kind of cone (Machado, Oliveira and Fernandes, 2009, severity 1).
DICHROMACY = {
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


def _lab(rgb):
    return cv2.cvtColor(rgb[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]


def _seen(rgb, matrix):
    s = rgb / 255.0
    linear = np.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ np.array(matrix).T, 0, 1)
    s = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(s * 255).astype(np.uint8)


def test_lightness_falls_with_the_rank():
    lightness = _lab(rank_colors(np.arange(1, 9)))[:, 0]
    assert (np.diff(lightness) < 0).all()


def test_the_first_rank_is_the_warmest():
    blue_to_yellow = _lab(rank_colors(np.arange(1, 6)))[:, 2]
    assert (np.diff(blue_to_yellow) < 0).all()


@pytest.mark.parametrize("kind", sorted(DICHROMACY))
def test_neighboring_ranks_differ_for_color_blind_eyes(kind):
    lab = _lab(_seen(rank_colors(np.arange(1, 6)), DICHROMACY[kind]))
    assert (np.linalg.norm(np.diff(lab, axis=0), axis=1) > 10).all()
    assert (np.diff(lab[:, 0]) < 0).all()


def test_a_rank_has_one_color_whatever_else_is_shown():
    np.testing.assert_array_equal(rank_colors([3])[0], rank_colors([1, 2, 3, 90])[2])
    np.testing.assert_array_equal(rank_colors([0, 1])[0], UNRANKED)
    assert rank_colors([]).shape == (0, 3)
