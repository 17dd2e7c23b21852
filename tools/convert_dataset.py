#!/usr/bin/env python
"""Convert a ranking dataset between formats.

Any format that can be read becomes COCO with ranks; from there, or directly, it can become any other
format that holds it. What a format cannot hold is refused with a line that says what.

Examples:
    python tools/convert_dataset.py assr_train --to coco --output datasets/my_assr
    python tools/convert_dataset.py my_assr_train --to irsr --output datasets/IRSR2 --split train
"""

from __future__ import annotations

import argparse
import os
import sys

from sor_ppa.data import DatasetError, register_all
from sor_ppa.data.builtin import source_of
from sor_ppa.data.export import WRITERS, write_records


def get_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("name", help="registered name of the dataset to read, such as irsr_train")
    parser.add_argument("--to", choices=list(WRITERS), default="coco", help="format (default: coco)")
    parser.add_argument("--output", required=True, help="folder of the dataset to write")
    parser.add_argument("--split", default=None, help="its split (default: as read)")
    parser.add_argument("--root", default="", help="folder of the datasets (default: DETECTRON2_DATASETS)")
    parser.add_argument(
        "--images",
        choices=("symlink", "hardlink", "copy", "none"),
        default="symlink",
        help="how the images get there (default: symlink)",
    )
    parser.add_argument(
        "--ranked-only", action="store_true", help="leave out crowds and objects without a rank"
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = get_parser().parse_args(arguments)
    register_all(args.root)
    try:
        source = source_of(args.name)
        records = source.read(keep_rankless=not args.ranked_only)
        split = args.split or source.split
        itself = os.path.realpath(args.output) == os.path.realpath(source.path)
        if itself and (args.to, split) == (source.kind, source.split):
            raise DatasetError(
                f"--output: found {args.output}, which is {args.name} itself, expected another folder"
            )
        write_records(records, args.output, args.to, split, images=args.images, ranked_only=args.ranked_only)
    except (DatasetError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    objects = sum(len(record.objects) for record in records)
    sys.stdout.write(f"{args.output}: {len(records)} images, {objects} objects as {args.to} ({split})\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
