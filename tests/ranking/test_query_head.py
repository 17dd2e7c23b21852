"""The ranking head for queries with masks."""

from __future__ import annotations

import pytest
import torch

from sor_ppa.ranking.query_head import QueryRankingHead, mask_positions, pool_in_masks


def block(top: int, left: int, bottom: int, right: int) -> torch.Tensor:
    mask = torch.zeros(20, 30)
    mask[top:bottom, left:right] = 1.0
    return mask


def test_features_are_averaged_inside_the_mask_of_each_image() -> None:
    features = torch.rand(2, 3, 20, 30)
    masks = torch.stack([block(0, 0, 4, 5), block(10, 10, 12, 12), torch.zeros(20, 30)])
    found = pool_in_masks(features, masks, [1, 2])
    torch.testing.assert_close(found[0], features[0, :, :4, :5].mean((1, 2)))
    torch.testing.assert_close(found[1], features[1, :, 10:12, 10:12].mean((1, 2)))
    assert found[2].tolist() == [0, 0, 0]


def test_positions_are_shares_of_the_image() -> None:
    found = mask_positions(block(5, 6, 15, 24)[None], [1], torch.tensor([[80.0, 120.0]]), 4)
    expected = [0.5, 0.5, 10 / 20 / 12**0.5, 18 / 30 / 12**0.5, (0.5 * 0.6) ** 0.5]
    torch.testing.assert_close(found, torch.tensor([expected]), atol=2e-3, rtol=0)


def test_mixed_precision_does_not_round_what_is_pooled() -> None:
    head = QueryRankingHead(4, 3, dense_dim=16, object_dim=16, num_layers=1)
    described: list[torch.Tensor] = []
    head.sor_fc1.register_forward_pre_hook(lambda module, inputs: described.append(inputs[0]))
    masks = torch.stack([block(3, 20, 5, 22), block(2, 1, 19, 29)])
    features, sizes = torch.rand(1, 3, 20, 30).bfloat16().float(), torch.tensor([[80.0, 120.0]])
    for mixed in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            dtype = torch.bfloat16 if mixed else torch.float32
            head(torch.ones(2, 4), masks.to(dtype), features.to(dtype), [2], sizes, 4)
    torch.testing.assert_close(*described)


@pytest.mark.parametrize(("position", "differs"), [(True, True), (False, False)])
def test_position_matters_only_where_it_is_described(position: bool, differs: bool) -> None:
    torch.manual_seed(0)
    head = QueryRankingHead(
        4, 3, dense_dim=16, object_dim=16, num_layers=1, interaction=False, position=position
    )
    features = torch.ones(1, 3, 20, 30)
    masks = torch.stack([block(8, 8, 12, 12), block(8, 20, 12, 24)])
    found = head.eval()(torch.ones(2, 4), masks, features, [2], torch.tensor([[80.0, 120.0]]), 4)
    assert (not torch.allclose(found[0], found[1], atol=1e-6)) == differs


def test_objects_attend_within_their_image_only() -> None:
    torch.manual_seed(0)
    head = QueryRankingHead(4, 3, dense_dim=16, object_dim=16, num_layers=1).eval()
    queries, masks, features = torch.rand(3, 4), torch.rand(3, 20, 30), torch.rand(2, 3, 20, 30)
    sizes = torch.tensor([[80.0, 120.0]] * 2)
    both = head(queries, masks, features, [2, 1], sizes, 4)
    first = head(queries[:2], masks[:2], features[:1], [2], sizes[:1], 4)
    torch.testing.assert_close(both[:2], first)
    alone = head(queries[:1], masks[:1], features[:1], [1], sizes[:1], 4)
    assert not torch.allclose(both[:1], alone)
