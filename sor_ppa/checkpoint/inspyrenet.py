"""Published InSPyReNet names -> ours: research checkpoints, transparent-background, bare encoders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from .rename import rename_keys

__all__ = ["backbone_weights", "convert"]

T = TypeVar("T")

_PREFIX = "network."
# Modules of the network; anything else at the top is a bare encoder's.
_PARTS = ("backbone.", "context", "decoder.", "attention")
# Computed by our network itself.
_BUFFERS = (".relative_position_index", ".attn_mask")
# Classifiers of bare encoders, and the norm in front of Swin's.
_CLASSIFIER = ("fc.", "head.", "norm.")


def convert(state_dict: Mapping[str, T]) -> dict[str, T]:
    """Rename a published network, or a bare Res2Net-50 or Swin-B."""

    def rename(name: str) -> str:
        if name.startswith(_PREFIX):
            return name
        return _PREFIX + name if name.startswith(_PARTS) else f"{_PREFIX}backbone.{name}"

    kept = {name: value for name, value in state_dict.items() if not name.endswith(_BUFFERS)}
    if not any(name.startswith((_PREFIX, *_PARTS)) for name in kept):
        kept = backbone_weights(kept)
    return rename_keys(kept, rename)


def backbone_weights(state_dict: Mapping[str, T]) -> dict[str, T]:
    """Return the weights of a bare Res2Net-50 v1b or Swin-B (Microsoft's names) without its classifier."""
    return {
        name: value
        for name, value in state_dict.items()
        if not (name.startswith(_CLASSIFIER) or name.endswith(_BUFFERS))
    }
