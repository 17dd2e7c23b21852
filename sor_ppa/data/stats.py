"""Statistics of a ranking dataset, as the papers show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .masks import segmentation_area
from .record import ImageRecord


@dataclass(frozen=True)
class Statistics:
    """Measurements of a dataset; areas and centers are shares of the image's."""

    images: np.ndarray  # (images, 4) objects, ranked objects, height and width
    ranked: np.ndarray  # (ranked objects, 4) rank (1 = most salient), area, x and y of the box center
    tied: int  # images with objects of equal rank
    crowds: int  # objects that are crowds

    @property
    def offset(self) -> np.ndarray:
        """(ranked objects,) distance from the center, 1 = a corner."""
        return np.hypot(self.ranked[:, 2] - 0.5, self.ranked[:, 3] - 0.5) / np.hypot(0.5, 0.5)

    def summary(self) -> dict[str, Any]:
        """Return the numbers as plain data, ``rank`` 1 = most salient."""
        ranks = []
        for rank in np.unique(self.ranked[:, 0]).tolist():
            chosen = self.ranked[:, 0] == rank
            _, area, x, y = self.ranked[chosen].mean(axis=0).tolist()
            row = {"rank": int(rank), "objects": int(chosen.sum()), "area_mean": area}
            row["area_median"] = float(np.median(self.ranked[chosen, 1]))
            row["distance_from_center_mean"] = float(self.offset[chosen].mean())
            ranks.append({**row, "x_mean": x, "y_mean": y})
        objects = int(self.images[:, 0].sum())
        numbers, counts = np.unique(self.images[:, 1], return_counts=True)
        return {
            "images": len(self.images),
            "objects": objects,
            "ranked_objects": len(self.ranked),
            "unranked_objects": objects - len(self.ranked) - self.crowds,
            "crowds": self.crowds,
            "images_with_ties": self.tied,
            "images_by_ranked_objects": dict(zip(map(str, numbers), counts.tolist(), strict=True)),
            "image_sizes": len(np.unique(self.images[:, 2:], axis=0)),
            "by_rank": ranks,
        }


def measure(records: Sequence[ImageRecord]) -> Statistics:
    """Measure a dataset (the records should include objects without a rank)."""
    images, ranked = [], []
    tied = crowds = 0
    for record in records:
        height, width = record.height, record.width
        chosen = [item for item in record.objects if item.rank >= 0]
        ranks = [item.rank for item in chosen]
        images.append((len(record.objects), len(ranks), height, width))
        tied += len(set(ranks)) < len(ranks)
        crowds += sum(item.iscrowd for item in record.objects)
        for item in chosen:
            share = segmentation_area(item.segmentation, height, width) / (height * width)
            x1, y1, x2, y2 = item.box
            center = (x1 + x2) / 2 / width, (y1 + y2) / 2 / height
            ranked.append((max(ranks) - item.rank + 1, share, *center))
    return Statistics(np.reshape(images, (-1, 4)).astype(int), np.reshape(ranked, (-1, 4)), tied, crowds)


def plot(statistics: Statistics, title: str, path: Path) -> None:
    """Write one PNG with objects per image, and sizes, distances and positions by rank."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rank = statistics.ranked[:, 0]
    ranks = np.unique(rank).astype(int).tolist()
    columns = max(3, min(len(ranks), 5))
    figure = Figure(figsize=(3.1 * columns, 6.6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    upper, lower = np.asarray(figure.subfigures(2, 1)).tolist()

    counts, areas, distances = upper.subplots(1, 3)
    edges = np.arange(statistics.images[:, 0].max(initial=1) + 2) - 0.5
    counts.hist(statistics.images[:, 0], edges, color="lightgray", label="all objects")
    counts.hist(statistics.images[:, 1], edges, rwidth=0.6, label="ranked")
    counts.set(xlabel="objects in an image", ylabel="images")
    counts.legend()
    areas.set(ylabel="share of the image, %")
    distances.set(ylabel="distance from the center (1 = corner)")
    for axes, values in ((areas, 100 * statistics.ranked[:, 1]), (distances, statistics.offset)):
        groups = {str(level): values[rank == level] for level in ranks}
        axes.boxplot(list(groups.values()), widths=0.6, showfliers=False)
        axes.set_xticks(range(1, len(ranks) + 1), list(groups))
        axes.set(xlabel="rank (1 = most salient)")

    for axes, level in zip(lower.subplots(1, columns), ranks + [0] * columns, strict=False):
        x, y = statistics.ranked[rank == level, 2:].T
        heat, *_ = np.histogram2d(y, x, bins=(24, 32), range=((0, 1), (0, 1)))
        heat = cv2.GaussianBlur(heat, (0, 0), 1.2, borderType=cv2.BORDER_CONSTANT)
        axes.imshow(heat, cmap="magma", extent=(0, 4, 3, 0), interpolation="bilinear")
        axes.set(xticks=[], yticks=[], title=f"centers at rank {level} ({len(x)})", visible=level > 0)
    figure.savefig(path, dpi=110)
