"""Look after datasets: ``python -m sor_ppa.data check|show|stats|list``.

Examples:
    python -m sor_ppa.data check assr_train
    python -m sor_ppa.data show synthetic_sor_test --count 12 --output pictures
    python -m sor_ppa.data stats irsr_train --output statistics
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from detectron2.data import DatasetCatalog

from .builtin import DatasetSource, register_all, source_of
from .check import check_dataset
from .faults import DatasetError, Fault
from .record import ImageRecord
from .rle import segmentation_mask


def get_parser() -> argparse.ArgumentParser:
    """The command line."""
    common = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    common.add_argument("--root", default="", help="folder of the datasets (default: DETECTRON2_DATASETS)")
    parser = argparse.ArgumentParser(
        prog="python -m sor_ppa.data",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", parents=[common], help="name the datasets and say which are there")

    check = commands.add_parser("check", parents=[common], help="validate; a line for each fault")
    check.add_argument("name", help="registered name, such as assr_train")
    check.add_argument("--fast", action="store_true", help="do not decode the images")
    check.add_argument("--limit", type=int, default=50, help="lines for each kind of fault (default: 50)")

    show = commands.add_parser("show", parents=[common], help="write pictures with their ranks")
    show.add_argument("name")
    show.add_argument("--output", type=Path, required=True, help="folder for the pictures")
    show.add_argument("--count", type=int, default=16)
    show.add_argument("--seed", type=int, default=None, help="choose at random (default: the first ones)")
    show.add_argument("--rankless", action="store_true", help="objects without a rank too")

    stats = commands.add_parser("stats", parents=[common], help="count, measure and plot")
    stats.add_argument("name")
    stats.add_argument("--output", type=Path, default=None, help="folder for a PNG and a JSON file")
    return parser


def _list() -> int:
    for name, source in sorted(DatasetCatalog.data.items()):
        if isinstance(source, DatasetSource):
            state = "there" if source.path.is_dir() else "absent"
            sys.stdout.write(f"{name:24s} {source.kind:8s} {state:7s} {source.path}\n")
    return 0


def _check(source: DatasetSource, decode: bool, limit: int) -> int:
    records, faults = check_dataset(source, decode=decode)
    groups: dict[tuple[bool, str], list[Fault]] = defaultdict(list)
    for fault in faults:
        groups[not fault.serious, fault.kind].append(fault)
    for (unusual, kind), group in sorted(groups.items()):
        word = "note" if unusual else "fault"
        for fault in group[:limit]:
            sys.stdout.write(f"{word}: {kind}: {fault}\n")
        if len(group) > limit:
            sys.stdout.write(f"{word}: {kind}: and {len(group) - limit} more\n")
    ranked = sum(item.rank >= 0 for record in records for item in record.objects)
    total = sum(len(record.objects) for record in records)
    sys.stdout.write(
        f"\n{source.name}: {len(records)} usable images, {total} objects, {ranked} of them ranked\n"
    )
    for (unusual, kind), group in sorted(groups.items()):
        sys.stdout.write(f"  {len(group):6d}  {kind}{' (note)' if unusual else ''}\n")
    serious = Counter(fault.serious for fault in faults)[True]
    sys.stdout.write(f"{serious} faults, {len(faults) - serious} notes\n")
    return 1 if serious else 0


def _picture(record: ImageRecord) -> np.ndarray:
    """(H, W, 3) RGB picture with its ranked objects."""
    from detectron2.data.detection_utils import read_image

    from ..visualization import draw_ranked

    image = read_image(record.file_name, format="RGB")
    masks = [segmentation_mask(item.segmentation, *image.shape[:2]) for item in record.objects]
    top = max((item.rank for item in record.objects), default=0)
    ranks = [0 if item.rank < 0 else top - item.rank + 1 for item in record.objects]
    return draw_ranked(
        np.ascontiguousarray(image), np.array(masks, bool).reshape(-1, *image.shape[:2]), ranks
    )


def _show(source: DatasetSource, output: Path, count: int, seed: int | None, rankless: bool) -> int:
    records = source.read(keep_rankless=rankless)
    if seed is not None:
        records = [records[i] for i in np.random.default_rng(seed).permutation(len(records))]
    output.mkdir(parents=True, exist_ok=True)
    taken: Counter[str] = Counter()
    for record in records[:count]:
        stem = Path(record.file_name).stem
        path = output / (f"{stem}-{taken[stem]}.png" if taken[stem] else f"{stem}.png")
        taken[stem] += 1
        done, data = cv2.imencode(".png", _picture(record)[..., ::-1])
        if not done:
            raise DatasetError(f"{path}: picture could not be encoded")
        path.write_bytes(data.tobytes())
    sys.stdout.write(f"{output}: {min(count, len(records))} pictures of {source.name}\n")
    return 0


def _stats(source: DatasetSource, output: Path | None) -> int:
    from .stats import measure, plot

    found = measure(source.read(keep_rankless=True))
    summary = found.summary()
    rows = summary.pop("by_rank")
    counts = summary.pop("images_by_ranked_objects")
    for key, value in summary.items():
        sys.stdout.write(f"{key.replace('_', ' '):20s} {value}\n")
    sys.stdout.write("\nranked objects  images\n")
    for number, count in counts.items():
        sys.stdout.write(f"{number:>14s}  {count:6d}\n")
    sys.stdout.write("\n  rank  objects  mean area %  median area %  distance from centre\n")
    for row in rows:
        sys.stdout.write(
            f"{row['rank']:6d}  {row['objects']:7d}  {100 * row['area_mean']:11.2f}"
            f"  {100 * row['area_median']:13.2f}  {row['distance_from_centre_mean']:20.3f}\n"
        )
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        target = output / f"{source.name}.png"
        plot(found, source.name, target)
        (output / f"{source.name}.json").write_text(json.dumps(found.summary(), indent=1))
        sys.stdout.write(f"\n{target}\n")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status (1: faults, 2: the dataset cannot be used)."""
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
        return _stats(source, args.output)
    except (DatasetError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
