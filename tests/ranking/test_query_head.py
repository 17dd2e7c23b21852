"""The ranking head for queries with masks."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sor_ppa.ranking.decode import pad_by_image
from sor_ppa.ranking.query_head import QueryRankingHead, mask_positions, pool_in_masks, surroundings


def block(top: int, left: int, bottom: int, right: int) -> torch.Tensor:
    mask = torch.zeros(20, 30)
    mask[top:bottom, left:right] = 1.0
    return mask


def rank_logits(
    head: QueryRankingHead, queries: Tensor, masks: Tensor, features: Tensor, counts: Sequence[int]
) -> Tensor:
    """The head's answer for masks (N, h, w) of stride 4 in images without padding."""
    padded, valid = pad_by_image(masks, counts)
    sizes = torch.tensor([[80.0, 120.0]]).expand(len(features), -1)
    return head(queries, head.read(padded, features, sizes, 4)[valid], counts)


def test_features_are_averaged_inside_the_mask_of_each_image() -> None:
    features = torch.rand(2, 3, 20, 30)
    masks = torch.stack([block(0, 0, 4, 5), torch.zeros(20, 30), block(10, 10, 12, 12), torch.ones(20, 30)])
    found = pool_in_masks(features, masks.view(2, 2, 20, 30))
    torch.testing.assert_close(found[0, 0], features[0, :, :4, :5].mean((1, 2)))
    assert found[0, 1].tolist() == [0, 0, 0]
    torch.testing.assert_close(found[1, 0], features[1, :, 10:12, 10:12].mean((1, 2)))
    torch.testing.assert_close(found[1, 1], features[1].mean((1, 2)))


def test_positions_are_shares_of_the_image() -> None:
    masks = torch.stack([block(5, 6, 15, 24), block(19, 29, 20, 30)])[None]
    found = mask_positions(masks, torch.tensor([[80, 120]]), 4)
    expected = [0.5, 0.5, 10 / 20 / 12**0.5, 18 / 30 / 12**0.5, (0.5 * 0.6) ** 0.5]
    torch.testing.assert_close(found[0, 0], torch.tensor(expected), atol=2e-3, rtol=0)
    corner = [19.5 / 20, 29.5 / 30, 0.0, 0.0, (1 / 600) ** 0.5]
    torch.testing.assert_close(found[0, 1], torch.tensor(corner), atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (20, 30), (60, 70), (250, 240)])
def test_a_band_surrounds_a_mask(size: tuple[int, int]) -> None:
    masks = torch.rand(2, 3, *size) * (torch.rand(2, 3, *size) > 0.9)
    reach = max(round(0.08 * min(size)), 1)
    grown = F.max_pool2d(masks, 2 * reach + 1, stride=1, padding=reach)
    assert torch.equal(surroundings(masks), grown - masks)


def test_an_object_is_described_by_its_contrast_to_its_surroundings() -> None:
    head = QueryRankingHead(4, 2, position=False)
    mask = block(5, 6, 15, 24)
    features = torch.stack([0.25 + 0.5 * mask, 0.75 - 0.5 * mask])[None]
    found = head.read(mask[None, None], features, torch.tensor([[80, 120]]), 4)
    torch.testing.assert_close(found[0, 0], torch.tensor([0.75, 0.25, 0.25, 0.75, 0.5, 0.5]))


def test_padding_is_not_around_an_object() -> None:
    head = QueryRankingHead(4, 1, position=False)
    features = torch.zeros(1, 1, 20, 30)
    features[:, :, :15] = 1.0  # an image of one color, padded at the bottom
    found = head.read(block(9, 6, 15, 24)[None, None], features, torch.tensor([[60, 120]]), 4)
    torch.testing.assert_close(found[0, 0], torch.tensor([1.0, 1.0, 0.0]))


def test_mixed_precision_does_not_round_what_is_pooled() -> None:
    head = QueryRankingHead(4, 3, dense_dim=16, object_dim=16, num_layers=1)
    masks = torch.stack([block(3, 20, 5, 22), block(2, 1, 19, 29)])[None]
    features, sizes = torch.rand(1, 3, 20, 30).bfloat16().float(), torch.tensor([[80.0, 120.0]])
    read = []
    for mixed in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            dtype = torch.bfloat16 if mixed else torch.float32
            read.append(head.read(masks.to(dtype), features.to(dtype), sizes, 4))
    torch.testing.assert_close(*read)


@pytest.mark.parametrize(("position", "differs"), [(True, True), (False, False)])
def test_position_matters_only_where_it_is_described(position: bool, differs: bool) -> None:
    torch.manual_seed(0)
    head = QueryRankingHead(
        4, 3, dense_dim=16, object_dim=16, num_layers=1, interaction=False, position=position
    )
    masks = torch.stack([block(8, 8, 12, 12), block(8, 20, 12, 24)])
    found = rank_logits(head.eval(), torch.ones(2, 4), masks, torch.ones(1, 3, 20, 30), [2])
    assert (not torch.allclose(found[0], found[1], atol=1e-6)) == differs


def test_objects_attend_within_their_image_only() -> None:
    torch.manual_seed(0)
    head = QueryRankingHead(4, 3, dense_dim=16, object_dim=16, num_layers=1).eval()
    queries, masks, features = torch.rand(3, 4), torch.rand(3, 20, 30), torch.rand(2, 3, 20, 30)
    both = rank_logits(head, queries, masks, features, [2, 1])
    first = rank_logits(head, queries[:2], masks[:2], features[:1], [2])
    torch.testing.assert_close(both[:2], first)
    alone = rank_logits(head, queries[:1], masks[:1], features[:1], [1])
    assert not torch.allclose(both[:1], alone)
