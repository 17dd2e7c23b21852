"""Results for people and files: tables, JSON, CSV of images, the worst images, the definitions."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from ..atomic import atomic_write, write_json
from ..visualization.rank_maps import PAINTERS
from .definitions import METRICS, RULES
from .variants import DEFAULTS, PUBLISHED, Variant, describe

Rows = Sequence[Mapping[str, Any]]


def label(variant: Variant) -> str:
    """Return the short name of a result: the metric, and its variant unless that is the default."""
    name = METRICS[variant.metric].label
    return name if variant.name == DEFAULTS[variant.metric] else f"{name}[{variant.name}]"


def table(result: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Return a text table of ``RankingScorer.result()``, one line a variant."""
    rows = []
    for metric, entries in result.items():
        for entry in entries.values():
            value = "-" if entry["value"] is None else f"{entry['value']:.6f}"
            why = "; ".join(f"{reason}: {count}" for reason, count in entry["reasons"].items())
            counts = entry["counted"], entry["skipped"], entry["nan_as_0"]
            rows.append((METRICS[metric].label, entry["variant"], value, *counts, why))
    head = ("metric", "variant", "value", "counted", "skipped", "as 0", "why not counted")
    sides = ("left", "left", "right", "right", "right", "right", "left")
    return tabulate(rows, head, tablefmt="simple", disable_numparse=True, colalign=sides if rows else None)


def write_nullable_json(path: str | Path, value: Any, *, indent: int | None = 1) -> None:
    """Write strict JSON, with null for NaN and infinities; ``indent=None`` on one line."""
    write_json(path, json.loads(json.dumps(value), parse_constant=lambda name: None), indent=indent)


def write_per_image(path: str | Path, rows: Rows) -> None:
    """Write one CSV line an image.

    Args:
        rows: with ``image_id``, ``name``, ``n_gt``, ``n_pred`` (None for maps), ``scores``
            {metric: {variant: Score}} and optionally ``sod``, numbers by name.
    """
    with atomic_write(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        for place, row in enumerate(rows):
            line = {"image_id": row["image_id"], "file_name": row["name"]}
            line |= {"n_gt": row["n_gt"], "n_pred": row["n_pred"]}
            for metric, found in row["scores"].items():
                for name, score in found.items():
                    why = f": {score.reason}" if score.reason else ""
                    line[f"{metric}:{name}"] = "" if score.value is None else repr(score.value)
                    line[f"{metric}:{name} status"] = score.status + why
            sod = row.get("sod") or {}
            line |= {name: value for name, value in sod.items() if not isinstance(value, list)}  # curves
            if place == 0:
                writer.writerow(line)
            writer.writerow(line.values())


def worst_rows(rows: Rows, metric: str, name: str, count: int = 10) -> list[Mapping[str, Any]]:
    """Return the images with the worst counted values, the worst first; of equal ones by name.

    Args:
        rows: as in ``write_per_image``.
        metric, name, count: which variant and how many images.
    """
    sign = 1 if METRICS[metric].higher_is_better else -1
    counted = [row for row in rows if row["scores"][metric][name].value is not None]
    return sorted(counted, key=lambda r: (sign * r["scores"][metric][name].value, str(r["name"])))[:count]


def definitions_text() -> str:
    """Return every variant with its rule in full and its source."""
    return "\n".join(
        f"{metric} {name}{' (default)' * (name == DEFAULTS[metric])}\n"
        f"    {describe(metric, name).partition(': ')[2]}\n"
        for metric, names in PUBLISHED.items()
        for name in names
    )


def definitions_markdown() -> str:
    """Return the tables of metrics, their definitions and the painters, as in docs/metrics.md."""
    rows: list[tuple[str, ...]] = [
        (m.label, f"`{m.default}`", f"{m.low} to {m.high}", "higher" if m.higher_is_better else "lower")
        for m in METRICS.values()
    ]
    lines = _table(("metric", "default variant", "range", "better"), rows)
    for name, metric in METRICS.items():
        rows = []
        for rule in RULES[name].values():
            variants = [f"`{rule.name}@{painter}`" for painter in rule.maps] or [f"`{rule.name}`"]
            rows.append((", ".join(variants), rule.summary, rule.source))
        lines += ["", f"### {metric.label}", "", metric.text, ""]
        lines += _table(("variant", "definition", "source"), rows)
    painters = [(f"`{name}`", painter.rule, painter.source) for name, painter in PAINTERS.items()]
    lines += ["", "### Painted maps", "", *_table(("painter", "rule", "source"), painters)]
    return "\n".join(lines) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    escaped = ([cell.replace("|", r"\|") for cell in row] for row in rows)
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *escaped)]
