import numpy as np
import pytest

from sor_ppa.visualization.text import draw_text, fit_text, text_width


def _ink(text, xy=(30, 20), **options):
    canvas = np.zeros((40, 60, 3), np.uint8)
    draw_text(canvas, text, xy, size=20, color=(255, 255, 255), **options)
    rows, columns = np.nonzero(canvas[..., 0])
    return rows, columns


@pytest.mark.parametrize("text", ["8", "1", "H"])
def test_centered_text_is_centered_on_its_point(text):
    rows, columns = _ink(text, centered=True, bold=True)
    assert abs((columns.min() + columns.max()) / 2 - 29.5) <= 1
    assert abs((rows.min() + rows.max()) / 2 - 19.5) <= 1


@pytest.mark.parametrize("text", ["", " "])
def test_empty_text_draws_nothing(text):
    assert not _ink(text)[0].size


def test_text_over_the_border_is_cut():
    rows, columns = _ink("saliency", (-10, 2))
    assert rows.min() == 0
    assert columns.min() < 3
    assert not _ink("saliency", (100, 2))[0].size


def test_shortened_text_fits_and_keeps_both_ends():
    short = fit_text("a_very_long_name_of_a_picture_0001.jpg", 12, 120)
    assert text_width(short, 12) <= 120
    assert short[0] == "a"
    assert short.endswith(".jpg")
    assert fit_text("short", 12, 500) == "short"
