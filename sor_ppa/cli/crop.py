"""``sor-ppa crop``: crop photos to an aspect and keep the most salient objects."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

from ..atomic import write_json
from ..crop import choose_crop, parse_aspect
from ..visualization.files import check_not_inputs, expand_inputs, result_names, write_image
from ._model import add_model_arguments, load_predictor

_EPILOG = """\
examples:
  sor-ppa crop photos/ --aspect 1:1
  sor-ppa crop photo.jpg --size 640x480 --output thumbnails

The crop is the largest window of the aspect. It never cuts the most salient object while that fits. Then
it keeps as many of the others as it can, in the order of their ranks. crops.json lists what was cut.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the sub-command."""
    parser.epilog = _EPILOG
    parser.add_argument("input", nargs="+", metavar="INPUT", help="photos, folders, globs or .txt lists")
    parser.add_argument(
        "--output", type=Path, default=Path("cropped"), metavar="DIR", help="default: cropped"
    )
    shape = parser.add_mutually_exclusive_group(required=True)
    shape.add_argument("--aspect", metavar="W:H", help="such as 1:1, 16:9 or 1.5")
    shape.add_argument("--size", metavar="WxH", help="crop to this aspect, then resize to these pixels")
    add_model_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Run the sub-command and return its exit status."""
    aspect = parse_aspect(options.aspect or options.size)
    size = _parse_size(options.size) if options.size else None
    files, faults = expand_inputs(options.input)
    for fault in faults:
        sys.stderr.write(f"{fault}\n")
    names = [
        options.output / f"{name}_crop{file.suffix}"
        for name, file in zip(result_names(files), files, strict=True)
    ]
    check_not_inputs(names, files)
    predictor = load_predictor(options)
    predictor.prepare(len(files))
    report: list[dict] = []
    failed = len(faults)
    for file, target in zip(files, names, strict=True):
        try:
            result = predictor(file)
        except ValueError as error:
            sys.stderr.write(f"{error}\n")
            failed += 1
            continue
        ranked = result.ranks > 0
        crop = choose_crop(result.masks[ranked], aspect)
        picture = crop.apply(result.image_bgr[:, :, ::-1])
        if size:
            picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
        options.output.mkdir(parents=True, exist_ok=True)
        write_image(target, picture)
        kept = [{"rank": rank, "kept": round(share, 4)} for rank, share in enumerate(crop.kept, 1)]
        report.append({"file": str(file), "crop": str(target), "box": crop.box, "objects": kept})
        lost = ", ".join(f"object {i + 1} ({crop.kept[i]:.0%} kept)" for i in crop.lost)
        sys.stdout.write(f"{target}: {'cuts ' + lost if lost else 'keeps every object'}\n")
    if report:
        write_json(options.output / "crops.json", report, indent=1)
    return 1 if failed else 0


def _parse_size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit() and 0 < int(width) < 65536 and 0 < int(height) < 65536):
        raise ValueError(f"--size: expected such as 640x480, found {text!r}")
    return int(width), int(height)
