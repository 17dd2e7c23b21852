"""The comparison of methods as one HTML file, without scripts and without other files."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from .charts import Line, line_chart, series_style
from .compare import Comparison
from .definitions import METRICS
from .measure import HEADLINE
from .report import label
from .variants import find_variant

__all__ = ["Pictures", "compare_page"]

Pictures = Sequence[tuple[str, Mapping[str, NDArray[np.uint8]]]]
"""For each image its name, and its panels by caption."""
_SIDE = 360  # largest side of an embedded picture
_STYLE = """
:root { --paper: #fbfbf9; --ink: #1d2126; --pale: #596069; --line: #d8dade; --mark: #eef3ec;
  color-scheme: light dark; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #15181c; --ink: #e6e8ea; --pale: #a3abb4; --line: #343a42; --mark: #22301f; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem clamp(1rem, 4vw, 3rem) 4rem; max-width: 78rem;
  background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .4rem; }
p, figcaption { color: var(--pale); max-width: 46rem; margin: .2rem 0 .8rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { font-weight: 600; white-space: normal; overflow-wrap: anywhere; min-width: 6rem; }
td:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 7rem; }
td small { color: var(--pale); } td b { background: var(--mark); padding: 0 .2rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); gap: 1rem; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: .6rem; }
figure { margin: 0; min-width: 0; } svg, img { width: 100%; height: auto; display: block; }
img { border-radius: 4px; } figure figcaption { font-size: .85rem; overflow-wrap: anywhere; margin: .2rem 0; }
h3 { font-size: .95rem; font-weight: 600; margin: 1.2rem 0 .4rem; overflow-wrap: anywhere; }
svg text { fill: var(--pale); font-size: 11px; } .end { text-anchor: end; } .middle { text-anchor: middle; }
.grid { stroke: var(--line); } .dashed { stroke: var(--pale); stroke-dasharray: 4 4; fill: none; }
.series { fill: none; stroke: var(--own); stroke-width: 2; }
.key { display: inline-block; width: .75rem; height: .75rem; border-radius: 2px; margin-right: .4rem;
  background: var(--own); }
.series.again { stroke-dasharray: 6 3; } .key.again { background: none; border: 2px dashed var(--own); }
.s0 { --own: #3c7fd6; } .s1 { --own: #d8642c; } .s2 { --own: #2f9c6d; } .s3 { --own: #b455c6; }
.s4 { --own: #b98a12; } .s5 { --own: #d24a6c; } .s6 { --own: #6b8f2b; } .s7 { --own: #7d828c; }
summary { cursor: pointer; font-weight: 600; margin: .6rem 0; }
"""


def compare_page(comparison: Comparison, results: Mapping[str, Any], pictures: Pictures = ()) -> str:
    """Return the report as HTML.

    Args:
        comparison: what is reported.
        results: its ``to_json``.
        pictures: of images where the methods differ.
    """
    names = [method.name for method in comparison.methods]
    keys = [f'<span class="key {series_style(n)}"></span>{escape(name)}' for n, name in enumerate(names)]
    number = f"{len(names)} methods" if len(names) > 1 else "One method"
    title = f"{number} on {Path(comparison.truth).name}"
    sections = [
        _section("Scores", _SCORES, _scores(results, keys)),
        _section("Differences between methods", _PAIRS, _pairs(results)),
        _section("Confidence threshold", _CURVES, _curves(results, names, keys)),
        _section("Groups of images", _GROUPS, _groups(results, keys)),
        _section("Calibration", _CALIBRATION, _calibration(results, keys)),
        _section("Where the methods differ most", _PICTURES, _pictures(pictures)),
        _section("All definitions", _ALL, _definitions(results, keys)),
        _section("Problems of the files", "", _problems(results, keys)),
    ]
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    intro = f"{results['images']} images. Brackets hold 95 % bootstrap intervals over the images."
    return (
        f'<!doctype html><html lang="en"><head>{head}<title>{escape(title)}</title><style>{_STYLE}</style>'
        f"</head><body><h1>{escape(title)}</h1><p>{intro}</p>{''.join(sections)}</body></html>\n"
    )


_SCORES = "Means over the images that a definition uses; their number stands below."
_PAIRS = (
    "First method minus second, over the images that both use. p is of a paired permutation test, corrected "
    "for the number of pairs (Holm). Bold: p &lt; 0.05."
)
_CURVES = (
    "Predictions above a threshold of the confidence only. A ring marks the best threshold <b>on these test "
    "images</b>: it is tuned on the test set and no result to report."
)
_TUNED = "From all predictions above 0 to the best threshold, tuned on the test images:"
_GROUPS = (
    "Means over images that have something in common: number and size of the objects, and their overlap."
)
_CALIBRATION = (
    "How often predictions of a probability come true. The expected calibration error (ECE) is the mean "
    "distance from the dashed line."
)
_PICTURES = "The images whose SA-SOR differs most between two methods."
_ALL = "Every published definition. A method of maps has values where a definition can be applied to maps."


def _section(title: str, text: str, body: str) -> str:
    return f"<section><h2>{title}</h2>{f'<p>{text}</p>' if text else ''}{body}</section>" if body else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    sides = ("left", *("right" for _ in head[1:]))
    html = tabulate(list(rows), head, tablefmt="unsafehtml", disable_numparse=True, colalign=sides)
    return f'<div class="wide">{html}</div>'


def _interval(entry: Mapping[str, Any], digits: int = 3, sign: str = "") -> str:
    low, high = (f"{entry[end]:{sign}.{digits}f}" for end in ("low", "high"))
    return f"<small>[{low}, {high}]</small>"


def _value(entry: Mapping[str, Any] | None, best: float | None = None) -> str:
    if entry is None or entry["value"] is None:
        return "-"
    text = f"{entry['value']:.3f}"
    text = f"<b>{text}</b>" if entry["value"] == best else text
    return f"{text} {_interval(entry)}<br><small>{entry['images']} images</small>"


def _best(metric: str, entries: Iterable[Mapping[str, Any]]) -> float | None:
    values = [entry["value"] for entry in entries if entry["value"] is not None]
    return (max if METRICS[metric].higher_is_better else min)(values) if len(values) > 1 else None


def _scores(results: Mapping[str, Any], keys: Sequence[str]) -> str:
    columns = []
    for wanted in HEADLINE:
        found = [e for e in results["means"] if (e["metric"], e["variant"]) == wanted]
        columns.append([_value(e, _best(wanted[0], found)) for e in found])
    return _table(_headline_head(), zip(keys, *columns, strict=True))


def _headline_head() -> list[str]:
    return ["", *(label(find_variant(*key)) for key in HEADLINE)]


def _pairs(results: Mapping[str, Any]) -> str:
    def cell(entry: Mapping[str, Any]) -> str:
        if entry["difference"] is None:
            return "-"
        p = f"p = {entry['p_holm']:.4f}"
        p = f"<b>{p}</b>" if entry["p_holm"] < 0.05 else p
        numbers = f"{entry['difference']:+.3f} {_interval(entry, sign='+')}"
        return f"{numbers}<br>{p} <small>{entry['images']} images</small>"

    rows: dict[str, list[str]] = {}
    for entry in results["pairs"]:
        if (entry["metric"], entry["variant"]) in HEADLINE:
            rows.setdefault(" - ".join(map(escape, entry["methods"])), []).append(cell(entry))
    return _table(_headline_head(), [[pair, *cells] for pair, cells in rows.items()]) if rows else ""


def _curves(results: Mapping[str, Any], names: Sequence[str], keys: Sequence[str]) -> str:
    figures, rows = [], {name: [key, *("-" for _ in HEADLINE)] for name, key in zip(names, keys, strict=True)}
    drawn = {entry["method"] for entry in results["thresholds"]}
    for column, (metric, _) in enumerate(HEADLINE, start=1):
        lines: dict[int, Line] = {}
        for entry in (e for e in results["thresholds"] if e["metric"] == metric):
            best, value = entry["tuned_on_test"], entry["tuned_on_test_value"]
            lines[names.index(entry["method"])] = Line(entry["thresholds"], entry["values"], (best, value))
            images = entry["images"][entry["thresholds"].index(best)]
            note = f"<small>above {best:.2f}, {images} images</small>"
            rows[entry["method"]][column] = f"{entry['values'][0]:.3f} to {value:.3f}<br>{note}"
        if lines:
            chart = line_chart(lines, ("confidence above", METRICS[metric].label))
            figures.append(f"<figure>{chart}<figcaption>{METRICS[metric].label}</figcaption></figure>")
    if not figures:
        return ""
    table = _table(_headline_head(), [row for name, row in rows.items() if name in drawn])
    return f'<div class="charts">{"".join(figures)}</div><p>{_TUNED}</p>{table}'


def _groups(results: Mapping[str, Any], keys: Sequence[str]) -> str:
    tables: list[str] = []
    for key in HEADLINE:
        rows: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
        for entry in results["groups"]:
            if (entry["metric"], entry["variant"]) == key:
                rows.setdefault((entry["trait"], entry["group"]), []).append(entry)
        lines = [
            [f"{trait}: {escape(group)}", *(_value(e, _best(key[0], found)) for e in found)]
            for (trait, group), found in rows.items()
            if any(e["value"] is not None for e in found)
        ]
        if lines:
            opened = "" if tables else " open"
            summary = f"<summary>{METRICS[key[0]].label}</summary>"
            tables.append(f"<details{opened}>{summary}{_table(['', *keys], lines)}</details>")
    return "".join(tables)


def _calibration(results: Mapping[str, Any], keys: Sequence[str]) -> str:
    titles = {
        "confidence": "confidence: the prediction is the match of an object (IoU ≥ 0.5)",
        "first_probability": "first_probability: the object is the most salient one",
    }
    figures = []
    for kind, title in titles.items():
        found = {n: method["calibration"][kind] for n, method in enumerate(results["methods"])}
        found = {n: curve for n, curve in found.items() if curve}
        if not found:
            continue
        lines = {n: Line(curve["predicted"], curve["observed"]) for n, curve in found.items()}
        chart = line_chart(lines, ("predicted", "observed"), diagonal=True)
        rows = [[keys[n], f"{c['ece']:.3f}", str(c["events"])] for n, c in found.items()]
        table = _table(["", "ECE", "events"], rows)
        figures.append(f"<figure>{chart}<figcaption>{title}</figcaption>{table}</figure>")
    return f'<div class="charts">{"".join(figures)}</div>' if figures else ""


def _pictures(pictures: Pictures) -> str:
    rows = []
    for name, panels in pictures:
        figures = (
            f'<figure><img alt="{escape(caption)}" src="{_embedded(picture)}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
            for caption, picture in panels.items()
        )
        rows.append(f'<h3>{escape(name)}</h3><div class="pictures">{"".join(figures)}</div>')
    return "".join(rows)


def _embedded(picture: NDArray[np.uint8]) -> str:
    """Return an RGB or gray picture as the address of a small JPEG."""
    scale = min(1.0, _SIDE / max(picture.shape[:2]))
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    data = cv2.imencode(".jpg", small[..., ::-1] if small.ndim == 3 else small)[1]
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode('ascii')}"


def _definitions(results: Mapping[str, Any], keys: Sequence[str]) -> str:
    rows: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for entry in results["means"]:
        rows.setdefault((entry["metric"], entry["variant"]), []).append(entry)
    lines = [
        [
            f"{METRICS[metric].label} <small>{escape(name)}</small>",
            *(_value(e, _best(metric, found)) for e in found),
        ]
        for (metric, name), found in rows.items()
    ]
    return f"<details><summary>{len(lines)} definitions</summary>{_table(['', *keys], lines)}</details>"


def _problems(results: Mapping[str, Any], keys: Sequence[str]) -> str:
    counts = [Counter(method["problems"]) for method in results["methods"]]
    kinds = sorted(set().union(*counts))
    rows = [[key, *(str(found[kind]) for kind in kinds)] for key, found in zip(keys, counts, strict=True)]
    return _table(["", *kinds], rows) if kinds else ""
