import numpy as np

from sor_ppa.visualization import heatmap

IMAGE = np.full((60, 80, 3), 120, np.uint8)


def test_heat_is_bright_where_the_map_is_high():
    values = np.zeros((6, 8))
    values[3, 4] = 1.0
    out = heatmap(IMAGE, values)
    assert out.shape == IMAGE.shape
    assert out.dtype == np.uint8
    assert out[35, 45].astype(int).sum() > out[5, 5].astype(int).sum() + 150


def test_a_constant_map_and_an_all_nan_map_show_no_heat():
    expected = heatmap(IMAGE, np.zeros((6, 8)))
    np.testing.assert_array_equal(heatmap(IMAGE, np.full((6, 8), 7.0)), expected)
    np.testing.assert_array_equal(heatmap(IMAGE, np.full((6, 8), np.nan)), expected)
    values = np.array([[0.0, 1.0], [np.nan, -np.inf]])
    np.testing.assert_array_equal(heatmap(IMAGE, values), heatmap(IMAGE, np.nan_to_num(values, neginf=0)))


def test_limits_make_maps_comparable():
    half = heatmap(IMAGE, np.full((6, 8), 0.5), limits=(0.0, 1.0))
    full = heatmap(IMAGE, np.full((6, 8), 9.0), limits=(0.0, 1.0))
    assert half.mean() < full.mean()
