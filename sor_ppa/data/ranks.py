"""One scale for ranks of different depth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .record import UNRANKED

__all__ = ["RANK_OVERFLOWS", "RANK_RULES", "training_ranks"]

RANK_RULES = ("top", "keep")
RANK_OVERFLOWS = ("lowest", "ignore")


def training_ranks(
    ranks: Sequence[int], num_ranks: int, rule: str = "top", overflow: str = "lowest"
) -> np.ndarray:
    """Rank labels 0 to K - 1 for training, K ranks whatever the depth of the dataset.

    With the rule ``top`` the most salient object of an image has the label K - 1, the next K - 2, and
    so on; ties share a label, the next label follows without a gap. So "the most salient of the
    picture" is one class for images with two objects and for images with eight, and on ASSR, whose
    values count down from 1.0, the labels are the published ones. With the rule ``keep`` labels stay
    as the dataset has them.

    Objects that would need a label below 0 (more distinct ranks than K), or with ``keep`` one above
    K - 1, are shifted so that the image's top fits, and what is then below 0 follows ``overflow``:
    ``lowest`` shares label 0, ``ignore`` has no rank (-1) and takes no part in the ranking loss.

    Args:
        ranks: N ranks of the objects of one image, higher = more salient, -1 = none.
        num_ranks: K.
        rule: ``top`` or ``keep``.
        overflow: ``lowest`` or ``ignore``.

    Returns:
        (N,) int64; objects without a rank keep -1.
    """
    given = np.asarray(ranks, dtype=np.int64).reshape(-1)
    ranked = given != UNRANKED
    labels = given.copy()
    if not ranked.any():
        return labels
    values = given[ranked]
    if rule == "top":
        dense = np.unique(values, return_inverse=True)[1].reshape(-1)
        values = dense - dense.max() + num_ranks - 1
    else:
        values = values - max(0, int(values.max()) - (num_ranks - 1))
    labels[ranked] = np.where(values >= 0, values, 0 if overflow == "lowest" else UNRANKED)
    return labels
