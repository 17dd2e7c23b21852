"""Scoring of ranking results: pure functions on arrays, a streaming scorer, detectron2 evaluators, and a
command (``python -m sor_ppa.evaluation``)."""

from ..data.record import dense_ranks
from ..visualization.rank_maps import PAINTERS, area, assr, assr_ijcv, gt10, gtn, paint, qagnet10, qagnet_n
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
    "area",
    "assr",
    "assr_ijcv",
    "dense_ranks",
    "describe",
    "f_measure",
    "find_variant",
    "gt10",
    "gtn",
    "iou",
    "mae",
    "ndcg",
    "paint",
    "qagnet10",
    "qagnet_n",
    "sa_sor",
    "sor",
]
