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

from .builtin import DatasetSource, register_all, source_of
from .check import check_dataset
from .export import WRITERS, write_png, write_records
from .images import decoded_image
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

    add = commands.add_parser(
        "check", parents=[named], help="validate a dataset; one line per issue"
    ).add_argument
    add("--fast", action="store_true", help="do not decode the images")
    add("--limit", type=int, default=50, help="lines for each kind of issue (default: 50)")

    what = "write images with masks and ranks drawn on them"
    add = commands.add_parser("show", parents=[named], help=what).add_argument
    add("--output", type=Path, required=True, help="folder for the images")
    add("--count", type=int, default=16, help="number of images (default: 16)")
    add("--seed", type=int, default=None, help="choose at random (default: the first ones)")
    add("--rankless", action="store_true", help="draw objects without a rank, too")
    what = "draw training samples of the model of --config-file, for ranking, detection and saliency sets"
    add("--augmented", action="store_true", help=what)
    add("--config-file", default="", metavar="FILE", help="model whose augmentations are drawn")
    add("--opts", nargs="+", default=[], metavar="KEY VALUE", help="configuration keys")

    add = commands.add_parser("stats", parents=[named], help="count, measure and plot").add_argument
    add("--output", type=Path, default=None, help="folder for a PNG and a JSON file")

    add = commands.add_parser(
        "convert", parents=[named], help="write a dataset in another format"
    ).add_argument
    add("--to", choices=list(WRITERS), default="coco", help="format (default: coco)")
    add("--output", required=True, help="folder of the dataset to write")
    add("--split", default=None, help="split to write (default: as read)")
    how = ("symlink", "hardlink", "copy", "none")
    add("--images", choices=how, default="symlink", help="how to place images (default: symlink)")
    add("--ranked-only", action="store_true", help="leave out crowds and objects without a rank")
    return parser


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _list() -> int:
    for name, source in sorted(DatasetCatalog.data.items()):
        if isinstance(source, DatasetSource):
            state = "complete"
            if source.missing:
                state = "folder exists" if source.path.is_dir() else "missing"
            _say(f"{name:24s} {source.kind:8s} {state:13s} {source.path}")
    return 0


def _check(source: DatasetSource, args: argparse.Namespace) -> int:
    records, issues = check_dataset(source, decode=not args.fast)
    groups: dict[tuple[str, str], list[Issue]] = defaultdict(list)
    for issue in issues:
        groups["fault" if issue.serious else "note", issue.kind].append(issue)
    for (word, kind), group in sorted(groups.items()):
        for issue in group[: args.limit]:
            _say(f"{word}: {kind}: {issue}")
        if len(group) > args.limit:
            _say(f"{word}: {kind}: and {len(group) - args.limit} more")
    ranks = [item.rank for record in records for item in record.objects]
    ranked = sum(rank >= 0 for rank in ranks)
    _say(f"\n{source.name}: {len(records)} usable images, {len(ranks)} objects, {ranked} of them ranked")
    for (word, kind), group in sorted(groups.items()):
        _say(f"  {len(group):6d}  {kind}{' (note)' if word == 'note' else ''}")
    faults = sum(issue.serious for issue in issues)
    _say(f"{faults} faults, {len(issues) - faults} notes")
    return 1 if faults else 0


def _picture(record: ImageRecord) -> np.ndarray:
    """Return the image (H, W, 3), BGR, with its ranked objects drawn on it."""
    from ..visualization import draw_ranked

    image = np.ascontiguousarray(decoded_image(record.file_name)[..., ::-1])
    masks = stacked_masks([item.segmentation for item in record.objects], *image.shape[:2])
    top = max((item.rank for item in record.objects), default=0)
    ranks = [0 if item.rank < 0 else top - item.rank + 1 for item in record.objects]
    return draw_ranked(image, masks, ranks)[..., ::-1]


def _show(source: DatasetSource, args: argparse.Namespace) -> int:
    records = source.read(keep_rankless=args.rankless)
    if args.seed is not None:
        records = [records[i] for i in np.random.default_rng(args.seed).permutation(len(records))]
    taken: Counter[str] = Counter()
    for record in records[: args.count]:
        stem = Path(record.file_name).stem
        name = f"{stem}-{taken[stem]}" if taken[stem] else stem
        write_png(args.output / f"{name}.png", _picture(record))
        taken[stem] += 1
    _say(f"{args.output}: {min(args.count, len(records))} pictures of {source.name}")
    return 0


def _show_augmented(args: argparse.Namespace) -> int:
    from ..config import load_config
    from ..training_pictures import write_training_pictures

    root = ["DATASETS.ROOT", args.root] if args.root else []
    cfg = load_config(args.config_file, [*root, *args.opts])
    count = write_training_pictures(cfg, args.name, args.output, args.count, args.seed)
    _say(f"{args.output}: {count} pictures of {args.name}")
    return 0


def _stats(source: DatasetSource, args: argparse.Namespace) -> int:
    from .stats import measure, plot

    found = measure(source.read(keep_rankless=True))
    summary = found.summary()
    rows, counts = summary.pop("by_rank"), summary.pop("images_by_ranked_objects")
    for key, value in summary.items():
        _say(f"{key.replace('_', ' '):20s} {value}")
    _say("\nranked objects  images")
    for number, count in counts.items():
        _say(f"{number:>14s}  {count:6d}")
    _say("\n  rank  objects  mean area %  median area %  distance from center")
    for row in rows:
        _say(
            f"{row['rank']:6d}  {row['objects']:7d}  {100 * row['area_mean']:11.2f}"
            f"  {100 * row['area_median']:13.2f}  {row['distance_from_center_mean']:20.3f}"
        )
    if args.output is not None:
        args.output.mkdir(parents=True, exist_ok=True)
        plot(found, source.name, args.output / f"{source.name}.png")
        (args.output / f"{source.name}.json").write_text(json.dumps(found.summary(), indent=1))
        _say(f"\n{args.output / source.name}.png")
    return 0


def _convert(source: DatasetSource, args: argparse.Namespace) -> int:
    records = source.read(keep_rankless=not args.ranked_only)
    split = args.split or source.split
    itself = os.path.realpath(args.output) == os.path.realpath(source.path)
    if itself and (args.to, split) == (source.kind, source.split):
        found = f"{args.output}, which is {args.name} itself"
        raise DatasetError(f"--output: expected another folder, found {found}")
    write_records(records, args.output, args.to, split, images=args.images, ranked_only=args.ranked_only)
    objects = sum(len(record.objects) for record in records)
    _say(f"{args.output}: {len(records)} images, {objects} objects as {args.to} ({split})")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status (1: the check found faults, 2: the dataset cannot be used)."""
    args = get_parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    register_all(args.root)
    run = {"check": _check, "show": _show, "stats": _stats, "convert": _convert}
    try:
        if args.command == "show" and args.augmented:
            return _show_augmented(args)
        return _list() if args.command == "list" else run[args.command](source_of(args.name), args)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
