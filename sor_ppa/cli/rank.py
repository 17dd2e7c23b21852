"""``sor-ppa rank``: rank the salient objects of photos."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from functools import partial
from pathlib import Path

from ..export.runtime import is_graph
from ..folder_ranking import REPORT, FileOutput, Output, rank_files, watch_folder
from ..table_output import SHARD_IMAGES, TableOutput
from ..visualization import EVERYTHING, RankStyle
from ..visualization.files import IMAGE_SUFFIXES, expand_inputs
from ._model import add_model_arguments, chosen_model, load_predictor, model_settings

_EPILOG = """\
examples:
  sor-ppa rank holiday.jpg
  sor-ppa rank photos/ 'more/*.png' --output ranked --model ppa-v39
  sor-ppa rank photos/ --format coco                one JSON file for the whole folder
  sor-ppa rank --watch incoming/                    rank what arrives
  sor-ppa rank s3://photos/ --output s3://ranked --model ppa-v39 --ray auto
                                                    millions of photos on a Ray cluster: docs/scale.md

For each photo NAME: NAME_ranked.jpg (outlines and badges, 1 = most salient), NAME_saliency.png (gray map) and
NAME.json.
Photos that are done, with the same model and options, are skipped. Photos that cannot be read are listed in
unreadable.json.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the sub-command."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "input", nargs="*", metavar="INPUT", help="photos, folders, globs or .txt lists, in any mix"
    )
    parser.add_argument("--output", default="ranked", metavar="DIR", help="default: ranked")
    parser.add_argument(
        "--format",
        choices=("files", "coco", "parquet"),
        help="pictures and JSON for each photo (default), or one file for all; with --ray: parquet or coco",
    )
    parser.add_argument("--overwrite", action="store_true", help="also rank photos that are done")
    parser.add_argument("--watch", type=Path, metavar="DIR", help="rank the photos that arrive in a folder")
    _add_ray_arguments(parser)
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


def _add_ray_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("many machines (docs/scale.md)")
    group.add_argument(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="rank on a Ray cluster: auto or HOST:PORT; without an address, on the cores of this machine. "
        "INPUT may also be URLs (s3://...), tar files and Parquet files with a column bytes or path",
    )
    group.add_argument("--actors", type=int, metavar="N", help="models (default: a GPU or two CPUs each)")
    group.add_argument(
        "--gpus-per-actor", type=float, metavar="X", help="default: 1 if there are GPUs, else 0"
    )
    group.add_argument(
        "--shard-size", type=int, default=500, metavar="N", help="photos in a file of results (default: 500)"
    )


def run(options: argparse.Namespace) -> int:
    """Run the sub-command and return its exit status."""
    if bool(options.input) == bool(options.watch):
        hint = f", found none before --ray {options.ray}" if options.ray else ""
        raise ValueError(f"expected photos to rank, or --watch DIR{hint}")
    if options.ray:
        return _run_on_ray(options)
    folder = Path(options.output)
    files, faults = expand_inputs(options.input)
    for fault in faults:
        sys.stderr.write(f"{fault}\n")
    if not files and not options.watch:
        return 2
    model = chosen_model(options)
    settings = model_settings(options, model)
    output: Output
    if options.format in (None, "files"):
        style = RankStyle(legend=options.legend, **(EVERYTHING if options.all_objects else {}))
        names = ("image_format", "masks", "scores", "legend", "all_objects")
        settings |= {name: getattr(options, name) for name in names}
        look = options.image_format, options.masks, options.scores, style
        output = FileOutput(folder, model, *look, settings)
    else:
        output = TableOutput(folder, options.format, model, settings)
    predictor = load_predictor(options, model)
    if options.watch:
        if not options.watch.is_dir():
            raise ValueError(f"--watch: expected a folder, found {options.watch}")
        logging.getLogger("sor_ppa.folder_ranking").setLevel(logging.INFO)
        sys.stderr.write(f"watching {options.watch}; Ctrl-C ends\n")
        watch_folder(predictor, options.watch, output, suffixes=IMAGE_SUFFIXES)
        return 0
    summary = rank_files(predictor, files, output, overwrite=options.overwrite)
    sys.stdout.write(f"{summary}; results in {folder}\n")
    if summary.unreadable:
        sys.stderr.write(f"unreadable photos: {folder / REPORT}\n")
    return 1 if faults or summary.unreadable else 0


def _run_on_ray(options: argparse.Namespace) -> int:
    if options.watch or options.format == "files":
        found = "--watch" if options.watch else "files"
        raise ValueError(f"--ray: expected --format parquet or coco and no --watch, found {found}")
    if not 1 <= options.shard_size <= SHARD_IMAGES:
        raise ValueError(f"--shard-size: expected 1 to {SHARD_IMAGES}, found {options.shard_size}")
    from ..scale.cluster import joined_cluster
    from ..scale.ranking import UNREADABLE, rank_on_ray
    from ..scale.sources import find_pieces
    from ..scale.storage import Folder

    pieces, faults = find_pieces(options.input, options.shard_size)
    for fault in faults:
        sys.stderr.write(f"{fault}\n")
    if not pieces:
        if not faults:  # tables without rows
            sys.stderr.write(f"{' '.join(options.input)}: no photos\n")
        return 2
    model = chosen_model(options)
    # actors have another working folder
    source = os.path.abspath(model) if os.path.isfile(model) or is_graph(model) else model
    if options.config_file and os.path.isfile(options.config_file):
        options.config_file = os.path.abspath(options.config_file)
    folder = Folder(options.output)
    with joined_cluster(options.ray) as resources:
        summary = rank_on_ray(
            partial(load_predictor, options, source),
            pieces,
            folder,
            options.format or "parquet",
            resources,
            model=model,
            settings=model_settings(options, model),
            batch_size=4 * options.batch_size,
            work_folder=os.getcwd(),
            actors=options.actors,
            gpus_per_actor=options.gpus_per_actor,
            overwrite=options.overwrite,
        )
    sys.stdout.write(f"{summary}; results in {options.output}\n")
    if summary.quarantined:
        sys.stderr.write(f"unreadable photos: {folder.path(UNREADABLE)}\n")
    return 1 if faults or summary.quarantined else 0
