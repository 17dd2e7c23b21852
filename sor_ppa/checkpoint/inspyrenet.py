"""Published InSPyReNet names -> ours: research checkpoints, transparent-background, bare encoders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from .rename import rename_keys

__all__ = ["backbone_weights", "convert"]

T = TypeVar("T")

PREFIX = "network."
# Modules of the network; anything else at the top is a bare encoder's.
_PARTS = ("backbone.", "context", "decoder.", "attention")
# Computed by our network itself.
_BUFFERS = (".relative_position_index", ".attn_mask")
# Classifiers of bare encoders, and the norm in front of Swin's.
_CLASSIFIER = ("fc.", "head.", "norm.")


def _stripped(state_dict: Mapping[str, T]) -> dict[str, T]:
    kept = {name: value for name, value in state_dict.items() if not name.endswith(_BUFFERS)}
    return rename_keys(kept, lambda name: name.removeprefix("module."))


def convert(state_dict: Mapping[str, T]) -> dict[str, T]:
    """Map names; files of InSPyReNet and of transparent-background share theirs.

    Args:
        state_dict: published name -> tensor, with or without ``module.``; a bare Res2Net-50 or Swin-B
            works as well.

    Returns:
        Our name -> tensor; names that are ours already pass through.
    """
    stripped = _stripped(state_dict)

    def rename(name: str) -> str:
        if name.startswith(PREFIX):
            return name
        return PREFIX + name if name.startswith(_PARTS) else f"{PREFIX}backbone.{name}"

    if not any(name.startswith((PREFIX, *_PARTS)) for name in stripped):
        stripped = backbone_weights(stripped)
    return rename_keys(stripped, rename)


def backbone_weights(state_dict: Mapping[str, T]) -> dict[str, T]:
    """Return the weights of a bare encoder without its classifier.

    Args:
        state_dict: name -> tensor of a Res2Net-50 v1b or a Swin-B (Microsoft's names).
    """
    stripped = _stripped(state_dict)
    return {name: value for name, value in stripped.items() if not name.startswith(_CLASSIFIER)}
