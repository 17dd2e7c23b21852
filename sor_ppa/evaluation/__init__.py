"""Scoring of ranking results: pure functions on arrays, a streaming scorer, detectron2 evaluators, and a
command (``python -m sor_ppa.evaluation``)."""

from ..data.record import dense_ranks
from ..visualization.rank_maps import PAINTERS, paint
from .evaluator import SOREvaluator
from .functions import f_measure, iou, mae, ndcg, sa_sor, sor
from .image import ImageScores
from .score import Score
from .scorer import RankingScorer
from .variants import DEFAULTS, PUBLISHED, describe, find_variant

__all__ = [
    "DEFAULTS",
    "PAINTERS",
    "PUBLISHED",
    "ImageScores",
    "RankingScorer",
    "SOREvaluator",
    "Score",
    "dense_ranks",
    "describe",
    "f_measure",
    "find_variant",
    "iou",
    "mae",
    "ndcg",
    "paint",
    "sa_sor",
    "sor",
]
