"""``sor-ppa export``: write a model for ONNX Runtime or OpenVINO."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ..export.info import FORMATS
from ..pretrained import find_pretrained
from ..visualization.files import expand_inputs

_EPILOG = """\
examples:
  sor-ppa export model_final.pth                          model_final.onnx
  sor-ppa export ppa-v39 --format openvino                the folder ppa-v39_openvino/
  sor-ppa export ppa-v39 --format openvino --precision bf16 --images photos/
  sor-ppa export ppa-v39 --format openvino --precision int8 --calibration photos/
  sor-ppa rank photos/ --model model_final.onnx

The results are compared with those of PyTorch. In fp32, a file that disagrees is not written.
"""
# a reduced precision below it is reported with a warning
_GOOD_SHARE = 0.99


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the sub-command."""
    parser.epilog = _EPILOG
    parser.add_argument("model", metavar="MODEL", help="a name of `sor-ppa models` or a checkpoint file")
    parser.add_argument("--format", choices=tuple(FORMATS), default="onnx", help="default: onnx")
    parser.add_argument(
        "--precision",
        choices=tuple(dict.fromkeys(name for names in FORMATS.values() for name in names)),
        default="fp32",
        help="fp16: half the size; bf16, int8 (OpenVINO): faster, ranks may change; default: fp32",
    )
    parser.add_argument(
        "--calibration",
        nargs="+",
        default=[],
        metavar="INPUT",
        help="for int8: photos like yours, also folders; about a hundred are used",
    )
    parser.add_argument(
        "--mask-scores", action="store_true", help="write the mask IoU head, too, which changes mask AP only"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="PATH",
        help="default: MODEL.onnx or MODEL_openvino, in the working folder",
    )
    parser.add_argument(
        "--images", nargs="+", default=[], metavar="INPUT", help="photos to compare on, also folders"
    )
    parser.add_argument("--config-file", metavar="FILE", help="of a checkpoint that has no config inside")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY VALUE", help="configuration keys")


def run(options: argparse.Namespace) -> int:
    """Run the sub-command and return its exit status."""
    from ..export.compare import Agreement
    from ..export.run import export_model
    from ..export.runtime import is_graph

    if is_graph(options.model):
        raise ValueError(f"{options.model}: expected a checkpoint, found a model that is exported already")
    cfg, class_names = find_pretrained(options.model, options.config_file, options.opts)
    ending = ".onnx" if options.format == "onnx" else "_openvino"
    output = options.output or Path(Path(options.model).stem + ending)
    agreement = export_model(
        cfg,
        output,
        class_names=class_names,
        format=options.format,
        precision=options.precision,
        pictures=_files(options.images),
        calibration=_files(options.calibration),
        mask_scores=options.mask_scores,
    )
    sys.stdout.write(f"{output}: {agreement}\n")
    if isinstance(agreement, Agreement) and agreement.same_ranks < _GOOD_SHARE:
        lost = 1 - agreement.same_ranks
        sys.stderr.write(f"{options.precision} changes the ranking of {lost:.1%} of the pictures\n")
    return 0


def _files(inputs: list[str]) -> list[Any]:
    files, faults = expand_inputs(inputs)
    if faults:
        raise ValueError(str(faults[0]))
    return files
