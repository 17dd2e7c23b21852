#!/usr/bin/env python
"""Rank the salient objects of pictures; write drawings, saliency maps and JSON files into a folder.

With --task saliency: write saliency maps, cut-outs or pictures with another background, also of videos.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sor_ppa.folder_ranking import Summary
    from sor_ppa.inspyrenet.run import SaliencySummary

EPILOG = """\
Config options follow the arguments as KEY VALUE pairs, with or without --opts:
  demo.py --config-file configs/sor/ppa.yaml --input photos/ --output out MODEL.WEIGHTS model.pth
"""
CONFIGS = {
    "ranking": "configs/sor/ppa.yaml",
    "saliency": "configs/inspyrenet/inspyrenet_swin_b.yaml",
}
CONFIG_KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)*")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; ``opts`` holds the config options wherever they stand."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", choices=("ranking", "saliency"), default="ranking", help="default: ranking")
    configs = ", ".join(CONFIGS.values())
    parser.add_argument("--config-file", metavar="FILE", help=f"model config (default: {configs})")
    parser.add_argument("--input", nargs="+", metavar="PATH", help="pictures, folders, globs or .txt lists")
    parser.add_argument("--output", metavar="DIR", help="folder for the results")
    threshold = "ignore detections below this score (default: the thresholds of the config)"
    parser.add_argument("--confidence-threshold", type=float, metavar="P", help=threshold)
    parser.add_argument(
        "--batch-size", type=int, default=4, metavar="N", help="pictures at once (default: 4)"
    )
    what = "file format of the pictures (default: jpg; for saliency, that of the photo)"
    parser.add_argument("--format", choices=("jpg", "png", "webp"), help=what)
    parser.add_argument("--masks", choices=("rle", "polygons"), default="rle", help="masks in the JSON files")
    parser.add_argument("--scores", action="store_true", help="write confidences below the badges")
    sheet = "also write a sheet of the model's foreground maps (Salience-DETR)"
    parser.add_argument("--salience-maps", action="store_true", help=sheet)
    parser.add_argument("--legend", action="store_true", help="draw a legend of the ranks' colors")
    everything = "draw every object; default: the ten most salient of the confident ones, without duplicates"
    parser.add_argument("--all-objects", action="store_true", help=everything)
    group = parser.add_argument_group("task saliency")
    kinds = "outputs: map, rgba, green, white, blur, overlay, a color r,g,b, a background picture"
    group.add_argument("--type", nargs="+", default=["map"], metavar="TYPE", help=kinds)
    group.add_argument("--threshold", type=float, metavar="P", help="hard masks instead of soft edges")
    group.add_argument("--reverse", action="store_true", help="keep the background instead")
    modes = ("quality", "speed")
    group.add_argument("--mode", choices=modes, default="quality", help="as configured, or one small pass")
    group.add_argument("--resize", choices=("static", "dynamic"), help="MODEL.INSPYRENET.RESIZE")
    parser.add_argument("--webcam", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--video-input", help=argparse.SUPPRESS)
    parser.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], metavar="KEY VALUE", dest="after_opts"
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config options")
    args = parser.parse_args(argv)

    args.config_file = args.config_file or CONFIGS[args.task]
    if args.webcam or args.video_input:
        parser.error("video is not supported here: use `sor-ppa video`")
    args.input, trailing = _split(args.input or [])
    args.type, more = _split(args.type)
    args.opts = trailing + more + args.opts + args.after_opts
    if args.resize:
        args.opts += ["MODEL.INSPYRENET.RESIZE", args.resize]
    if not args.input:
        parser.error("--input: no picture, folder, glob or list given")
    if not args.output:
        parser.error("--output: no folder given")
    if len(args.opts) % 2:
        parser.error(f"config options: expected KEY VALUE pairs, found {' '.join(args.opts)}")
    if args.batch_size < 1:
        parser.error(f"--batch-size: expected 1 or more, found {args.batch_size}")
    if args.confidence_threshold is not None and not 0 <= args.confidence_threshold <= 1:
        parser.error(f"--confidence-threshold: expected 0 to 1, found {args.confidence_threshold}")
    return args


def _split(values: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split the values of ``--input`` or ``--type`` from the config options behind them."""
    for i, value in enumerate(values):
        if "." in value and CONFIG_KEY.fullmatch(value) and not os.path.exists(value):
            return list(values[:i]), list(values[i:])
    return list(values), []


def main(argv: Sequence[str] | None = None) -> int:
    """Run; return 0 if every input was used, 1 if some were not, 2 if nothing could be done."""
    args = parse(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        faults, summary = saliency(args) if args.task == "saliency" else ranking(args)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{summary}; results in {args.output}\n")
    return 1 if faults or summary.unreadable else 0


def ranking(args: argparse.Namespace) -> tuple[int, Summary]:
    """Run ``--task ranking``; return the number of inputs that cannot be used, and the summary."""
    from sor_ppa.folder_ranking import FileOutput, rank_files, write_salience_sheets
    from sor_ppa.predictor import demo_predictor
    from sor_ppa.visualization import EVERYTHING, RankStyle
    from sor_ppa.visualization.files import expand_inputs

    files, faults = expand_inputs(args.input)
    _report(faults, "no pictures to rank" if not files else "")
    style = RankStyle(legend=args.legend, **(EVERYTHING if args.all_objects else {}))
    output = FileOutput(Path(args.output), None, args.format or "jpg", args.masks, args.scores, style)
    predictor = demo_predictor(
        args.config_file, args.opts, batch_size=args.batch_size, threshold=args.confidence_threshold
    )
    if args.salience_maps:
        predictor.check_salience_maps()
    summary = rank_files(predictor, files, output, overwrite=True)
    if args.salience_maps:
        write_salience_sheets(predictor, files, output)
    return len(faults), summary


def saliency(args: argparse.Namespace) -> tuple[int, SaliencySummary]:
    """Run ``--task saliency``; return as :func:`ranking`."""
    from sor_ppa.inspyrenet.run import SaliencyOutput, find_media, run_saliency
    from sor_ppa.predictor import load_with_weights
    from sor_ppa.saliency_predictor import SaliencyPredictor

    kinds = tuple(dict.fromkeys(args.type))
    output = SaliencyOutput(Path(args.output), kinds, args.threshold, args.reverse, args.format or "")
    pictures, videos, faults = find_media(args.input)
    _report(faults, "no pictures or videos found" if not pictures and not videos else "")
    predictor = SaliencyPredictor(load_with_weights(args.config_file, args.opts), mode=args.mode)
    return len(faults), run_saliency(predictor, pictures, videos, output)


def _report(faults: Sequence[object], reason: str) -> None:
    """Print the inputs that cannot be used; raise ValueError if there is a reason to stop."""
    for fault in faults:
        sys.stderr.write(f"{fault}\n")
    if reason:
        raise ValueError(reason)


if __name__ == "__main__":
    sys.exit(main())
