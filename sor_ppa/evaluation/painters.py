"""The grey maps that ranking methods save: who is drawn, with which value, and who covers whom.

A painter is a rule from ranks to a drawing list. ``draw`` applies such a list to the regions of an
image (``regions.Regions``), so that a painted map is a vector of a few dozen values until somebody
wants to look at it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .correlation import lowest_place_ranks
from .inputs import check_gt_ranks, check_masks, check_scores
from .regions import regions_of_masks

FIVE_LEVELS = np.array([255, 229, 204, 178, 153], np.uint8)

Drawing = tuple[NDArray, NDArray]


@dataclass(frozen=True, slots=True)
class Painter:
    """One way of painting ranked masks.

    Attributes:
        name: as in ``PAINTERS``.
        of_gt: paints ground truth (by rank) or predictions (by score).
        strict: masks are binarised at > 0.5, otherwise at >= 0.5.
        drawing: from (scores (N,), areas (N,)) to the indices in drawing order, later ones cover
            earlier ones, and the grey value of each.
        rule: the rule in words.
        source: who paints like this.
    """

    name: str
    of_gt: bool
    strict: bool
    drawing: Callable[[NDArray, NDArray], Drawing]
    rule: str
    source: str


def _best_five(scores: NDArray, *, later_wins: bool) -> NDArray[np.int64]:
    index = np.arange(len(scores))
    return np.lexsort((-index if later_wins else index, -scores))[:5]


def _five_less_salient_covers(scores: NDArray, areas: NDArray, *, later_wins: bool) -> Drawing:
    best = _best_five(scores, later_wins=later_wins)
    return best, FIVE_LEVELS[: len(best)]


def _five_smaller_covers(scores: NDArray, areas: NDArray) -> Drawing:
    best = _best_five(scores, later_wins=False)
    order = np.argsort(-areas[best], kind="stable")
    return best[order], FIVE_LEVELS[: len(best)][order]


def _most_salient_on_top(scores: NDArray, values: NDArray) -> Drawing:
    order = np.argsort(scores, kind="stable")
    return order, values[order].astype(np.uint8)


def _tenths(scores: NDArray, areas: NDArray) -> Drawing:
    place = lowest_place_ranks(scores) + 10 - len(scores)
    return _most_salient_on_top(scores, 51 * np.maximum(place, 1) // 2)


def _shares(scores: NDArray, areas: NDArray) -> Drawing:
    count = max(1, len(scores))
    return _most_salient_on_top(scores, 255 * lowest_place_ranks(scores) // count)


def _gt_tenths(ranks: NDArray, areas: NDArray) -> Drawing:
    level = ranks.max(initial=0) - ranks
    return _most_salient_on_top(ranks, 51 * np.maximum(10 - level, 1) // 2)


def _gt_shares(ranks: NDArray, areas: NDArray) -> Drawing:
    return _most_salient_on_top(ranks, 255 * (ranks + 1) // max(1, len(ranks)))


def _assr(scores: NDArray, areas: NDArray) -> Drawing:
    return _five_less_salient_covers(scores, areas, later_wins=True)


def _assr_ijcv(scores: NDArray, areas: NDArray) -> Drawing:
    return _five_less_salient_covers(scores, areas, later_wins=False)


PAINTERS: dict[str, Painter] = {
    painter.name: painter
    for painter in (
        Painter(
            "assr",
            of_gt=False,
            strict=False,
            drawing=_assr,
            rule="The five best predictions get 255, 229, 204, 178, 153, the rest are not drawn; drawn from "
            "the most to the least salient, so the less salient covers; of equal scores the later in the "
            "list counts as more salient; masks >= 0.5.",
            source="ASSR (CVPR 2020), generate_saliency_map.py",
        ),
        Painter(
            "assr_ijcv",
            of_gt=False,
            strict=False,
            drawing=_assr_ijcv,
            rule="As assr, but of equal scores the earlier in the list counts as more salient.",
            source="ASSR's IJCV extension, predict_and_generate_saliency_map.py",
        ),
        Painter(
            "qagnet10",
            of_gt=False,
            strict=False,
            drawing=_tenths,
            rule="floor(25.5 (r + 10 - P)), never below 25, where r is the place from 1 = least salient "
            "(equal scores share the lowest place) among P predictions; all are drawn, the most salient on "
            "top; masks >= 0.5.",
            source="QAGNet (CVPR 2024), ASSR branch",
        ),
        Painter(
            "qagnet_n",
            of_gt=False,
            strict=False,
            drawing=_shares,
            rule="trunc(255 r / P), r and P as in qagnet10; all are drawn, the most salient on top; masks >= "
            "0.5.",
            source="IRSR (TPAMI 2021); QAGNet on IRSR and SIFR",
        ),
        Painter(
            "area",
            of_gt=False,
            strict=True,
            drawing=_five_smaller_covers,
            rule="The five best predictions get 255, 229, 204, 178, 153; drawn from the largest to the "
            "smallest area, so the smaller covers (of equal areas the less salient); of equal scores the "
            "earlier in the list counts as more salient; masks > 0.5.",
            source="PPA (ICCV 2021) and PSR (ACM MM 2023), without the polygon outlines of their drawing "
            "library",
        ),
        Painter(
            "gt10",
            of_gt=True,
            strict=True,
            drawing=_gt_tenths,
            rule="Ground truth as ASSR ships it: floor(25.5 (10 - level)), never below 25, level 0 = most "
            "salient, ties share a level; the most salient on top.",
            source="ASSR data set",
        ),
        Painter(
            "gtn",
            of_gt=True,
            strict=True,
            drawing=_gt_shares,
            rule="Ground truth as IRSR paints it: trunc(255 (rank + 1) / G) of G objects; the most salient "
            "on top.",
            source="IRSR data set",
        ),
    )
}


def draw(drawing: Drawing, members: NDArray[np.bool_]) -> NDArray:
    """Grey values of regions.

    Args:
        drawing: indices in drawing order and their values.
        members: (R, N) bool, whether mask n covers region r.

    Returns:
        (R,) the value of the last drawn mask that covers the region, 0 where there is none.
    """
    order, values = drawing
    if len(order) == 0:
        return np.zeros(len(members), np.uint8)
    top_first = members[:, order[::-1]]
    return np.where(top_first.any(axis=1), values[::-1][top_first.argmax(axis=1)], np.uint8(0))


def paint(masks: ArrayLike, scores: ArrayLike, painter: str) -> NDArray[np.uint8]:
    """Paints ranked masks into one grey map.

    Args:
        masks: (N, H, W) bool, uint8 holding 0 and 1, or float in [0, 1].
        scores: (N,) numbers, higher = more salient; for ``gt10`` and ``gtn`` dense integer ranks.
        painter: one of ``PAINTERS``; its ``rule`` says what it does.

    Returns:
        (H, W) uint8, 0 = background.

    Raises:
        ValueError: unknown painter or bad input, in one line.
    """
    if painter not in PAINTERS:
        raise ValueError(f"painter: expected one of {', '.join(PAINTERS)}; found {painter!r}")
    how = PAINTERS[painter]
    stack = check_masks(masks, "masks")
    if stack.size is None:
        raise ValueError("masks: expected the shape (N, H, W) also for N = 0, found an empty list")
    binary = stack.strict if how.strict else stack.loose
    order = check_gt_ranks(scores, len(binary)) if how.of_gt else check_scores(scores, len(binary), "scores")
    regions = regions_of_masks(list(binary), stack.size)
    areas = regions.pixels @ regions.members
    return regions.image(draw(how.drawing(order, areas), regions.members))


def assr(masks: ArrayLike, scores: ArrayLike) -> NDArray[np.uint8]:
    """``paint(masks, scores, "assr")``."""
    return paint(masks, scores, "assr")


def assr_ijcv(masks: ArrayLike, scores: ArrayLike) -> NDArray[np.uint8]:
    """``paint(masks, scores, "assr_ijcv")``."""
    return paint(masks, scores, "assr_ijcv")


def qagnet10(masks: ArrayLike, scores: ArrayLike) -> NDArray[np.uint8]:
    """``paint(masks, scores, "qagnet10")``."""
    return paint(masks, scores, "qagnet10")


def qagnet_n(masks: ArrayLike, scores: ArrayLike) -> NDArray[np.uint8]:
    """``paint(masks, scores, "qagnet_n")``."""
    return paint(masks, scores, "qagnet_n")


def area(masks: ArrayLike, scores: ArrayLike) -> NDArray[np.uint8]:
    """``paint(masks, scores, "area")``."""
    return paint(masks, scores, "area")


def gt10(masks: ArrayLike, ranks: ArrayLike) -> NDArray[np.uint8]:
    """``paint(masks, ranks, "gt10")``."""
    return paint(masks, ranks, "gt10")


def gtn(masks: ArrayLike, ranks: ArrayLike) -> NDArray[np.uint8]:
    """``paint(masks, ranks, "gtn")``."""
    return paint(masks, ranks, "gtn")
