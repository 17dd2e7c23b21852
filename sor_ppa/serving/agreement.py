"""How far annotators agree on the ranks of the same photos."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import permutations
from typing import Any

import numpy as np
from scipy.stats import kendalltau

from ..data.record import dense_ranks
from ..evaluation import DEFAULTS, ImageScores, find_variant
from .consensus import match_objects
from .documents import Document
from .workspace import Photo

__all__ = ["agreement", "kendall_tau", "sa_sor_between"]


def kendall_tau(first: Document, second: Document) -> float | None:
    """Return Kendall's tau-b over the objects that both have; None if it is undefined.

    Objects without a rank tie below all others.
    """
    both = [group for group in match_objects([first, second]) if len(group) == 2]
    ranks = np.array([[item.rank or np.inf for item in (group[0], group[1])] for group in both])
    if len(both) < 2:
        return None
    value = kendalltau(ranks[:, 0], ranks[:, 1], variant="b").statistic
    return None if np.isnan(value) else float(value)


def sa_sor_between(first: Document, second: Document) -> float | None:
    """Return the SA-SOR of the first document against the second as ground truth; None if it is undefined."""
    truth, found = second.ranked, first.ranked
    image = ImageScores.from_rles(
        [item.mask.model_dump() for item in truth],
        dense_ranks([-(item.rank or 0) for item in truth]),
        [item.mask.model_dump() for item in found],
        [-float(item.rank or 0) for item in found],
        (second.height, second.width),
    )
    return find_variant("sa_sor", DEFAULTS["sa_sor"]).score(image).value


def agreement(photos: Sequence[tuple[Photo, Sequence[Document]]]) -> dict[str, Any]:
    """Return the agreement of each ordered pair of annotators: for each photo, and its mean over the photos.

    For each photo, ``each`` has the mean agreement of one annotator with the others.

    Args:
        photos: each with the documents that people saved.
    """
    rows: list[dict[str, Any]] = []
    for photo, documents in photos:
        pairs = [
            {
                "a": a.annotator,
                "b": b.annotator,
                "kendall_tau": kendall_tau(a, b),
                "sa_sor": sa_sor_between(a, b),
            }
            for a, b in permutations(documents, 2)
        ]
        names = [document.annotator for document in documents]
        each = [{"a": name, **_means(pair for pair in pairs if pair["a"] == name)} for name in names]
        rows.append({"photo": photo.id, "annotators": names, **_means(pairs), "each": each, "pairs": pairs})
    measured = [pair for row in rows for pair in row["pairs"]]
    found = sorted({(pair["a"], pair["b"]) for pair in measured})
    summary = []
    for a, b in found:
        own = [pair for pair in measured if (pair["a"], pair["b"]) == (a, b)]
        summary.append({"a": a, "b": b, "photos": len(own), **_means(own)})
    names = sorted({document.annotator for _, documents in photos for document in documents})
    return {"annotators": names, "pairs": summary, "photos": rows}


def _means(pairs: Iterable[dict[str, Any]]) -> dict[str, float | None]:
    """Return the mean of each measure where it is defined."""
    pairs = list(pairs)
    means: dict[str, float | None] = {}
    for name in ("kendall_tau", "sa_sor"):
        values = [pair[name] for pair in pairs if pair[name] is not None]
        means[name] = round(float(np.mean(values)), 6) if values else None
    return means
