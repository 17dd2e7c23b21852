"""``sor-ppa profile``: parameters, operations, time and memory of a model and of its parts."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

import numpy as np

from ..atomic import write_json
from ..config import ConfigError, load_config, score_threshold_keys
from ..pretrained import find_pretrained
from ..profiling import Profile, profile_model
from ..visualization.files import read_image

_EPILOG = """\
examples:
  sor-ppa profile --config-file configs/sor/ppa.yaml --size 480x640,800x1333
  sor-ppa profile --model ppa-v39 --input photo.jpg --batch-size 1,4
  sor-ppa profile --config-file configs/salience_detr/salience_detr_R_50_4scale.yaml --output profile.json \\
      MODEL.DEVICE cpu MODEL.SALIENCE_DETR.TEST_RESIZE "[]"

Without --model and MODEL.WEIGHTS, weights are random and score thresholds 0, so that the model finds objects;
the first line says how many. A multiplication and an addition are two FLOPs.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the sub-command."""
    parser.epilog = _EPILOG
    parser.add_argument("--config-file", metavar="FILE", help="YAML file of the model")
    parser.add_argument(
        "--model", metavar="NAME", help="a name of `sor-ppa models`, a checkpoint file, or contrast"
    )
    parser.add_argument(
        "--size", type=_sizes, default="800x1333", metavar="HxW[,...]", help="default: 800x1333"
    )
    parser.add_argument("--batch-size", type=_counts, default="1", metavar="N[,...]", help="default: 1")
    parser.add_argument("--repeats", type=int, default=10, metavar="N", help="timed runs (default: 10)")
    parser.add_argument("--depth", type=int, default=2, metavar="N", help="levels of parts (default: 2)")
    parser.add_argument("--input", metavar="PHOTO", help="measured on it, resized; default: noise")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write all figures as JSON, too")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="configuration keys")


def run(options: argparse.Namespace) -> int:
    """Run the sub-command and return its exit status."""
    if options.model is not None:
        cfg, _ = find_pretrained(options.model, options.config_file, options.opts)
    elif options.config_file:
        cfg = load_config(options.config_file, options.opts)
        if "MODEL.WEIGHTS" not in options.opts[::2]:
            cfg.MODEL.WEIGHTS = ""
    else:
        raise ConfigError("expected --config-file FILE or --model NAME, found neither")
    if not cfg.MODEL.WEIGHTS:
        for node, key in score_threshold_keys(cfg):
            node[key] = 0.0
    image = None
    if options.input:
        image = read_image(options.input)
        image = np.ascontiguousarray(image[..., ::-1]) if cfg.INPUT.FORMAT == "RGB" else image
    profiles = []
    for size in options.size:
        for batch in options.batch_size:
            arguments = {"repeats": options.repeats, "depth": options.depth, "image": image}
            profiles.append(profile_model(cfg, size, batch, **arguments))
            if not options.json:
                sys.stdout.write(_profile_table(profiles[-1], cfg.MODEL.META_ARCHITECTURE) + "\n")
    content = {
        "architecture": cfg.MODEL.META_ARCHITECTURE,
        "weights": cfg.MODEL.WEIGHTS,
        "profiles": [profile.to_json() for profile in profiles],
    }
    if options.json:
        sys.stdout.write(json.dumps(content, indent=1, allow_nan=False) + "\n")
    if options.output:
        write_json(options.output, content, indent=1)
    return 0


def _sizes(text: str) -> list[tuple[int, int]]:
    """Return each (height, width) of ``480x640,800x1333``."""
    found = [re.fullmatch(r"(\d+)x(\d+)", size) for size in text.split(",")]
    if None in found:
        raise argparse.ArgumentTypeError(f"expected height x width such as 480x640, found {text!r}")
    return [(int(match[1]), int(match[2])) for match in found if match]


def _counts(text: str) -> list[int]:
    """Return the numbers of ``1,4``."""
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise argparse.ArgumentTypeError(f"expected numbers such as 1,4, found {text!r}")
    return [int(number) for number in text.split(",")]


def _profile_table(profile: Profile, title: str) -> str:
    """Return the figures as text."""
    where = f"{profile.device}, {profile.threads} threads" if profile.device == "cpu" else profile.device
    rate = profile.batch / profile.median
    objects = "" if profile.objects is None else f"; {profile.objects:g} objects an image"
    loaded, peak = profile.loaded_bytes / 2**20, profile.peak_bytes / 2**20
    lines = [
        f"{title}, {profile.height} x {profile.width}, batch {profile.batch}, {where}{objects}",
        f"time    median {1000 * profile.median:.1f} ms, 90% of the runs within "
        f"{1000 * profile.percentile_90:.1f} ms, {rate:.2f} images/s",
        f"memory  {loaded:.0f} MiB loaded, {peak:.0f} MiB at most",
        "",
        f"{'part':36} {'parameters':>12} {'GFLOPs':>9} {'%':>6} {'ms':>9} {'%':>6}",
    ]
    total = profile.total
    for part in (*profile.parts, total):
        lines.append(
            f"{part.name or '(model)':36} {part.parameters:12,} "
            f"{part.flops / 1e9:9.3f} {100 * part.flops / max(total.flops, 1):6.1f} "
            f"{1000 * part.seconds:9.1f} {100 * part.seconds / total.seconds:6.1f}"
        )
    return "\n".join(lines) + "\n"
