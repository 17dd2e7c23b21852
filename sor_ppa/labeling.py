"""Ranking labels for unlabeled photos, from the results of any ranker.

Two views of each photo, as it is and mirrored, are ranked. What both views agree on becomes a label.
docs/predict.md says what a network learns from such labels.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from .data.record import ImageRecord, ObjectRecord, dense_ranks, object_of_mask
from .predictor import SORPredictor
from .results import RankedImage
from .visualization.files import ImageReadError, read_image

__all__ = ["LabelCounts", "LabeledPhoto", "agreed_objects", "label_photos"]

_log = logging.getLogger(__name__)


@dataclass
class LabelCounts:
    """What became of the photos: labeled, without an agreed object, and unreadable."""

    labeled: int = 0
    empty: int = 0
    unreadable: int = 0

    def __str__(self) -> str:
        left_out = f"{self.empty} without agreed objects, {self.unreadable} unreadable"
        return f"{self.labeled} photos labeled, {left_out}"


@dataclass(frozen=True, eq=False)
class LabeledPhoto:
    """A photo with what two views of it show.

    Attributes:
        record: with the agreed objects, maybe none.
        picture: (H, W, 3) BGR.
        overlaps: IoU of the two masks of each agreed object.
        covered: (H, W), the union of all objects that either view shows.
    """

    record: ImageRecord
    picture: NDArray[np.uint8]
    overlaps: tuple[float, ...]
    covered: NDArray[np.bool_]


def agreed_objects(
    plain: RankedImage, mirrored: RankedImage, *, score: float = 0.5, overlap: float = 0.5
) -> tuple[tuple[ObjectRecord, ...], tuple[float, ...]]:
    """Return the objects on which two views of a photo agree, and how much the masks of each overlap (IoU).

    Objects pair by the IoU of their masks. The rank of a pair comes from the mean of its two places. Pairs
    with the same mean tie.

    Args:
        plain: result of the photo.
        mirrored: result of the mirrored photo.
        score: least confidence in both views.
        overlap: least IoU of the masks.
    """
    first, second = _confident_objects(plain, score), _confident_objects(mirrored, score)
    if not len(first) or not len(second):
        return (), ()
    masks = plain.masks[first]
    iou = _pairwise_iou(masks, mirrored.masks[second][:, :, ::-1])
    pairs = [
        (int(i), int(j))
        for i, j in zip(*linear_sum_assignment(iou, maximize=True), strict=True)
        if iou[i, j] >= overlap
    ]
    ranks = dense_ranks([-(i + j) for i, j in pairs])
    objects = tuple(object_of_mask(masks[i], rank) for (i, _), rank in zip(pairs, ranks, strict=True))
    return objects, tuple(float(iou[pair]) for pair in pairs)


def label_photos(
    predictor: SORPredictor,
    files: Sequence[Path],
    counts: LabelCounts,
    *,
    score: float = 0.5,
    overlap: float = 0.5,
) -> Iterator[LabeledPhoto]:
    """Yield each readable photo with its labels.

    Args:
        predictor: the teacher.
        files: photos.
        counts: is updated.
        score, overlap: see :func:`agreed_objects`.
    """
    predictor.prepare(2 * len(files))
    photos = _readable(files, counts)
    while batch := list(islice(photos, max(predictor.batch_size // 2, 1))):
        views = [view for _, picture in batch for view in (picture, picture[:, ::-1].copy())]
        results = predictor(views)
        for (file, picture), plain, mirrored in zip(batch, results[::2], results[1::2], strict=True):
            objects, overlaps = agreed_objects(plain, mirrored, score=score, overlap=overlap)
            counts.labeled += bool(objects)
            counts.empty += not objects
            record = ImageRecord(str(file), plain.height, plain.width, objects, counts.labeled)
            covered = np.concatenate([plain.masks, mirrored.masks[:, :, ::-1]]).any(axis=0)
            yield LabeledPhoto(record, picture, overlaps, np.asarray(covered))


def _readable(files: Iterable[Path], counts: LabelCounts) -> Iterator[tuple[Path, NDArray[np.uint8]]]:
    for file in files:
        try:
            yield file, read_image(file)
        except ImageReadError as error:
            _log.error("%s", error)
            counts.unreadable += 1


def _confident_objects(result: RankedImage, score: float) -> NDArray[np.intp]:
    """Indices of the ranked objects that are confident enough, most salient first."""
    return np.array(
        [i for i, o in enumerate(result.objects) if o.rank is not None and o.score >= score and o.mask.any()],
        np.intp,
    )


def _pairwise_iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> NDArray[np.float64]:
    """IoU of (N, H, W) and (M, H, W) masks, (N, M)."""
    left, right = (masks.reshape(len(masks), -1).astype(np.float32) for masks in (first, second))
    common = left @ right.T
    return common / np.maximum(left.sum(1)[:, None] + right.sum(1)[None] - common, 1)
