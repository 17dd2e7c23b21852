"""``sor-ppa compare``: the results of several methods on one dataset, with intervals, tests and a report."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..evaluation.compare import Comparison, Method
    from ..evaluation.compare_report import Pictures

_EPILOG = """\
examples:
  sor-ppa compare ours.json theirs.json --truth assr_test
  sor-ppa compare PPA=output/ppa.json QAGNet=maps/ --truth truth.json --images photos/ --output report

PREDICTIONS is a folder of maps, COCO JSON of ranked instances of any program, or Parquet of sor-ppa rank; see
`sor-ppa evaluate --help`. compare.html and compare.json go into the folder of --output.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the sub-command."""
    parser.epilog = _EPILOG
    parser.add_argument("predictions", nargs="+", metavar="[NAME=]PREDICTIONS", help="results of a method")
    parser.add_argument("--truth", required=True, metavar="DATASET", help="registered dataset, or JSON file")
    parser.add_argument(
        "--output", type=Path, default=Path("compare"), metavar="DIR", help="default: compare"
    )
    parser.add_argument("--images", type=Path, metavar="DIR", help="the photos that a JSON truth names")
    parser.add_argument(
        "--differences", type=int, default=6, metavar="N", help="pictures of N images (default: 6)"
    )
    parser.add_argument(
        "--missing",
        choices=("auto", "skip", "empty"),
        default="auto",
        help="images without a prediction: leave out, or score as empty; auto: leave out (maps) or score as "
        "empty (instances), and exit with 1",
    )
    parser.add_argument(
        "--rank-by",
        choices=("auto", "rank", "rank_score", "score"),  # as predictions.RANK_FIELDS, without its imports
        default="auto",
        help="the field that orders instances (default: rank, else rank_score)",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one a core)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(options: argparse.Namespace) -> int:
    """Run the sub-command and return its exit status."""
    from ..atomic import atomic_write
    from ..evaluation.compare import compare_files
    from ..evaluation.compare_report import compare_page
    from ..evaluation.report import write_nullable_json

    workers = (os.cpu_count() or 1) if options.workers is None else options.workers
    for flag, value, least in (("--workers", workers, 1), ("--differences", options.differences, 0)):
        if value < least:
            raise ValueError(f"{flag}: expected at least {least}, found {value}")
    methods = _methods(options.predictions)
    options.output.mkdir(parents=True, exist_ok=True)
    comparison = compare_files(
        methods,
        options.truth,
        rank_by=options.rank_by,
        missing=options.missing,
        workers=workers,
        progress=not options.quiet,
    )
    results = comparison.to_json()
    sys.stdout.write(_summary(results))
    pictures = _pictures(comparison, options.differences, options.images)
    write_nullable_json(options.output / "compare.json", results)
    with atomic_write(options.output / "compare.html") as part:
        part.write_text(compare_page(comparison, results, pictures), "utf-8")
    sys.stdout.write(f"\nreport: {options.output / 'compare.html'}\n")
    for method in results["methods"]:
        for kind, count in method["problems"].items():
            first = next(line for line in method["problem_lines"] if line.startswith(f"{kind}: "))
            sys.stderr.write(f"{method['name']}: {kind}: {count}\n    {first.removeprefix(f'{kind}: ')}\n")
    for name in (unused := comparison.without_values()):
        expected = "at least one image with a usable prediction"
        sys.stderr.write(f"sor-ppa compare: {name}: expected {expected}, found none\n")
    if comparison.missing() and options.missing == "auto":
        expected = "--missing skip or --missing empty, because predictions are missing"
        sys.stderr.write(f"sor-ppa compare: expected {expected}, found --missing auto\n")
        return 1
    return 1 if unused else 0


def _methods(arguments: Sequence[str]) -> list[Method]:
    """Return the methods: named as given, else by the stem of the path, else by the whole path."""
    from ..evaluation.compare import Method

    given = []
    for argument in arguments:
        name, equals, path = argument.partition("=")
        if equals and not path:
            raise ValueError(f"predictions: expected [NAME=]PATH, found {argument}")
        whole = not equals or Path(argument).exists()  # a path may hold "="
        given.append(("", Path(argument)) if whole else (name, Path(path)))
    stems = [path.resolve().name if path.is_dir() else path.stem for _, path in given]
    names = [
        name or (stem if stems.count(stem) == 1 else str(path))
        for stem, (name, path) in zip(stems, given, strict=True)
    ]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(
            f"predictions: expected a name of its own for each (NAME=PATH), found {twice[0]} twice"
        )
    return [Method(name, path) for name, (_, path) in zip(names, given, strict=True)]


def _pictures(comparison: Comparison, count: int, images: Path | None) -> Pictures:
    """Return the images where methods differ most; a line on stderr says why one is missing."""
    from ..evaluation.command import drawable_prediction
    from ..evaluation.pictures import draw_panels

    pictures = []
    absent = []
    for entry in comparison.largest_differences(count):
        record, predictions = comparison.tasks[entry["index"]]
        if images is not None:
            record = {**record, "file_name": str(images / record["file_name"])}
        if not Path(record["file_name"]).is_file():
            absent.append(f"expected the photo {record['file_name']}, found none (--images DIR)\n")
            continue
        shown = {
            f"{method.name}: {entry['values'][method.name]:.3f}": drawable_prediction(record, prediction)
            for method, prediction in zip(comparison.methods, predictions, strict=True)
            if entry["values"][method.name] == entry["values"][method.name]
        }
        try:
            pictures.append((entry["image"], draw_panels(record, shown)))
        except (ValueError, OSError) as error:
            sys.stderr.write(f"no picture: {error}\n")
    for line in absent if pictures else absent[:1]:
        sys.stderr.write(f"no picture{'' if pictures else 's'}: {line}")
    return pictures


def _summary(results: Mapping[str, Any]) -> str:
    """Return the table of the headline scores as text."""
    from tabulate import tabulate

    from ..evaluation.measure import HEADLINE
    from ..evaluation.report import label
    from ..evaluation.variants import find_variant

    rows: dict[str, list[str]] = {}
    for entry in results["means"]:
        if (entry["metric"], entry["variant"]) in HEADLINE:
            text = "-"
            if entry["value"] is not None:
                text = f"{entry['value']:.4f} [{entry['low']:.4f}, {entry['high']:.4f}] of {entry['images']}"
            rows.setdefault(entry["method"], []).append(text)
    head = ["method", *(label(find_variant(*key)) for key in HEADLINE)]
    return tabulate([[name, *cells] for name, cells in rows.items()], head, disable_numparse=True) + "\n"
