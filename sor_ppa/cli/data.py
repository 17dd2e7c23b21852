"""``sor-ppa data``: fetch, check, show, convert and label ranking datasets."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from ..data.__main__ import get_parser as get_dataset_parser
from ..data.__main__ import main as dataset_main
from ..data.builtin import datasets_root
from ..data.export import write_records
from ..labeling import LabelCounts, label_photos
from ..visualization.files import expand_inputs
from ..zoo.datasets import DATASETS, get_dataset
from ._model import add_model_arguments, load_predictor
from ._progress import download_progress

__all__ = ["main"]

_EPILOG = """\
examples:
  sor-ppa data get assr                              fetch ASSR, unpack it into datasets/ASSR
  sor-ppa data list
  sor-ppa data check assr_train
  sor-ppa data label photos/ --output datasets/mine  labels from a ranker, ready for training:
  sor-ppa train --config-file configs/sor/ppa.yaml DATASETS.TRAIN "('mine_train',)"
"""


def get_parser() -> argparse.ArgumentParser:
    """Return the command line: the dataset commands, and ``get`` and ``label``."""
    parser = get_dataset_parser()
    parser.prog, parser.description = "sor-ppa data", "Work with ranking datasets."
    parser.epilog = _EPILOG
    commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    getting = commands.add_parser("get", help="fetch a published dataset")
    getting.add_argument("name", choices=sorted(DATASETS))
    getting.add_argument("--root", default="", help="folder of the datasets (default: DETECTRON2_DATASETS)")
    getting.add_argument("--file", type=Path, help="the archive, downloaded by hand")
    labeling = commands.add_parser("label", help="make a dataset from photos with a ranker as teacher")
    labeling.add_argument("input", nargs="+", metavar="PHOTOS", help="photos, folders, globs or .txt lists")
    labeling.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the dataset")
    labeling.add_argument("--split", default="train", help="name of the split (default: train)")
    labeling.add_argument(
        "--agreement", type=float, default=0.5, metavar="IOU", help="overlap of the views (default: 0.5)"
    )
    labeling.add_argument("--images", choices=("symlink", "hardlink", "copy"), default="symlink")
    add_model_arguments(labeling)
    labeling.set_defaults(confidence_threshold=0.5)  # doubtful objects spoil labels
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    options = get_parser().parse_args(arguments)
    if options.command == "get":
        return _get(options)
    if options.command == "label":
        return _label(options)
    return dataset_main(arguments)


def _get(options: argparse.Namespace) -> int:
    root = datasets_root(options.root or None)
    root.mkdir(parents=True, exist_ok=True)
    with download_progress(options.name) as progress:
        folder = get_dataset(options.name, root, archive=options.file, progress=progress)
    sys.stdout.write(f"{folder}: unpacked\n")
    return max(
        dataset_main(["check", f"{options.name}_{split}", "--fast", "--root", str(root)])
        for split in ("train", "val", "test")
    )


def _label(options: argparse.Namespace) -> int:
    files, faults = expand_inputs(options.input)
    for fault in faults:
        sys.stderr.write(f"{fault}\n")
    predictor = load_predictor(options)
    counts = LabelCounts()
    found = label_photos(
        predictor,
        tqdm(files, unit="photo"),
        counts,
        score=options.confidence_threshold,
        overlap=options.agreement,
    )
    records = list(found)
    if not records:
        raise ValueError(f"expected photos with objects that both views show, found none ({counts})")
    write_records(records, options.output, "coco", options.split, images=options.images)
    name = f"{options.output.name}_{options.split}".lower()
    sys.stdout.write(f"{counts}\ndataset {name} in {options.output}\n")
    return 1 if faults or counts.unreadable else 0
