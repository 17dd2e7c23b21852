"""Pictures of predictions beside the truth, for the images with the worst scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as mask_util

from ..data.sod import read_mask
from ..visualization import EVERYTHING, RankStyle, contact_sheet, draw_ranked
from ..visualization.files import read_image
from ..visualization.rank_maps import lowest_place_ranks
from .checks import expect_size
from .definitions import METRICS
from .ground_truth import truth_from_dict
from .report import worst_rows
from .segmentations import Rle

__all__ = ["RankedMasks", "draw_beside_truth", "draw_panels", "score_line", "worst_by"]

# masks, saliency (higher = more salient) and confidences of ranked objects
RankedMasks = tuple[Sequence[Rle], Sequence[float], Sequence[float]]
_WIDTH = 1440


def draw_beside_truth(
    record: Mapping[str, Any], predicted: RankedMasks | NDArray[np.uint8], line: str = ""
) -> NDArray[np.uint8]:
    """Draw an image, its truth and a prediction next to one another.

    Predicted objects are left out as ``RankStyle`` says: unsure ones, duplicates, all but the most salient.

    Args:
        record: a detectron2 dataset dict with ``annotations`` or ``mask_file_name``.
        predicted: ranked objects, or a map (H, W).
        line: text above the picture.

    Returns:
        (h, 1440, 3) uint8 RGB.
    """
    panels = draw_panels(record, {"Prediction": predicted})
    return contact_sheet([[*panels.values()]], [*panels], row_labels=[line], width=_WIDTH)


def draw_panels(
    record: Mapping[str, Any], predictions: Mapping[str, RankedMasks | NDArray[np.uint8]]
) -> dict[str, NDArray[np.uint8]]:
    """Draw an image, its truth and predictions; return them by title, each (H, W, 3) RGB or (H, W) gray.

    Args:
        record: a detectron2 dataset dict with ``annotations`` or ``mask_file_name``.
        predictions: by title, ranked objects, or a map (H, W).
    """
    image = np.ascontiguousarray(read_image(record["file_name"])[:, :, ::-1])
    size = record["height"], record["width"]
    expect_size(image.shape[:2], size, str(record["file_name"]), "its annotations")
    if "mask_file_name" in record:
        truth = read_mask(record["mask_file_name"])
    else:
        found = truth_from_dict(record)
        ranks = found.dense_ranks
        places = lowest_place_ranks(-ranks.astype(np.float64))
        truth = draw_ranked(image, found.ranked_masks().astype(bool), places, style=RankStyle(**EVERYTHING))
    return {"Image": image, "Truth": truth} | {
        title: found if isinstance(found, np.ndarray) else _draw_objects(image, *found)
        for title, found in predictions.items()
    }


def _draw_objects(
    image: NDArray[np.uint8], rles: Sequence[Rle], saliency: Sequence[float], confidences: Sequence[float]
) -> NDArray[np.uint8]:
    style, scores = RankStyle(), np.array(confidences, np.float64)
    places = lowest_place_ranks(-np.array(saliency, np.float64))
    order = np.argsort(places, kind="stable")
    kept = order[scores[order] >= style.confident * scores.max(initial=0)][: style.most]
    masks = np.array([mask_util.decode(rles[i]) for i in kept], bool).reshape(-1, *image.shape[:2])
    return draw_ranked(image, masks, places[kept], style=style)


def score_line(row: Mapping[str, Any]) -> str:
    """Return the scores of an image and its name in one line."""
    numbers = [
        f"{METRICS[metric].label} {score.value:.4f}"
        for metric, found in row["scores"].items()
        for score in found.values()
        if score.value is not None
    ]
    numbers += [f"MAE {row['sod']['mae']:.4f}"] if row.get("sod") else []
    return "   ".join([*numbers, str(row["name"])])


def worst_by(rows: Sequence[Mapping[str, Any]], count: int) -> list[Mapping[str, Any]]:
    """Return the images with the worst values of their first metric, the worst first."""
    for metric, found in rows[0]["scores"].items() if rows else ():
        return worst_rows(rows, metric, next(iter(found)), count)
    return sorted(rows, key=lambda row: -row["sod"]["mae"])[:count]
