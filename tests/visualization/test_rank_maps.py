"""Painting of rank maps."""

from __future__ import annotations

import numpy as np
import pytest

from sor_ppa.visualization.rank_maps import PAINTERS, paint
from tests.evaluation.cases import boxes

NESTED = boxes((0, 0, 20, 20), (4, 4, 12, 12))


@pytest.mark.parametrize("name", PAINTERS)
def test_nothing_paints_a_zero_map_of_the_size(name):
    painted = paint(np.zeros((0, 5, 7), bool), [], name)
    assert painted.shape == (5, 7)
    assert not painted.any()


@pytest.mark.parametrize("name", ["assr", "qagnet10", "qagnet_n", "area"])
def test_who_covers_a_small_salient_object_in_a_large_one(name):
    covered = name == "assr"  # the less salient is drawn later
    assert (paint(NESTED, [0.1, 0.9], name)[8, 8] == 255) != covered


def test_equal_scores_are_ordered_as_published():
    apart = boxes((0, 0, 4, 4), (8, 8, 12, 12))
    assert paint(apart, [1, 1], "assr")[0, 0] == 229
    assert paint(apart, [1, 1], "assr_ijcv")[0, 0] == 255
    assert np.unique(paint(apart, [1, 1], "qagnet10")).tolist() == [0, 229]


def test_the_sixth_prediction_is_not_drawn():
    six = boxes(*((4 * k, 0, 4 * k + 3, 4) for k in range(6)))
    assert set(np.unique(paint(six, range(6), "assr"))) == {0, 255, 229, 204, 178, 153}


@pytest.mark.parametrize("count", [11, 30])
def test_more_than_ten_predictions_stay_visible(count):
    many = boxes(*((0, k, 2, k + 1) for k in range(count)))
    assert paint(many, range(count), "qagnet10")[0, :count].min() == 25
    assert paint(many, range(count), "gt10")[0, :count].min() == 25


def test_unknown_painters_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="painter: expected one of assr, assr_ijcv.*found 'nobody'"):
        paint(NESTED, [0, 1], "nobody")


def test_an_empty_list_has_no_size_to_paint():
    with pytest.raises(ValueError, match="expected the shape"):
        paint([], [], "assr")
