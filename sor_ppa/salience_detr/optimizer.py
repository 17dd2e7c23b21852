"""The published parameter groups of Salience-DETR."""

from __future__ import annotations

from typing import Any

from torch import nn

__all__ = ["parameter_groups"]

_SLOW_PROJECTIONS = ("reference_points", "sampling_offsets")


def parameter_groups(
    model: nn.Module, base_lr: float, weight_decay: float, slow_factor: float = 0.1
) -> list[dict[str, Any]]:
    """Groups by published rule: what learns slowly, and what does not decay.

    Backbone parameters, and the projections that place sampling points, learn at ``base_lr * slow_factor``.
    A parameter whose published name contains "norm" or "bias" does not decay. Normalisations that the
    published code keeps in a sequence (``neck.convs.*.1``, ``transformer.neck.*.1``) have no "norm" in their
    name, so their scales decay there and here. ROI heads are not part of the published model and follow the
    same rule.

    Args:
        model: with ``backbone`` as a top-level name.
        base_lr: learning rate.
        weight_decay: of the parameters that decay.
        slow_factor: see above.

    Returns:
        groups for ``torch.optim.AdamW``, empty ones left out; every trainable parameter is in exactly one.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        slow = "backbone" in name or any(word in name for word in _SLOW_PROJECTIONS)
        plain = "norm" in name or "bias" in name
        groups.setdefault((slow, plain), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": base_lr * (slow_factor if slow else 1.0),
            "weight_decay": 0.0 if plain else weight_decay,
        }
        for (slow, plain), parameters in groups.items()
    ]
