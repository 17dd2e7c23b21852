"""Plain linear layers; goes once its importers in the DETR detectors import ``torch.nn`` themselves."""

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Linear", "linear"]

Linear = nn.Linear


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    """Return ``x @ weight.T + bias``, after a ReLU if asked for."""
    y = F.linear(x, weight, bias)
    return F.relu(y) if relu else y
