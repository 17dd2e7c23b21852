from itertools import combinations

import numpy as np
import pytest

from sor_ppa.visualization.badges import Badge, draw_badge, place_badges

SIZE = (240, 320)


def _disc(cx, cy, r):
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.hypot(x + 0.5 - cx, y + 0.5 - cy) <= r


def test_a_badge_is_placed_where_the_object_is_widest():
    pan = _disc(100, 120, 50)
    pan[115:125, 100:300] = True  # the handle draws the centroid away
    (badge,) = place_badges([(pan, 0, 0)], SIZE, [12.0], 8.0)
    assert np.hypot(badge.center[0] - 100, badge.center[1] - 120) < 10


def test_badges_of_one_and_the_same_mask_do_not_overlap():
    mask = _disc(160, 120, 70)
    for one, other in combinations(place_badges([(mask, 0, 0)] * 4, SIZE, [14.0] * 4, 8.0), 2):
        assert np.hypot(*np.subtract(one.center, other.center)) > one.radius + other.radius


@pytest.mark.parametrize(("x", "y"), [(0, 0), (316, 0), (0, 236), (316, 236), (160, 0)])
def test_badges_stay_inside_the_picture(x, y):
    (badge,) = place_badges([(np.ones((4, 4), bool), x, y)], SIZE, [12.0], 8.0)
    (cx, cy), r = badge.center, badge.radius
    assert r <= cx <= SIZE[1] - r
    assert r <= cy <= SIZE[0] - r


def test_small_objects_get_small_badges_and_empty_ones_none():
    regions = [(np.ones((24, 24), bool), 100, 100), (np.zeros((5, 5), bool), 0, 0)]
    small, none = place_badges(regions, SIZE, [20.0, 20.0], 8.0)
    assert 8.0 <= small.radius < 13
    assert none is None


def test_the_badge_of_a_tiny_object_is_beside_it_with_an_anchor_in_it():
    (badge,) = place_badges([(np.ones((5, 5), bool), 150, 100)], SIZE, [12.0], 8.0)
    assert badge.anchor is not None
    assert np.allclose(badge.anchor, (152.5, 102.5), atol=2)
    assert np.hypot(badge.center[0] - 152.5, badge.center[1] - 102.5) > badge.radius


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (10, 10)])
def test_pictures_smaller_than_a_badge(size):
    (badge,) = place_badges([(np.ones(size, bool), 0, 0)], size, [12.0], 8.0)
    assert 0 <= badge.center[0] <= size[1]
    assert 0 <= badge.center[1] <= size[0]


def test_numbers_are_readable_on_every_color():
    for color in ([255, 206, 52], [60, 80, 172]):
        canvas = np.full((60, 60, 3), 90, np.uint8)
        draw_badge(canvas, Badge((30, 30), 25), "8", np.array(color, np.uint8), 2)
        ink = np.abs(canvas[20:40, 22:38].astype(int).sum(2) - sum(color))
        assert ink.max() > 230
