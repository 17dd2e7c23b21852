"""``sor-ppa rank``: rank the salient objects of photos."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from ..folder_ranking import REPORT, FileOutput, Output, rank_files, watch_folder
from ..table_output import TableOutput
from ..visualization import EVERYTHING, RankStyle
from ..visualization.files import IMAGE_SUFFIXES, expand_inputs
from ._model import add_model_arguments, chosen_model, load_predictor

_EPILOG = """\
examples:
  sor-ppa rank holiday.jpg
  sor-ppa rank photos/ 'more/*.png' --output ranked --model ppa-v39
  sor-ppa rank photos/ --format coco                one JSON file for the whole folder
  sor-ppa rank --watch incoming/                    rank what arrives

For each photo NAME: NAME_ranked.jpg (outlines and badges, 1 = most salient), NAME_saliency.png (gray map) and
NAME.json.
Photos that are done are skipped. Photos that cannot be read are listed in unreadable.json.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the sub-command."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "input", nargs="*", metavar="INPUT", help="photos, folders, globs or .txt lists, in any mix"
    )
    parser.add_argument("--output", type=Path, default=Path("ranked"), metavar="DIR", help="default: ranked")
    parser.add_argument(
        "--format",
        choices=("files", "coco", "parquet"),
        default="files",
        help="pictures and JSON for each photo (default), or one file for all",
    )
    parser.add_argument("--overwrite", action="store_true", help="also rank photos that are done")
    parser.add_argument("--watch", type=Path, metavar="DIR", help="rank the photos that arrive in a folder")
    look = parser.add_argument_group("pictures and JSON")
    look.add_argument("--image-format", choices=("jpg", "png"), default="jpg", help="of the drawings")
    look.add_argument("--masks", choices=("rle", "polygons"), default="rle", help="masks in the JSON files")
    look.add_argument("--scores", action="store_true", help="draw confidences below the badges")
    look.add_argument("--legend", action="store_true", help="draw a legend of the colors")
    look.add_argument(
        "--all-objects",
        action="store_true",
        help="draw every object; default: the ten most salient of the confident ones, without duplicates",
    )
    add_model_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Run the sub-command and return its exit status."""
    if bool(options.input) == bool(options.watch):
        raise ValueError("expected photos to rank, or --watch DIR")
    files, faults = expand_inputs(options.input)
    for fault in faults:
        sys.stderr.write(f"{fault}\n")
    if not files and not options.watch:
        return 2
    model = chosen_model(options)
    output: Output
    if options.format == "files":
        style = RankStyle(legend=options.legend, **(EVERYTHING if options.all_objects else {}))
        output = FileOutput(options.output, model, options.image_format, options.masks, options.scores, style)
    else:
        output = TableOutput(options.output, options.format, model)
    predictor = load_predictor(options, model)
    if options.watch:
        if not options.watch.is_dir():
            raise ValueError(f"--watch: expected a folder, found {options.watch}")
        logging.getLogger("sor_ppa.folder_ranking").setLevel(logging.INFO)
        sys.stderr.write(f"watching {options.watch}; Ctrl-C ends\n")
        watch_folder(predictor, options.watch, output, suffixes=IMAGE_SUFFIXES)
        return 0
    summary = rank_files(predictor, files, output, overwrite=options.overwrite)
    sys.stdout.write(f"{summary}; results in {options.output}\n")
    if summary.unreadable:
        sys.stderr.write(f"unreadable photos: {options.output / REPORT}\n")
    return 1 if faults or summary.unreadable else 0
