"""``python -m sor_ppa.evaluation PREDICTIONS GROUND_TRUTH``: score saved results."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from .command import MISSING, NOTES, Outcome, score_files, show_worst
from .definitions import RULES
from .predictions import RANK_FIELDS
from .report import definitions_markdown, definitions_text, table, write_nullable_json, write_per_image

_DESCRIPTION = """\
Score saved results of any salient object ranking or salient object detection method.

PREDICTIONS is a folder of maps (gray 8-bit PNG, brighter = more salient, named like the images) or a
JSON list of instances in COCO's result format:
  {"image_id": 17, "segmentation": RLE or polygons, "score": 0.93, "rank": 1, "rank_score": 3.7}
  image_id    the ground truth's id, or the image's file name
  rank        1 = most salient, null = not ranked; if no entry has it, rank_score is used
  rank_score  any number, higher = more salient
  score       detection confidence, used only by the variants with a confidence threshold
GROUND_TRUTH is the name of a registered ranking or saliency dataset (the latter takes maps and --metrics
sod), or a JSON file in COCO's format whose annotations have "rank", 1 = most salient, null = not ranked,
unless info.rank_order says "higher is more salient".
docs/metrics.md describes both in full and defines every variant; --list prints the rules.
"""
_EPILOG = """\
Exit status: 0; 1 if nothing could be scored, if images have no prediction and --missing does not say what to
do with them, or with --strict if there was any problem; 2 for unusable input.
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    result = argparse.ArgumentParser(
        prog="python -m sor_ppa.evaluation",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = result.add_argument
    add("predictions", nargs="?", help="folder of PNG maps, or JSON of instances; with --ray: Parquet")
    add("ground_truth", nargs="?", help="JSON file or registered dataset; with --ray: Parquet")
    names = ", ".join([*RULES, "sod"])
    add(
        "--metrics",
        nargs="+",
        metavar="M",
        help=f"of {names}, all; default: sa_sor sor mae where defined, sod for a saliency dataset. sod = the "
        "detection measures of maps, against the masks or the union of ranked objects",
    )
    add(
        "--variants",
        nargs="+",
        metavar="V",
        help="names such as irsr, psr@area, sor:ijcv; all = every published one; default: one a metric",
    )
    add("--rank-by", choices=["auto", *RANK_FIELDS], default="auto", help="the field that orders instances")
    add("--levels", action="store_true", help="take the gray levels of maps as instances")
    add(
        "--missing",
        choices=["auto", "skip", "empty"],
        default="auto",
        help="images without a prediction: leave out, or score as empty; auto: leave out (maps) or score as "
        "empty (instances), and exit with 1",
    )
    add("--per-image", type=Path, metavar="CSV", help="write one line an image")
    add("--json", type=Path, metavar="JSON", help="write the results")
    add("--show", type=Path, metavar="DIR", help="draw image, truth and prediction of the worst images")
    worst = "how many of them, by the first of the metrics (default: %(default)s)"
    add("--worst", type=int, default=20, metavar="N", help=worst)
    add("--images", type=Path, metavar="DIR", help="the photos that a JSON ground truth names, for --show")
    add("--workers", type=int, default=1, metavar="N", help="processes (default 1)")
    add(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="score Parquet files of instances on a Ray cluster: auto or HOST:PORT; without an address, on "
        "the cores of this machine (docs/scale.md)",
    )
    add("--strict", action="store_true", help="exit with 1 if there is any problem")
    add("--quiet", action="store_true", help="no progress bar")
    add(
        "--list",
        nargs="?",
        const="text",
        choices=["text", "markdown"],
        help="print every variant with its rule and source, or the tables of docs/metrics.md, and stop",
    )
    return result


def main(argv: list[str] | None = None) -> int:
    """Run the command and return the exit status; ``argv=None`` means the arguments of the process."""
    arguments = parser().parse_args(argv)
    if arguments.list:
        sys.stdout.write(definitions_text() if arguments.list == "text" else definitions_markdown())
        return 0
    if arguments.predictions is None or arguments.ground_truth is None:
        parser().error("expected PREDICTIONS and GROUND_TRUTH")
    for flag, value in (("--workers", arguments.workers), ("--worst", arguments.worst)):
        if value < 1:
            parser().error(f"{flag}: expected at least 1, found {value}")
    try:
        common = {
            "metrics": arguments.metrics,
            "variants": "all" if arguments.variants == ["all"] else arguments.variants,
            "rank_by": arguments.rank_by,
            "missing": arguments.missing,
        }
        if arguments.ray:
            outcome = _score_on_ray(arguments, common)
        else:
            outcome = score_files(
                Path(arguments.predictions),
                arguments.ground_truth,
                levels=arguments.levels,
                workers=arguments.workers,
                progress=not arguments.quiet,
                **common,
            )
        for kind, line in outcome.problems:
            sys.stderr.write(f"{'note' if kind in NOTES else 'problem'}: {kind}: {line}\n")
        sys.stdout.write(_summary(arguments, outcome))
        _write_results(arguments, outcome)
        if arguments.show is not None:
            show_worst(outcome, arguments.show, arguments.worst, arguments.images)
    except (ValueError, OSError) as error:
        return _fail(" ".join(str(error).split()), 2)
    if not outcome.scored:
        return _fail("no image could be scored", 1)
    missing = outcome.counts().get(MISSING, 0)
    if missing and arguments.missing == "auto":
        treated = "left out" if outcome.kind == "maps" else "scored as empty"
        choices = "--missing skip or --missing empty accepts that"
        return _fail(
            f"{missing} of {outcome.images} images have no prediction and were {treated} ({choices})", 1
        )
    return 1 if arguments.strict and outcome.faulty() else 0


def _score_on_ray(arguments: argparse.Namespace, common: dict[str, Any]) -> Outcome:
    options = ("levels", "per_image", "show")
    given = [f"--{name.replace('_', '-')}" for name in options if getattr(arguments, name)]
    if given:
        raise ValueError(f"--ray: expected none of --levels, --per-image, --show; found {', '.join(given)}")
    from ..scale.cluster import joined_cluster
    from ..scale.evaluation import score_parquet

    with joined_cluster(arguments.ray) as resources:
        return score_parquet(arguments.predictions, arguments.ground_truth, resources, **common)


def _fail(line: str, status: int) -> int:
    sys.stderr.write(f"error: {line}\n")
    return status


def _summary(arguments: argparse.Namespace, outcome: Outcome) -> str:
    how = f", ranked by {outcome.rank_by}" if outcome.rank_by else ""
    lines = [
        f"predictions   {arguments.predictions} ({outcome.kind}{how})",
        f"ground truth  {arguments.ground_truth}",
        f"images        {outcome.scored} of {outcome.images} scored",
    ]
    lines += [f"{'':14}{kind}: {count}" for kind, count in outcome.counts().items()]
    if outcome.scorer.variants:
        lines += ["", table(outcome.scorer.result())]
    if outcome.sod is not None and outcome.sod.states:
        title = f"salient object detection, {len(outcome.sod.states)} images"
        lines += ["", f"{title} (pysodmetrics and InSPyReNet's measures)"]
        lines += [f"  {name:12} {value:.6f}" for name, value in outcome.sod.result().items()]
    return "\n".join(lines) + "\n"


def _write_results(arguments: argparse.Namespace, outcome: Outcome) -> None:
    if arguments.per_image is not None:
        write_per_image(arguments.per_image, outcome.rows)
    content = {
        "predictions": str(arguments.predictions),
        "ground_truth": str(arguments.ground_truth),
        "kind": outcome.kind,
        "rank_by": outcome.rank_by,
        "images": outcome.images,
        "scored": outcome.scored,
        "problems": outcome.counts(),
        "problem_lines": [f"{kind}: {line}" for kind, line in outcome.problems],
        "variants": outcome.scorer.result(),
        "sod": None if outcome.sod is None else outcome.sod.result(),
    }
    if arguments.json is not None:
        write_nullable_json(arguments.json, content)


if __name__ == "__main__":
    sys.exit(main())
