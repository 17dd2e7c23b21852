"""Gray maps of ranked objects as ranking methods save them.

A painter says which objects are drawn, with which gray value, and which object covers another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

FIVE_LEVELS = np.array([255, 229, 204, 178, 153], np.uint8)

Drawing = tuple[NDArray, NDArray]


@dataclass(frozen=True, slots=True)
class Painter:
    """One way of painting ranked masks.

    Attributes:
        drawing: from (scores (..., N), areas (..., N)) to the indices in drawing order (later ones cover
            earlier ones) and the gray value of each, (..., K). A score of -inf stands for no mask. With
            labels, from (N,) only.
        rule: the rule in words.
        source: who paints like this.
        of_gt: paints ground truth (by rank) instead of predictions (by score).
        strict: a mask holds the pixels > 0.5 instead of >= 0.5.
        outlined: masks are drawn as polygons with outlines; the scores are labels.
    """

    drawing: Callable[[NDArray, NDArray], Drawing]
    rule: str
    source: str
    of_gt: bool = False
    strict: bool = False
    outlined: bool = False


def lowest_place_ranks(values: NDArray) -> NDArray[np.int64]:
    """Return 1 + the number of strictly lower entries (..., N) in the same row; -inf does not count."""
    lower = (values[..., None, :] < values[..., :, None]) & (values > -np.inf)[..., None, :]
    return 1 + lower.sum(axis=-1)


def _number(scores: NDArray) -> NDArray[np.int64]:
    return (scores > -np.inf).sum(axis=-1, keepdims=True)


def _best_five(scores: NDArray, *, later_wins: bool = False) -> NDArray[np.int64]:
    if later_wins:
        return scores.shape[-1] - 1 - (-scores[..., ::-1]).argsort(axis=-1, kind="stable")[..., :5]
    return (-scores).argsort(axis=-1, kind="stable")[..., :5]


def _less_salient_covers(scores: NDArray, areas: NDArray, *, later_wins: bool) -> Drawing:
    best = _best_five(scores, later_wins=later_wins)
    return best, np.ones_like(best, np.uint8) * FIVE_LEVELS[: best.shape[-1]]


def _smaller_covers(scores: NDArray, areas: NDArray) -> Drawing:
    best = _best_five(scores)
    order = np.argsort(-np.take_along_axis(areas, best, -1), axis=-1, kind="stable")
    return np.take_along_axis(best, order, -1), FIVE_LEVELS[order]


def _most_salient_on_top(scores: NDArray, values: NDArray) -> Drawing:
    order = np.argsort(scores, axis=-1, kind="stable")
    return order, np.take_along_axis(values, order, -1).astype(np.uint8)


def _tenths(scores: NDArray, areas: NDArray) -> Drawing:
    place = lowest_place_ranks(scores) + 10 - _number(scores)
    return _most_salient_on_top(scores, 51 * np.maximum(place, 1) // 2)


def _shares(scores: NDArray, areas: NDArray) -> Drawing:
    return _most_salient_on_top(scores, 255 * lowest_place_ranks(scores) // np.maximum(_number(scores), 1))


def _label_levels(labels: NDArray, areas: NDArray) -> Drawing:
    labeled = np.flatnonzero(labels >= 0)
    order = labeled[np.argsort(-areas[labeled], kind="stable")]
    return order, (labels[order].astype(np.float32) + 6) / 10


def _gt_tenths(ranks: NDArray, areas: NDArray) -> Drawing:
    level = ranks.max(axis=-1, initial=0, keepdims=True) - ranks
    return _most_salient_on_top(ranks, 51 * np.maximum(10 - level, 1) // 2)


def _gt_shares(ranks: NDArray, areas: NDArray) -> Drawing:
    place = np.maximum(ranks, -1) + 1
    return _most_salient_on_top(ranks, 255 * place // np.maximum(_number(ranks), 1))


PAINTERS: dict[str, Painter] = {
    "assr": Painter(
        partial(_less_salient_covers, later_wins=True),
        "The five best predictions get 255, 229, 204, 178, 153; the rest are not drawn. The less salient "
        "covers. Of equal scores the later in the list counts as more salient. Masks >= 0.5.",
        "ASSR (CVPR 2020), generate_saliency_map.py",
    ),
    "assr_ijcv": Painter(
        partial(_less_salient_covers, later_wins=False),
        "As `assr`, but of equal scores the earlier in the list counts as more salient.",
        "ASSR's IJCV extension, predict_and_generate_saliency_map.py",
    ),
    "qagnet10": Painter(
        _tenths,
        "floor(25.5 (r + 10 - P)), never below 25, where r is the place from 1 = least salient among P "
        "predictions. Equal scores share the lowest place. All are drawn, the most salient on top. "
        "Masks >= 0.5.",
        "QAGNet (CVPR 2024), ASSR branch",
    ),
    "qagnet_n": Painter(
        _shares,
        "trunc(255 r / P), r and P as in `qagnet10`. All are drawn, the most salient on top. Masks >= 0.5.",
        "IRSR (TPAMI 2021); QAGNet on IRSR and SIFR",
    ),
    "area": Painter(
        _smaller_covers,
        "The five best predictions get 255, 229, 204, 178, 153. The smaller covers; of equal areas the less "
        "salient. Of equal scores the earlier in the list counts as more salient. Masks > 0.5.",
        "PSR (ACM MM 2023) and PPA (ICCV 2021), without the outlines that their drawing library adds",
        strict=True,
    ),
    "ppa": Painter(
        _label_levels,
        "The scores are PPA's decoded labels, from 4 = most salient to 0; -1 is not drawn. The gray value is "
        "255 (label + 6) / 10, so gaps between labels stay. The smaller covers; of equal areas the later. "
        "Each contour of a mask is filled, holes too, and outlined 1.4 pixels wide with 0.3 of the value, "
        "antialiased. Contours of one or two pixels are dropped. Masks > 0.5.",
        "PPA (ICCV 2021), its evaluation; bytes as with matplotlib 3.11",
        strict=True,
        outlined=True,
    ),
    "gt10": Painter(
        _gt_tenths,
        "Ground truth as ASSR ships it: floor(25.5 (10 - level)), never below 25, level 0 = most salient. "
        "Ties share a level. The most salient on top.",
        "ASSR dataset",
        of_gt=True,
        strict=True,
    ),
    "gtn": Painter(
        _gt_shares,
        "Ground truth as IRSR paints it: trunc(255 (rank + 1) / G) of G objects. The most salient on top.",
        "IRSR dataset",
        of_gt=True,
        strict=True,
    ),
}


def paint(masks: ArrayLike, scores: ArrayLike, painter: str) -> NDArray[np.uint8]:
    """Paint ranked masks into one gray map.

    Args:
        masks: (N, H, W) bool, uint8 holding 0 and 1, or float in [0, 1].
        scores: (N,) numbers, higher = more salient; ranks for ``gt10`` and ``gtn``, labels for ``ppa``.
        painter: one of ``PAINTERS``; its ``rule`` says what it does.

    Returns:
        (H, W) uint8, 0 = background.

    Raises:
        ValueError: unknown painter or bad input, in one line.
    """
    if painter not in PAINTERS:
        raise ValueError(f"painter: expected one of {', '.join(PAINTERS)}; found {painter!r}")
    how = PAINTERS[painter]
    stack, values = np.asarray(masks), np.asarray(scores)
    if stack.ndim != 3:
        raise ValueError(f"masks: expected the shape (N, H, W), also for N = 0, found {stack.shape}")
    if values.shape != (len(stack),) or not np.isfinite(values.astype(np.float64)).all():
        raise ValueError(f"scores: expected {len(stack)} finite numbers, found {values.tolist()!r:.60}")
    if stack.dtype != np.bool_:
        stack = stack > 0.5 if how.strict else stack >= 0.5
    if how.of_gt:
        values = np.unique(values, return_inverse=True)[1].reshape(-1)
    drawing = how.drawing(values, stack.sum(axis=(1, 2)))
    if how.outlined:
        if not np.isin(values, range(-1, 5)).all():
            raise ValueError(f"scores: expected labels from -1 to 4, found {values.tolist()!r:.60}")
        return _draw_polygons(stack, *drawing)
    gray = np.zeros(stack.shape[1:], np.uint8)
    for index, value in zip(*drawing, strict=True):
        gray[stack[index]] = value
    return gray


def _draw_polygons(masks: NDArray[np.bool_], order: NDArray, values: NDArray) -> NDArray[np.uint8]:
    """Draw the contours of masks in an order and with values in [0, 1], as detectron2's visualizer does."""
    import cv2
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Polygon

    height, width = masks.shape[1:]
    # the enlargement keeps the canvas at height x width in spite of rounding; it moves polygons a little
    figure = Figure(figsize=((width + 0.01) / 100, (height + 0.01) / 100), dpi=100, facecolor="black")
    axes = figure.add_axes((0, 0, 1, 1), aspect="equal", xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    for index, value in zip(order, values, strict=True):
        mask = masks[index].astype(np.uint8)
        contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        fill, edge = (value,) * 3, (0.3 * value,) * 3
        for contour in contours:
            if len(contour) >= 3:
                points = contour.reshape(-1, 2) + 0.5
                axes.add_patch(Polygon(points, linewidth=1, facecolor=fill, edgecolor=edge))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, 0].copy()
