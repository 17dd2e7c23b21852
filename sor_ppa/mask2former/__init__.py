"""Mask2Former (Cheng et al., CVPR 2022), and a ranker whose objects are its queries."""

from .meta_arch import Mask2Former
from .ranker import RankingMask2Former

__all__ = ["Mask2Former", "RankingMask2Former"]
