"""All formulations of the sampling step compute the same sums and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sor_ppa.layers.detr.deformable_attention import MultiScaleDeformableAttention, deformable_sampling
from tests.salience_detr import units

SHAPES = ((7, 9), (4, 5), (2, 3), (1, 1))
TOKENS = sum(h * w for h, w in SHAPES)


def inputs(
    batch: int = 2, queries: int = 11, heads: int = 2, dim: int = 8, points: int = 3
) -> tuple[Tensor, Tensor, Tensor]:
    """Values, locations in and around the maps, weights."""
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(batch, TOKENS, heads, dim, generator=generator)
    shape = (batch, queries, heads, len(SHAPES), points)
    locations = torch.rand(*shape, 2, generator=generator) * 1.6 - 0.3
    weights = torch.rand(*shape, generator=generator)
    return value, locations, weights


def gradients(method: str, device: str = "cpu") -> list[Tensor]:
    value, locations, weights = (t.to(device).requires_grad_() for t in inputs())
    out = deformable_sampling(value, SHAPES, locations, weights, method=method)
    target = torch.linspace(-1, 1, out.numel(), device=device).view_as(out)
    found = out.detach(), *torch.autograd.grad((out * target).sum(), (value, locations, weights))
    return [t.cpu() for t in found]


def test_formulations_agree_forward_and_backward() -> None:
    for bag, grid in zip(gradients("bag"), gradients("grid"), strict=True):
        torch.testing.assert_close(bag, grid, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ["bag", "grid"])
def test_gradients_are_those_of_finite_differences(method: str) -> None:
    value, locations, weights = inputs(batch=1, queries=2, heads=1, dim=2, points=1)
    arguments = [t.double().requires_grad_() for t in (value, locations, weights)]
    assert torch.autograd.gradcheck(
        lambda v, at, w: deformable_sampling(v, SHAPES, at, w, method=method), arguments
    )


def test_half_precision_values_are_summed_in_float32() -> None:
    value, locations, weights = inputs()
    found = deformable_sampling(value.bfloat16(), SHAPES, locations, weights)
    exact = deformable_sampling(value.bfloat16().float(), SHAPES, locations, weights)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, exact.bfloat16())


def test_no_queries() -> None:
    value, locations, weights = inputs(queries=0)
    assert deformable_sampling(value, SHAPES, locations, weights).shape == (2, 0, 16)


def test_far_away_locations_read_zero() -> None:
    value, locations, weights = inputs()
    assert not deformable_sampling(value, SHAPES, locations + 1e6, weights).any()


def test_wrong_shapes_are_named() -> None:
    value, locations, weights = inputs()
    with pytest.raises(ValueError, match=f"found {TOKENS}"):
        deformable_sampling(value, SHAPES[:3], locations, weights)


def test_padded_tokens_read_as_zero() -> None:
    module = MultiScaleDeformableAttention(16, 4, 2, 3)
    query, value = torch.randn(1, 5, 16), torch.randn(1, TOKENS, 16)
    reference = torch.rand(1, 5, 4, 2)
    padding = torch.zeros(1, TOKENS, dtype=torch.bool)
    padding[:, ::3] = True
    changed = torch.where(padding.unsqueeze(-1), value + 5, value)
    first = module(query, reference, value, SHAPES, padding)
    assert torch.equal(first, module(query, reference, changed, SHAPES, padding))


@pytest.mark.parametrize("method", ["bag", "grid"])
def test_sampling_equals_the_published(method: str) -> None:
    value, locations, weights = units.given("msda_core", "value", "sampling_locations", "weights")
    weights = weights / weights.sum((-2, -1), keepdim=True)
    units.unit().close(
        "core_out", deformable_sampling(value, units.SHAPES, locations, weights, method=method)
    )


@pytest.mark.parametrize("form", ["ref2", "ref4"])
def test_attention_equals_the_published(form: str) -> None:
    module = units.filled(MultiScaleDeformableAttention(256, 4, 8, 4), "unit/shared/msda.")
    query, reference, value = units.given("msda_module", "query", form, "value")
    units.unit().close(
        f"msda_out_{form}", module(query, reference, value, units.SHAPES, units.attention_padding())
    )
