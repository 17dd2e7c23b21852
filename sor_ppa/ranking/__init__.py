"""The ranking branch (PPA) for any detector with boxes, masks and pooled features."""

from .branch import (
    RankedBatch,
    RankingOptions,
    ground_truth_ranks,
    logit_losses,
    predict_ranks,
    pyramid_maps,
    rank_objects,
    ranking_losses,
    set_fields,
)
from .decode import decode_ranks
from .head import SOR_HEAD_REGISTRY, RankingHead, build_sor_head
from .order import predicted_places
from .position import measuring_sizes, position_maps
from .query_head import QueryRankingHead, build_query_head

__all__ = [
    "SOR_HEAD_REGISTRY",
    "QueryRankingHead",
    "RankedBatch",
    "RankingHead",
    "RankingOptions",
    "build_query_head",
    "build_sor_head",
    "decode_ranks",
    "ground_truth_ranks",
    "logit_losses",
    "measuring_sizes",
    "position_maps",
    "predict_ranks",
    "predicted_places",
    "pyramid_maps",
    "rank_objects",
    "ranking_losses",
    "set_fields",
]
