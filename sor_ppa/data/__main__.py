"""Work with datasets: ``python -m sor_ppa.data list|check|show|stats|convert``.

Examples:
    python -m sor_ppa.data check assr_train
    python -m sor_ppa.data show synthetic_sor_test --count 12 --output pictures
    python -m sor_ppa.data stats irsr_train --output statistics
    python -m sor_ppa.data convert assr_train --to coco --output datasets/my_assr
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from detectron2.data import DatasetCatalog
from detectron2.data.detection_utils import read_image

from .builtin import DatasetSource, register_all, source_of
from .check import check_dataset
from .export import WRITERS, write_png, write_records
from .issues import DatasetError, Issue
from .masks import stacked_masks
from .record import ImageRecord


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    common = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    common.add_argument("--root", default="", help="folder of the datasets (default: DETECTRON2_DATASETS)")
    named = argparse.ArgumentParser(add_help=False, allow_abbrev=False, parents=[common])
    named.add_argument("name", help="registered name, such as assr_train")
    parser = argparse.ArgumentParser(
        prog="python -m sor_ppa.data",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", parents=[common], help="list the datasets and whether their files exist")

    check = commands.add_parser("check", parents=[named], help="validate a dataset; one line per issue")
    check.add_argument("--fast", action="store_true", help="do not decode the images")
    check.add_argument("--limit", type=int, default=50, help="lines for each kind of issue (default: 50)")

    show = commands.add_parser(
        "show", parents=[named], help="write images with masks and ranks drawn on them"
    )
    show.add_argument("--output", type=Path, required=True, help="folder for the images")
    show.add_argument("--count", type=int, default=16, help="number of images (default: 16)")
    show.add_argument("--seed", type=int, default=None, help="choose at random (default: the first ones)")
    show.add_argument("--rankless", action="store_true", help="draw objects without a rank, too")

    stats = commands.add_parser("stats", parents=[named], help="count, measure and plot")
    stats.add_argument("--output", type=Path, default=None, help="folder for a PNG and a JSON file")

    convert = commands.add_parser("convert", parents=[named], help="write a dataset in another format")
    convert.add_argument("--to", choices=list(WRITERS), default="coco", help="format (default: coco)")
    convert.add_argument("--output", required=True, help="folder of the dataset to write")
    convert.add_argument("--split", default=None, help="split to write (default: as read)")
    how = ("symlink", "hardlink", "copy", "none")
    convert.add_argument(
        "--images", choices=how, default="symlink", help="how to place images (default: symlink)"
    )
    convert.add_argument(
        "--ranked-only", action="store_true", help="leave out crowds and objects without a rank"
    )
    return parser


def _list() -> int:
    for name, source in sorted(DatasetCatalog.data.items()):
        if isinstance(source, DatasetSource):
            state = "complete"
            if source.missing:
                state = "folder exists" if source.path.is_dir() else "missing"
            sys.stdout.write(f"{name:24s} {source.kind:8s} {state:13s} {source.path}\n")
    return 0


def _check(source: DatasetSource, decode: bool, limit: int) -> int:
    records, issues = check_dataset(source, decode=decode)
    groups: dict[tuple[str, str], list[Issue]] = defaultdict(list)
    for issue in issues:
        groups["fault" if issue.serious else "note", issue.kind].append(issue)
    for (word, kind), group in sorted(groups.items()):
        for issue in group[:limit]:
            sys.stdout.write(f"{word}: {kind}: {issue}\n")
        if len(group) > limit:
            sys.stdout.write(f"{word}: {kind}: and {len(group) - limit} more\n")
    objects = [item for record in records for item in record.objects]
    ranked = sum(item.rank >= 0 for item in objects)
    sys.stdout.write(
        f"\n{source.name}: {len(records)} usable images, {len(objects)} objects, {ranked} of them ranked\n"
    )
    for (word, kind), group in sorted(groups.items()):
        sys.stdout.write(f"  {len(group):6d}  {kind}{' (note)' if word == 'note' else ''}\n")
    faults = sum(issue.serious for issue in issues)
    sys.stdout.write(f"{faults} faults, {len(issues) - faults} notes\n")
    return 1 if faults else 0


def _picture(record: ImageRecord) -> np.ndarray:
    """Return the image (H, W, 3), RGB, with its ranked objects drawn on it."""
    from ..visualization import draw_ranked

    image = np.ascontiguousarray(read_image(record.file_name, format="RGB"))
    masks = stacked_masks([item.segmentation for item in record.objects], *image.shape[:2])
    top = max((item.rank for item in record.objects), default=0)
    return draw_ranked(image, masks, [0 if item.rank < 0 else top - item.rank + 1 for item in record.objects])


def _show(source: DatasetSource, output: Path, count: int, seed: int | None, rankless: bool) -> int:
    records = source.read(keep_rankless=rankless)
    if seed is not None:
        records = [records[i] for i in np.random.default_rng(seed).permutation(len(records))]
    taken: Counter[str] = Counter()
    for record in records[:count]:
        stem = Path(record.file_name).stem
        write_png(
            output / f"{stem}{f'-{taken[stem]}' if taken[stem] else ''}.png", _picture(record)[..., ::-1]
        )
        taken[stem] += 1
    sys.stdout.write(f"{output}: {min(count, len(records))} pictures of {source.name}\n")
    return 0


def _stats(source: DatasetSource, output: Path | None) -> int:
    from .stats import measure, plot

    found = measure(source.read(keep_rankless=True))
    summary = found.summary()
    rows, counts = summary.pop("by_rank"), summary.pop("images_by_ranked_objects")
    for key, value in summary.items():
        sys.stdout.write(f"{key.replace('_', ' '):20s} {value}\n")
    sys.stdout.write("\nranked objects  images\n")
    for number, count in counts.items():
        sys.stdout.write(f"{number:>14s}  {count:6d}\n")
    sys.stdout.write("\n  rank  objects  mean area %  median area %  distance from center\n")
    for row in rows:
        sys.stdout.write(
            f"{row['rank']:6d}  {row['objects']:7d}  {100 * row['area_mean']:11.2f}"
            f"  {100 * row['area_median']:13.2f}  {row['distance_from_center_mean']:20.3f}\n"
        )
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        plot(found, source.name, output / f"{source.name}.png")
        (output / f"{source.name}.json").write_text(json.dumps(found.summary(), indent=1))
        sys.stdout.write(f"\n{output / source.name}.png\n")
    return 0


def _convert(source: DatasetSource, args: argparse.Namespace) -> int:
    records = source.read(keep_rankless=not args.ranked_only)
    split = args.split or source.split
    itself = os.path.realpath(args.output) == os.path.realpath(source.path)
    if itself and (args.to, split) == (source.kind, source.split):
        raise DatasetError(
            f"--output: expected another folder, found {args.output}, which is {args.name} itself"
        )
    write_records(records, args.output, args.to, split, images=args.images, ranked_only=args.ranked_only)
    objects = sum(len(record.objects) for record in records)
    sys.stdout.write(f"{args.output}: {len(records)} images, {objects} objects as {args.to} ({split})\n")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status (1: the check found faults, 2: the dataset cannot be used)."""
    args = get_parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    register_all(args.root)
    try:
        if args.command == "list":
            return _list()
        source = source_of(args.name)
        if args.command == "check":
            return _check(source, not args.fast, args.limit)
        if args.command == "show":
            return _show(source, args.output, args.count, args.seed, args.rankless)
        if args.command == "stats":
            return _stats(source, args.output)
        return _convert(source, args)
    except (DatasetError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
