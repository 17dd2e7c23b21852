"""A training-free ranker of salient objects: background detection, candidate regions, cues, outlines."""

from .meta_arch import ContrastRanker

__all__ = ["ContrastRanker"]
