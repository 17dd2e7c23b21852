"""Queries at the likely centers of objects."""

from __future__ import annotations

import pytest
import torch

from sor_ppa.mask2former.seeds import SeedQueries, center_closeness, guide_tokens, seed_targets
from sor_ppa.mask2former.targets import MaskTargets

SHAPES = [(2, 3), (4, 6)]


def test_targets_are_highest_at_the_center_of_an_object() -> None:
    masks = torch.zeros(1, 32, 48, dtype=torch.bool)
    masks[0, 8:16, 32:48] = True  # the center is the corner of four fine cells, (12, 40)
    targets = MaskTargets(masks, torch.zeros(1, dtype=torch.int64), [0, 1])
    found = seed_targets(targets, center_closeness(targets, SHAPES))
    assert found.shape == (2, 30)
    assert found[0].max() == 0
    fine = found[1, 6:].view(4, 6)
    assert fine[1, 4:].tolist() == pytest.approx([float(fine.max())] * 2)
    assert 0.2 < fine.max() <= 1


def test_seeds_are_local_maxima() -> None:
    torch.manual_seed(0)
    seeds = SeedQueries(8, 2)
    with torch.no_grad():
        seeds.objectness.weight.zero_()[0, 0] = 1.0
        seeds.content.weight.copy_(torch.eye(8))
        seeds.content.bias.zero_()
    tokens = torch.zeros(1, 30, 8)
    tokens[0, 6:, 0] = -5.0
    tokens[0, 8, 0], tokens[0, 9, 0], tokens[0, 29, 0] = 9.0, 8.0, 7.0  # 9 is beside 8
    tokens[0, :6, 0] = torch.tensor([-8.0, -7, -6, -8, -8, -8])
    found = seeds(tokens, torch.zeros(1, 30, 8), torch.zeros(30, 2), SHAPES)
    assert found.queries[0, :, 0].tolist() == [9.0, 7.0]


def test_mixed_precision_chooses_the_same_seeds() -> None:
    torch.manual_seed(0)
    seeds = SeedQueries(8, 12).eval()
    tokens, places = torch.randn(2, 4, 600, 8).unbind()
    centers, shapes = torch.rand(600, 2), [(20, 30)]
    expected = seeds(tokens, places, centers, shapes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = seeds(tokens, places, centers, shapes)
    assert torch.equal(found.centers, expected.centers)


def test_an_object_without_pixels_attracts_no_seed() -> None:
    masks = torch.zeros(2, 32, 48, dtype=torch.bool)
    masks[0, 16:32, 32:48] = True
    targets = MaskTargets(masks, torch.zeros(2, dtype=torch.int64), [1, 1])
    closeness = center_closeness(targets, [(4, 6)])
    assert (seed_targets(targets, closeness).amax(1) > 0).tolist() == [True, False]
    assert guide_tokens(targets, closeness, 3).shape == (2, 3)


def test_fewer_tokens_than_queries_give_fewer_seeds() -> None:
    found = SeedQueries(8, 100)(torch.rand(1, 30, 8), torch.rand(1, 30, 8), torch.zeros(30, 2), SHAPES)
    assert found.queries.shape == (1, 30, 8)


def test_guides_start_near_the_centers_of_their_objects() -> None:
    masks = torch.zeros(2, 32, 48, dtype=torch.bool)
    masks[0, :8, :8], masks[1, 16:32, 32:48] = True, True
    targets = MaskTargets(masks, torch.zeros(2, dtype=torch.int64), [2, 0])
    found = guide_tokens(targets, center_closeness(targets, [(4, 6)]), 50)
    assert found.shape == (2, 100)
    assert set(found[0, :50].tolist()) <= {0, 1, 2, 6, 7, 8, 12, 13, 14}
    assert int(found[0, 50:].mode().values) in {16, 17, 22, 23}


def test_an_ellipse_begins_around_its_seed() -> None:
    prior = SeedQueries(8, 2).prior(torch.rand(1, 1, 8), torch.tensor([[[0.75, 0.25]]]), (8, 8))
    inside = prior[0, 0] > 0
    assert inside[1:3, 5:7].all()
    assert not inside[4:].any()
    assert not inside[:, :4].any()
