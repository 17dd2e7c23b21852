import numpy as np
import pytest

from sor_ppa.visualization import RankStyle, draw_ranked, rank_colors
from sor_ppa.visualization.colors import UNRANKED


def _image(height=120, width=160, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _boxes(height, width, *boxes):
    masks = np.zeros((len(boxes), height, width), bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    return masks


def _distance(pixel, color):
    return np.abs(np.asarray(pixel, int) - np.asarray(color, int)).sum()


def test_the_picture_itself_is_not_changed():
    image, masks = _image(), _boxes(120, 160, (20, 20, 100, 90))
    before = image.copy()
    assert (draw_ranked(image, masks, [1]) != before).any()
    np.testing.assert_array_equal(image, before)


def test_without_objects_the_picture_comes_back_unchanged():
    image = _image()
    np.testing.assert_array_equal(draw_ranked(image, np.zeros((0, 120, 160), bool), []), image)
    np.testing.assert_array_equal(draw_ranked(image, np.zeros((1, 120, 160), bool), [1]), image)


def test_objects_are_brighter_than_what_is_around_them():
    image = np.full((200, 300, 3), 180, np.uint8)
    out = draw_ranked(image, _boxes(200, 300, (30, 30, 150, 170)), [1])
    assert out[:, 250:].mean() < 0.75 * 180
    assert out[40:60, 40:60].mean() > 130


def test_the_outline_has_the_color_of_the_rank():
    image = np.full((240, 320, 3), 128, np.uint8)
    masks = _boxes(240, 320, (20, 40, 120, 200), (180, 40, 300, 200))
    out = draw_ranked(image, masks, [2, 1])
    gold, orange = rank_colors([1, 2])
    # Half-way down the left edges, away from the badges.
    assert min(_distance(p, orange) for p in out[180, 17:24]) < 40
    assert min(_distance(p, gold) for p in out[180, 177:184]) < 40


def test_the_more_salient_object_lies_on_top():
    image = np.full((200, 200, 3), 128, np.uint8)
    masks = _boxes(200, 200, (0, 0, 130, 200), (70, 0, 200, 200))
    style = RankStyle(tint=1.0, rim=1.0)
    gold = rank_colors([1])[0]
    for ranks in ([1, 2], [2, 1]):
        out = draw_ranked(image, masks, ranks, style=style)
        assert _distance(out[150, 100], gold) < 6


def test_objects_without_rank_are_drawn_by_default_only_if_none_has_a_rank():
    masks = _boxes(120, 160, (10, 10, 60, 60), (80, 10, 150, 100))
    np.testing.assert_array_equal(draw_ranked(_image(), masks, [0, 1]), draw_ranked(_image(), masks[1:], [1]))
    default = draw_ranked(_image(), masks, [0, 0])
    gray = draw_ranked(_image(), masks, [0, 0], style=RankStyle(unranked=True))
    np.testing.assert_array_equal(gray, default)
    assert min(_distance(p, UNRANKED) for p in gray[35, 7:14]) < 120
    assert (draw_ranked(_image(), masks, [0, 0], style=RankStyle(unranked=False)) != default).any()


def test_duplicates_of_a_more_salient_object_are_left_out():
    masks = _boxes(120, 160, (10, 10, 100, 100), (12, 12, 100, 100), (20, 20, 70, 70))
    expected = draw_ranked(_image(), masks[[0, 2]], [1, 3])
    np.testing.assert_array_equal(draw_ranked(_image(), masks, [1, 2, 3]), expected)
    everything = draw_ranked(_image(), masks, [1, 2, 3], style=RankStyle(duplicate=2.0))
    assert (everything != expected).any()


def test_a_nested_duplicate_is_left_out():
    masks = _boxes(120, 160, (10, 10, 100, 100), (10, 10, 100, 60))
    expected = draw_ranked(_image(), masks[:1], [1])
    np.testing.assert_array_equal(draw_ranked(_image(), masks, [1, 2]), expected)


@pytest.mark.parametrize("width", [640, 260])
def test_the_legend_shows_every_rank(width):
    image = np.full((480, width, 3), 128, np.uint8)
    masks = _boxes(480, width, *[(i, 0, i + 4, 20) for i in range(0, 240, 12)])
    out = draw_ranked(image, masks, np.arange(1, 21), style=RankStyle(legend=True))[400:]
    for color in rank_colors(np.arange(1, 21)):
        assert (out == color).all(2).any()


def test_the_order_of_the_arguments_does_not_matter():
    image = _image()
    masks = _boxes(120, 160, (10, 10, 80, 80), (50, 40, 150, 110), (90, 5, 120, 60))
    ranks = np.array([2, 1, 3])
    swapped = [2, 0, 1]
    np.testing.assert_array_equal(
        draw_ranked(image, masks, ranks), draw_ranked(image, masks[swapped], ranks[swapped])
    )


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (64, 64), (37, 500), (1200, 900)])
def test_every_size(size):
    image = _image(*size)
    masks = np.ones((3, *size), bool)
    masks[1, size[0] // 2 :] = False
    out = draw_ranked(image, masks, [1, 2, 0], style=RankStyle(legend=True), scores=[0.9, 0.5, 0.1])
    assert out.shape == image.shape


def test_specks_do_not_cover_the_object():
    masks = _boxes(480, 640, (100, 100, 540, 380))
    masks[0, 104:376:4, 104:536:4] = False  # pinholes
    out = draw_ranked(np.full((480, 640, 3), 128, np.uint8), masks, [1])
    inside = out[150:200, 150:250].astype(int)
    assert (np.abs(inside - rank_colors([1])).sum(2) < 30).mean() < 0.05


def test_grayscale_pictures():
    gray = _image()[:, :, 0]
    masks = _boxes(120, 160, (20, 20, 100, 90))
    expected = draw_ranked(np.repeat(gray[..., None], 3, axis=2), masks, [1])
    np.testing.assert_array_equal(draw_ranked(gray, masks, [1]), expected)
    np.testing.assert_array_equal(draw_ranked(gray[..., None], masks, [1]), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_rgb": np.zeros((120, 160, 3), np.float32)}, "image: expected uint8"),
        ({"image_rgb": np.zeros((120, 160, 4), np.uint8)}, "image: expected uint8"),
        ({"masks": np.zeros((1, 120, 161), bool)}, r"masks: expected bool \(1, 120, 160\)"),
        ({"masks": np.zeros((1, 120, 160), np.float32)}, "masks: expected bool"),
        ({"ranks": [1, 2]}, "masks: expected bool"),
        ({"ranks": [-1]}, "ranks: expected integers of 0 or more, found -1"),
        ({"ranks": [0.5]}, "ranks: expected integers"),
        ({"scores": [0.5, 0.5]}, "scores: expected 1"),
    ],
)
def test_arguments_that_do_not_match_are_refused(change, message):
    arguments = {"image_rgb": _image(), "masks": np.ones((1, 120, 160), bool), "ranks": [1], **change}
    with pytest.raises(ValueError, match=message):
        draw_ranked(**arguments)
