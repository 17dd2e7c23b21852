"""Attention over all tokens."""

from __future__ import annotations

import torch

from sor_ppa.layers.detr.attention import GlobalAttention, ProjectedAttention
from sor_ppa.layers.detr.levels import Memory, build_levels


def test_positions_of_the_memory_are_added_to_keys_and_not_to_values() -> None:
    attention = GlobalAttention(8, 2)
    levels = build_levels([(8, 8)], (8, 8), [(2, 2)], torch.device("cpu"))
    query, tokens, positions = torch.randn(3, 1, 4, 8)
    expected = attention(query, tokens + positions, tokens)[0]
    torch.testing.assert_close(attention.attend(query, Memory(tokens, levels, positions)), expected)


def test_padded_tokens_are_ignored() -> None:
    attention = ProjectedAttention(6, 2)
    query, key, value = torch.randn(1, 3, 8), torch.randn(1, 5, 8), torch.randn(1, 5, 6)
    padding = torch.tensor([[False, True, False, True, False]])
    found = attention(query, key, value, padding)
    torch.testing.assert_close(found, attention(query, key[:, ::2], value[:, ::2]))
