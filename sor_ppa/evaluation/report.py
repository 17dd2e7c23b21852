"""Results for people and files: table, JSON, per-image CSV, the worst images."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .score import Score
from .scorer import Scores
from .variants import DEFAULTS, Variant

HIGHER_IS_BETTER = {"mae": False}
LABELS = {
    "sa_sor": "SA-SOR",
    "sor": "SOR",
    "mae": "MAE",
    "f_measure": "F-measure",
    "iou": "IoU",
    "ndcg": "nDCG",
}


def label(variant: Variant) -> str:
    """The short name of a result: the metric, and its variant unless that is the default."""
    metric = variant.rule.metric
    return LABELS[metric] if variant.name == DEFAULTS[metric] else f"{LABELS[metric]}[{variant.name}]"


def table(result: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """A text table of ``RankingScorer.result()``: one line a variant, which is named in full.

    Returns:
        Lines of metric, variant, value, images counted, skipped, counted as 0, and why.
    """
    rows = [("metric", "variant", "value", "counted", "skipped", "as 0", "why not counted")]
    for metric, entries in result.items():
        for entry in entries.values():
            value = "-" if entry["value"] is None else f"{entry['value']:.6f}"
            why = "; ".join(f"{reason}: {count}" for reason, count in entry["reasons"].items())
            counts = (str(entry["counted"]), str(entry["skipped"]), str(entry["nan_as_0"]))
            rows.append((LABELS[metric], entry["variant"], value, *counts, why))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if 2 <= column <= 5 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def json_ready(value: Any) -> Any:
    """Nested dicts and lists with NaN and infinities replaced by None, as strict JSON needs."""
    if isinstance(value, Mapping):
        return {str(key): json_ready(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_json(path: str | Path, value: Any, *, indent: int | None = 1) -> None:
    """Writes strict JSON; ``indent=None`` on one line."""
    text = json.dumps(json_ready(value), indent=indent, allow_nan=False)
    Path(path).write_text(text + "\n", encoding="utf-8")


def write_per_image(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes one CSV line an image.

    Args:
        path: the file.
        rows: with ``image_id``, ``name``, ``n_gt``, ``n_pred`` (None for maps) and ``scores``
            {metric: {variant: Score}}.
    """
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        head: list[str] = []
        for row in rows:
            columns = [
                (f"{metric}:{name}", Score(*score))
                for metric, found in row["scores"].items()
                for name, score in found.items()
            ]
            if not head:
                head = ["image_id", "file_name", "n_gt", "n_pred"]
                for name, _ in columns:
                    head += [name, f"{name} status"]
                writer.writerow(head)
            line = [
                row["image_id"],
                row["name"],
                row["n_gt"],
                "" if row["n_pred"] is None else row["n_pred"],
            ]
            for _, score in columns:
                why = f": {score.reason}" if score.reason else ""
                line += ["" if score.value is None else repr(score.value), score.status + why]
            writer.writerow(line)


def worst(
    rows: Sequence[Mapping[str, Any]], metric: str, name: str, count: int = 10
) -> list[tuple[str, float]]:
    """The images with the worst counted values.

    Args:
        rows: as in ``write_per_image``.
        metric, name: which variant.
        count: how many.

    Returns:
        (file name, value), the worst first; equal values by file name.
    """
    sign = 1 if HIGHER_IS_BETTER.get(metric, True) else -1
    values = [(str(row["name"]), scores_of(row["scores"], metric, name).value) for row in rows]
    found = [(sign * value, image, value) for image, value in values if value is not None]
    return [(image, value) for _, image, value in sorted(found)[:count]]


def scores_of(scores: Scores, metric: str, name: str) -> Score:
    """One score of an image, also where it has travelled as a plain tuple."""
    return Score(*scores[metric][name])
