"""Training labels from ranks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .record import UNRANKED


def training_ranks(
    ranks: Sequence[int], num_ranks: int, rule: str = "top", overflow: str = "lowest"
) -> np.ndarray:
    """Return rank labels 0 to K - 1 for training.

    With the rule ``top`` the most salient object of an image has the label K - 1, the next K - 2, and so
    on. Ties share a label, and the next label follows without a gap. "The most salient object" is then
    one class for images with two objects and for images with eight. On ASSR, whose values count down from
    1.0, these are the published labels. With the rule ``keep`` the ranks of the dataset are the labels; if
    the highest exceeds K - 1, all move down together.

    Labels below 0 (more distinct ranks than K) follow ``overflow``: ``lowest`` makes them 0, ``ignore``
    makes them -1, which the ranking loss ignores.

    Args:
        ranks: N ranks of the objects of one image, higher = more salient, -1 = none.
        num_ranks: K.
        rule: ``top`` or ``keep``.
        overflow: ``lowest`` or ``ignore``.

    Returns:
        (N,) int64; objects without a rank keep -1.
    """
    labels = np.array(ranks, dtype=np.int64).reshape(-1)
    ranked = labels != UNRANKED
    if not ranked.any():
        return labels
    values = labels[ranked]
    if rule == "top":
        dense = np.unique(values, return_inverse=True)[1].reshape(-1)
        values = dense - dense.max() + num_ranks - 1
    else:
        values = values - max(0, int(values.max()) - (num_ranks - 1))
    labels[ranked] = np.where(values >= 0, values, 0 if overflow == "lowest" else UNRANKED)
    return labels
