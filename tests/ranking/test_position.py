"""Position maps of any image size."""

from __future__ import annotations

import numpy as np
import torch

from sor_ppa.ranking.position import box_positions, measuring_sizes, position_maps, quantized_cells
from tests.parity import parity_dir

CPU = torch.device("cpu")


def test_maps_agree_on_the_published_canvas() -> None:
    arrays = np.load(parity_dir("ppa") / "pooler.npz")
    sizes = measuring_sizes([(480, 640)], (480, 640), 32, CPU)
    for level, stride in (("p3", 8), ("p4", 16), ("p5", 32)):
        maps = position_maps(sizes, (480 // stride, 640 // stride), stride)
        np.testing.assert_allclose(maps[0, 0, :, 0], arrays[f"coord_rows_{level}"], atol=1e-6)
        np.testing.assert_allclose(maps[0, 1, 0], arrays[f"coord_cols_{level}"], atol=1e-6)
        assert (maps[0, 0] == maps[0, 0, :, :1]).all()
        assert (maps[0, 1] == maps[0, 1, :1]).all()


def test_images_are_measured_by_their_own_size_off_the_canvas() -> None:
    sizes = measuring_sizes([(480, 640), (470, 630), (500, 700), (33, 4000)], (480, 640), 32, CPU)
    assert sizes.tolist() == [[480, 640], [480, 640], [500, 700], [33, 4000]]


def test_a_map_crosses_the_image_from_zero_to_one() -> None:
    maps = position_maps(torch.tensor([[320.0, 200.0]]), (40, 25), 8)
    assert maps.shape == (1, 2, 40, 25)
    assert torch.allclose(maps[0, 0, [0, -1], 0], torch.tensor([4 / 320, 316 / 320]))
    assert torch.allclose(maps[0, 1, 0, [0, -1]], torch.tensor([4 / 200, 196 / 200]))


def test_box_numbers_are_the_published_ones() -> None:
    position = box_positions(torch.tensor([[64.0, 48.0, 192.0, 144.0]]), torch.tensor([[480.0, 640.0]]))
    assert torch.allclose(position, torch.tensor([[0.2, 0.2, 0.2, 0.4]]))


def test_cells_count_columns_first_and_stay_in_the_grid() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [600.0, 0.0, 640.0, 20.0], [0.0, 470.0, 0.0, 600.0]])
    cells = quantized_cells(boxes, torch.tensor([[480.0, 640.0]]).expand(3, 2), 4)
    assert cells.tolist() == [0, 12, 3]
