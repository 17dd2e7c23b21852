"""Position embeddings against recorded numbers of the published Salience-DETR."""

from __future__ import annotations

import pytest
import torch

from sor_ppa.layers.detr.positions import LearnedPositionEmbedding, sine_embedding, sine_position_map
from tests.salience_detr.units import filled, given, unit


def test_learned_embedding_equals_the_published() -> None:
    found = filled(LearnedPositionEmbedding(20, 128), "unit/shared/learned.")(9, 11)
    unit().close("learned_pos", found.T.unflatten(1, (9, 11)))


@pytest.mark.parametrize(("key", "columns"), [("sine_box", 4), ("sine_point", 2)])
def test_sine_embedding_equals_the_published(key: str, columns: int) -> None:
    unit().close(key, sine_embedding(given("sine_box_embed", "boxes")[..., :columns]))


def test_sine_position_map_equals_the_published() -> None:
    padding = torch.zeros(2, 9, 11, dtype=torch.bool)
    padding[0, :, 8:] = True
    padding[0, 7:] = True
    padding[1, :, 10:] = True
    unit().close("sine_pos", sine_position_map(padding).masked_fill(padding.unsqueeze(1), 0.0))
