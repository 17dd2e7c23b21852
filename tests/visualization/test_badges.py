import numpy as np
import pytest

from sor_ppa.visualization.badges import Badge, draw_badge, place_badges

SIZE = (240, 320)


def _disc(cx, cy, r):
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.hypot(x + 0.5 - cx, y + 0.5 - cy) <= r


def _distances(badges):
    centers = np.array([b.center for b in badges])
    radii = np.array([b.radius for b in badges])
    apart = np.linalg.norm(centers[:, None] - centers, axis=2) - radii[:, None] - radii
    return apart[np.triu_indices(len(badges), 1)]


def test_a_badge_is_placed_where_the_object_is_widest():
    pan = _disc(100, 120, 50)
    pan[115:125, 100:300] = True  # the handle draws the centroid away
    (badge,) = place_badges([(pan, 0, 0)], SIZE, [12.0], 8.0)
    assert np.hypot(badge.center[0] - 100, badge.center[1] - 120) < 10


def test_offsets_of_a_cropped_mask_are_added():
    (badge,) = place_badges([(np.ones((40, 60), bool), 200, 100)], SIZE, [10.0], 8.0)
    assert np.allclose(badge.center, (230, 120), atol=4)


def test_badges_of_one_and_the_same_mask_do_not_overlap():
    mask = _disc(160, 120, 70)
    badges = place_badges([(mask, 0, 0)] * 4, SIZE, [14.0] * 4, 8.0)
    assert _distances(badges).min() > 0


@pytest.mark.parametrize(("x", "y"), [(0, 0), (316, 0), (0, 236), (316, 236), (160, 0)])
def test_badges_stay_inside_the_picture(x, y):
    (badge,) = place_badges([(np.ones((4, 4), bool), x, y)], SIZE, [12.0], 8.0)
    (cx, cy), r = badge.center, badge.radius
    assert r <= cx <= SIZE[1] - r
    assert r <= cy <= SIZE[0] - r


def test_the_badge_of_a_tiny_object_is_beside_it_with_an_anchor_in_it():
    (badge,) = place_badges([(np.ones((5, 5), bool), 150, 100)], SIZE, [12.0], 8.0)
    assert badge.anchor is not None
    assert np.allclose(badge.anchor, (152.5, 102.5), atol=2)
    assert np.hypot(badge.center[0] - 152.5, badge.center[1] - 102.5) > badge.radius


def test_a_small_object_gets_a_small_badge():
    (badge,) = place_badges([(np.ones((24, 24), bool), 100, 100)], SIZE, [20.0], 8.0)
    assert 8.0 <= badge.radius < 13


def test_an_empty_mask_gets_no_badge():
    assert place_badges([(np.zeros((5, 5), bool), 0, 0)], SIZE, [12.0], 8.0) == [None]


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (10, 10)])
def test_pictures_smaller_than_a_badge(size):
    (badge,) = place_badges([(np.ones(size, bool), 0, 0)], size, [12.0], 8.0)
    assert 0 <= badge.center[0] <= size[1]
    assert 0 <= badge.center[1] <= size[0]


def test_a_badge_at_the_corner_is_cut():
    canvas = np.zeros((20, 20, 3), np.uint8)
    draw_badge(canvas, Badge((0, 0), 9), "100", np.array([255, 0, 0], np.uint8), 1.5)
    assert canvas.any()


def test_numbers_are_readable_on_every_color():
    for color in ([255, 206, 52], [60, 80, 172]):
        canvas = np.full((60, 60, 3), 90, np.uint8)
        draw_badge(canvas, Badge((30, 30), 25), "8", np.array(color, np.uint8), 2)
        ink = np.abs(canvas[20:40, 22:38].astype(int).sum(2) - sum(color))
        assert ink.max() > 230
