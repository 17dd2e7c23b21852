"""One order of objects from those of several people."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as mask_util
from scipy.optimize import linear_sum_assignment

from ..data.masks import encode_mask, segmentation_box
from ..data.record import UNRANKED, ObjectRecord, dense_ranks
from .documents import Document, DocumentObject

__all__ = ["METHODS", "borda", "consensus_objects", "match_objects", "plackett_luce"]

_SAME_OBJECT = 0.5  # IoU of masks

Orders = NDArray[np.float64]
"""(A, N) ranks of N objects by A annotators, 1 = most salient, equal = tie, infinite = not ranked."""


def match_objects(documents: Sequence[Document]) -> list[dict[int, DocumentObject]]:
    """Return the different objects of a photo, each as the objects of the documents that have it.

    The keys are indices of documents. Objects of two documents are the same if their masks overlap with an
    IoU of at least 0.5 and the sum of the overlaps is largest. Rejected objects are left out.
    """
    groups: list[dict[int, DocumentObject]] = []
    for index, document in enumerate(documents):
        objects = [item for item in document.objects if item.state != "rejected"]
        known = [next(iter(group.values())).mask.model_dump() for group in groups]
        free = set(range(len(objects)))
        if known and objects:
            iou = mask_util.iou(known, [o.mask.model_dump() for o in objects], [0] * len(objects))
            for row, column in zip(*linear_sum_assignment(iou, maximize=True), strict=True):
                if iou[row, column] >= _SAME_OBJECT:
                    groups[row][index] = objects[column]
                    free.discard(int(column))
        groups += [{index: objects[place]} for place in sorted(free)]
    return groups


def borda(orders: Orders) -> NDArray[np.float64]:
    """Return points (N,), higher = more salient: one for each object below in each order, half for a tie."""
    below = orders[:, :, None] < orders[:, None, :]
    ties = orders[:, :, None] == orders[:, None, :]
    return (below + ties / 2).sum(axis=(0, 2))


def plackett_luce(orders: Orders, iterations: int = 500) -> NDArray[np.float64]:
    """Return the logarithm of the worth (N,) in the Plackett-Luce model, higher = more salient.

    The maximum is found by Hunter's MM algorithm (Annals of Statistics 2004). Tied objects are each chosen
    from all that are not above them. Objects that are not ranked are never chosen. One win and one loss of
    each object against an imagined one of worth 1 keep the worths finite (Turner et al., 2020).
    """
    count = orders.shape[1]
    # one row a choice: who was chosen, and from which objects
    choices = [(row, i) for row in orders for i in range(count) if np.isfinite(row[i])]
    sets = np.array([row >= row[i] for row, i in choices], np.float64).reshape(-1, count)
    wins = np.bincount([i for _, i in choices], minlength=count) + 1.0
    worth = np.ones(count)
    for _ in range(iterations):
        worth = wins / (sets.T @ (1 / np.maximum(sets @ worth, 1e-12)) + 2 / (worth + 1))
    return np.log(worth)


METHODS: dict[str, Callable[[Orders], NDArray[np.float64]]] = {"borda": borda, "plackett_luce": plackett_luce}


def consensus_objects(documents: Sequence[Document], method: str) -> tuple[ObjectRecord, ...]:
    """Return the objects that at least half of the documents of a photo have, with one order.

    An object has a rank if at least half of the documents rank it. Its mask holds the pixels that at least
    half of its masks have.

    Args:
        documents: of one photo.
        method: a key of ``METHODS``.
    """
    groups = [group for group in match_objects(documents) if 2 * len(group) >= len(documents)]
    orders = np.full((len(documents), len(groups)), np.inf)
    for column, group in enumerate(groups):
        for row, item in group.items():
            orders[row, column] = item.rank or np.inf
    salient = 2 * np.isfinite(orders).sum(axis=0) >= max(len(documents), 1)
    scores = METHODS[method](orders[:, salient])
    ranks = np.full(len(groups), UNRANKED)
    ranks[salient] = dense_ranks(np.round(scores, 6).tolist())
    return tuple(
        _merged_record([*group.values()], int(rank)) for group, rank in zip(groups, ranks, strict=True)
    )


def _merged_record(objects: Sequence[DocumentObject], rank: int) -> ObjectRecord:
    mask = objects[0].mask.model_dump()
    if any(item.mask != objects[0].mask for item in objects):
        votes = np.sum([item.mask.pixels() for item in objects], axis=0)
        mask = encode_mask(np.asarray(2 * votes >= len(objects)))
    return ObjectRecord(segmentation_box(mask), mask, rank)
