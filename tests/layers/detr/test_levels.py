"""The geometry of padded feature maps."""

from __future__ import annotations

import torch

from sor_ppa.layers.detr.levels import build_levels, level_projections, project_levels

LEVELS = build_levels([(32, 64), (16, 64)], (32, 64), [(4, 8), (2, 4)], torch.device("cpu"))


def test_only_the_part_without_an_image_is_padding() -> None:
    assert [padding.flatten(1).sum(1).tolist() for padding in LEVELS.paddings] == [[0, 16], [0, 4]]
    assert LEVELS.valid_ratios.tolist() == [[[1, 1], [1, 1]], [[1, 0.5], [1, 0.5]]]


def test_tokens_and_maps_are_inverse() -> None:
    tokens = torch.randn(2, 40, 3)
    assert torch.equal(LEVELS.flatten(LEVELS.unflatten(tokens)), tokens)


def test_centers_end_where_the_image_ends() -> None:
    centers = LEVELS.centers()[1].split(LEVELS.sizes)[0]
    inside = centers[~LEVELS.paddings[0][1].flatten()]
    torch.testing.assert_close(inside.amax(0), torch.tensor([1 - 0.5 / 8, 1 - 0.5 / 2]))


def test_further_levels_halve_the_last_map() -> None:
    found = project_levels(
        level_projections([4, 6], 32, 4), [torch.randn(1, 4, 16, 16), torch.randn(1, 6, 8, 8)]
    )
    assert [tuple(level.shape[1:]) for level in found] == [(32, n, n) for n in (16, 8, 4, 2)]
