"""The base class of models that change what a detector takes or returns."""

from __future__ import annotations

from typing import Any

from torch import nn

__all__ = ["DetectorWrapper"]


class DetectorWrapper(nn.Module):
    """A module around a detector; attributes that it lacks are the detector's.

    So callers read ``backbone``, ``detect`` or ``salience_maps`` of a model whether it is wrapped or not.

    Args:
        detector: the model inside.
    """

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "detector":
                raise
            return getattr(self.detector, name)
