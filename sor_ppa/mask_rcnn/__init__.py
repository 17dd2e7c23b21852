"""Mask R-CNN with the ranking branch."""

from .roi_heads import MaskRCNNHeads

__all__ = ["MaskRCNNHeads"]
