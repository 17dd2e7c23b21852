import numpy as np

from sor_ppa.visualization.text import draw_text, fit_text, text_mask, text_width


def test_ink_is_cropped_tightly():
    mask = text_mask("8", 24, bold=True)
    assert mask[0].any()
    assert mask[-1].any()
    assert mask[:, 0].any()
    assert mask[:, -1].any()


def test_larger_type_is_wider():
    assert text_width("rank", 30) > 1.5 * text_width("rank", 15)


def test_nothing_to_write_is_nothing_written():
    canvas = np.zeros((10, 10, 3), np.uint8)
    draw_text(canvas, " ", (0, 5), size=8, color=(255, 255, 255))
    draw_text(canvas, "", (0, 5), size=8, color=(255, 255, 255))
    assert not canvas.any()


def test_text_over_the_edge_is_cut():
    canvas = np.zeros((12, 20, 3), np.uint8)
    draw_text(canvas, "saliency", (-10, 2), size=14, color=(255, 255, 255))
    draw_text(canvas, "saliency", (100, 2), size=14, color=(255, 255, 255))
    assert canvas.any()


def test_shortened_text_fits_and_keeps_both_ends():
    text = "a_very_long_name_of_a_picture_0001.jpg"
    short = fit_text(text, 12, 120)
    assert text_width(short, 12) <= 120
    assert "…" in short
    assert short[0] == "a"
    assert short.endswith(".jpg")


def test_text_that_fits_is_left_alone():
    assert fit_text("short", 12, 500) == "short"


def test_letters_beyond_ascii_are_drawn():
    assert text_mask("é·Ж…", 20).any()
