"""Scoring of ranking results: pure functions on arrays, a streaming scorer, detectron2 evaluators, and a
command (``python -m sor_ppa.evaluation``).

Nothing here imports detectron2, torch or scipy before it is used.
"""

from typing import TYPE_CHECKING, Any

from ..visualization.rank_maps import PAINTERS, area, assr, assr_ijcv, gt10, gtn, paint, qagnet10, qagnet_n
from .functions import f_measure, iou, mae, ndcg, sa_sor, sor
from .image import ImageScores
from .inputs import dense_ranks
from .score import Score
from .scorer import RankingScorer
from .variants import DEFAULTS, PUBLISHED, describe, find_variant

if TYPE_CHECKING:
    from .evaluator import SOREvaluator

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


def __getattr__(name: str) -> Any:
    if name == "SOREvaluator":
        from .evaluator import SOREvaluator

        return SOREvaluator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
