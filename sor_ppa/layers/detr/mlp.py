"""Prediction heads."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F


def prior_logit(probability: float = 0.01) -> float:
    """Return the logit of the foreground probability at initialization (RetinaNet, section 3.3)."""
    return -math.log((1 - probability) / probability)


class MLP(nn.Module):
    """Linear layers with a ReLU between them.

    With ``xavier`` they start with Xavier-uniform weights and zero biases instead of PyTorch's default.
    """

    def __init__(
        self, in_dim: int, hidden_dim: int, out_dim: int, num_layers: int, xavier: bool = False
    ) -> None:
        super().__init__()
        widths = [in_dim, *[hidden_dim] * (num_layers - 1), out_dim]
        layers = [nn.Linear(a, b) for a, b in pairwise(widths)]
        for layer in layers if xavier else ():
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.layers = nn.ModuleList(layers)

    @property
    def last(self) -> nn.Linear:
        """The output layer."""
        return cast(nn.Linear, self.layers[-1])

    def zero_last(self) -> None:
        """Set the output layer to zero, so that the output starts at zero."""
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., in_dim)`` to ``(..., out_dim)``."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)
