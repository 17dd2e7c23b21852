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

__all__ = ["Statistics", "measure", "plot"]


@dataclass(frozen=True)
class Statistics:
    """Measurements of a dataset; arrays run over its ranked objects unless said otherwise.

    Attributes:
        objects: (images,) objects of each image.
        ranked: (images,) ranked objects of each image.
        sizes: (images, 2) height and width.
        level: place in the order, 1 = most salient.
        area: share of the picture.
        x, y: center of the box as a share of width and height.
        tied: images with objects of equal rank.
        unranked: objects without a rank.
        crowds: objects that are crowds.
    """

    objects: np.ndarray
    ranked: np.ndarray
    sizes: np.ndarray
    level: np.ndarray
    area: np.ndarray
    x: np.ndarray
    y: np.ndarray
    tied: int
    unranked: int
    crowds: int

    @property
    def offset(self) -> np.ndarray:
        """Distance from the center, 1 = a corner."""
        return np.hypot(self.x - 0.5, self.y - 0.5) / np.hypot(0.5, 0.5)

    def summary(self) -> dict[str, Any]:
        """The numbers as plain data, ``rank`` 1 = most salient."""
        ranks = []
        for level in np.unique(self.level).tolist():
            mine = self.level == level
            ranks.append(
                {
                    "rank": level,
                    "objects": int(mine.sum()),
                    "area_mean": float(self.area[mine].mean()),
                    "area_median": float(np.median(self.area[mine])),
                    "distance_from_center_mean": float(self.offset[mine].mean()),
                    "x_mean": float(self.x[mine].mean()),
                    "y_mean": float(self.y[mine].mean()),
                }
            )
        counts = np.bincount(self.ranked).tolist() if len(self.ranked) else []
        return {
            "images": len(self.objects),
            "objects": int(self.objects.sum()),
            "ranked_objects": len(self.level),
            "unranked_objects": self.unranked,
            "crowds": self.crowds,
            "images_with_ties": self.tied,
            "images_by_ranked_objects": {str(n): count for n, count in enumerate(counts) if count},
            "image_sizes": len(np.unique(self.sizes, axis=0)),
            "by_rank": ranks,
        }


def measure(records: Sequence[ImageRecord]) -> Statistics:
    """Measure a dataset (the records should include objects without a rank)."""
    rows: list[tuple[float, float, float, float]] = []
    tied = unranked = crowds = 0
    for record in records:
        ranks = [item.rank for item in record.objects if item.rank >= 0]
        tied += len(set(ranks)) < len(ranks)
        crowds += sum(item.iscrowd for item in record.objects)
        unranked += sum(item.rank < 0 and not item.iscrowd for item in record.objects)
        top = max(ranks, default=0)
        for item in record.objects:
            if item.rank < 0:
                continue
            area = segmentation_area(item.segmentation, record.height, record.width)
            x1, y1, x2, y2 = item.box
            share = area / (record.height * record.width)
            center = (x1 + x2) / 2 / record.width, (y1 + y2) / 2 / record.height
            rows.append((top - item.rank + 1, share, *center))
    table = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return Statistics(
        np.array([len(record.objects) for record in records], dtype=np.int64),
        np.array([sum(item.rank >= 0 for item in record.objects) for record in records], dtype=np.int64),
        np.array([[record.height, record.width] for record in records], dtype=np.int64).reshape(-1, 2),
        table[:, 0].astype(np.int64),
        table[:, 1],
        table[:, 2],
        table[:, 3],
        tied,
        unranked,
        crowds,
    )


def plot(statistics: Statistics, title: str, path: Path) -> None:
    """Write the plots as one PNG: objects per image, sizes, places and distances by rank.

    Args:
        statistics: of ``measure``.
        title: heading.
        path: of the PNG.
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    levels = np.unique(statistics.level).tolist()
    columns = max(3, min(len(levels), 5))
    figure = Figure(figsize=(3.1 * columns, 6.6), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=14, x=0.01, ha="left", weight="bold")
    halves = np.asarray(figure.subfigures(2, 1, height_ratios=(1.25, 1)))
    upper, lower = halves[0], halves[1]
    palette = [colormaps["viridis"](0.85 - 0.75 * i / max(len(levels) - 1, 1)) for i in range(len(levels))]

    counts, sizes, distances = upper.subplots(1, 3)
    most = int(statistics.objects.max(initial=1))
    edges = np.arange(0, most + 2) - 0.5
    counts.hist(statistics.objects, edges, color="#c9ccd1", label="all objects")
    counts.hist(statistics.ranked, edges, color="#3b6fb6", rwidth=0.6, label="ranked")
    counts.set(xlabel="objects in an image", ylabel="images")
    counts.legend(frameon=False, fontsize=9)
    for axes, values, label in (
        (sizes, 100 * statistics.area, "share of the picture, %"),
        (distances, statistics.offset, "distance from the center (1 = corner)"),
    ):
        groups = [values[statistics.level == level] for level in levels]
        if groups:
            boxes = axes.boxplot(groups, widths=0.6, showfliers=False, patch_artist=True)
            for patch, color in zip(boxes["boxes"], palette, strict=True):
                patch.set(facecolor=color, edgecolor="#333333")
            for line in boxes["medians"]:
                line.set(color="white", linewidth=1.6)
            axes.set_xticks(range(1, len(levels) + 1), [str(level) for level in levels])
        axes.set(xlabel="rank (1 = most salient)", title=label)
        axes.title.set_fontsize(10)
    for axes in (counts, sizes, distances):
        axes.spines[["top", "right"]].set_visible(False)

    for axes, level in zip(np.atleast_1d(lower.subplots(1, columns)), levels + [0] * columns, strict=False):
        axes.set(xticks=[], yticks=[])
        if not level:
            axes.set_visible(False)
            continue
        mine = statistics.level == level
        heat, *_ = np.histogram2d(
            statistics.y[mine], statistics.x[mine], bins=(24, 32), range=((0, 1), (0, 1))
        )
        heat = cv2.GaussianBlur(heat, (0, 0), 1.2, borderType=cv2.BORDER_CONSTANT)
        axes.imshow(heat, cmap="magma", aspect="auto", extent=(0, 4, 3, 0), interpolation="bilinear")
        axes.set_aspect("equal")
        axes.set_title(f"centers at rank {level} ({int(mine.sum())})", fontsize=10)
    figure.savefig(path, dpi=110)
