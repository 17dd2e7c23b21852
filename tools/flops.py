#!/usr/bin/env python
"""Count the floating point operations of a Salience-DETR with and without token filtering.

Counted are multiplications and additions of convolutions, linear layers, attention and sampling in one
forward pass on a random image. No weights are loaded: the counts do not depend on them.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from torch.utils.flop_counter import FlopCounterMode

from sor_ppa.building import build_checked_model
from sor_ppa.engine import ConfigError, load_config

PARTS = (
    ("backbone", "backbone"),
    ("channel mapper", "neck"),
    ("salience scores", "transformer.salience"),
    ("encoder", "transformer.encoder"),
    ("token fusion", "transformer.neck"),
    ("decoder", "transformer.decoder"),
    ("ROI heads", "roi_heads"),
)


def _bag(table: Sequence[int], indices: Sequence[int], *args: Any, **kwargs: Any) -> int:
    return 2 * math.prod(indices) * table[-1]


def count(cfg: CfgNode, height: int, width: int) -> dict[str, int]:
    """Return the operations of every part and ``total`` for an image of ``height`` x ``width`` pixels."""
    model = build_checked_model(cfg).eval().requires_grad_(False)
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    aten = torch.ops.aten
    mapping = {aten._embedding_bag: _bag, aten._embedding_bag_forward_only: _bag}
    # With gradients enabled the layers use PyTorch's own operators, which can be counted.
    with torch.enable_grad(), FlopCounterMode(display=False, depth=4, custom_mapping=mapping) as counter:
        model([{"image": image}])
    name = type(model).__name__
    totals = {module: sum(operators.values()) for module, operators in counter.get_flop_counts().items()}
    counts = {label: totals.get(f"{name}.{module}", 0) for label, module in PARTS}
    counts["rest"] = counter.get_total_flops() - sum(counts.values())
    counts["total"] = counter.get_total_flops()
    return counts


def unfiltered(cfg: CfgNode) -> CfgNode:
    """Return the config of the same model with every token refined in every layer."""
    cfg = cfg.clone()
    node = cfg.MODEL.SALIENCE_DETR
    node.LEVEL_FILTER_RATIO = [1.0] * node.NUM_LEVELS
    node.LAYER_FILTER_RATIO = [1.0] * node.ENC_LAYERS
    return cfg


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--config-file", default="configs/salience_detr/salience_detr_R_50_4scale.yaml", metavar="FILE"
    )
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1333), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config options")
    args = parser.parse_args(argv)
    height, width = args.size
    try:
        cfg = load_config(args.config_file, args.opts)
        if cfg.MODEL.META_ARCHITECTURE not in ("SalienceDETR", "RankingSalienceDETR"):
            found = cfg.MODEL.META_ARCHITECTURE
            raise ConfigError(f"MODEL.META_ARCHITECTURE: expected a Salience-DETR, found {found}")
        cfg.MODEL.DEVICE = "cpu"
        cfg.MODEL.SALIENCE_DETR.TEST_RESIZE = []
        torch.manual_seed(0)
        filtered, full = count(cfg, height, width), count(unfiltered(cfg), height, width)
    except (ConfigError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    lines = [f"GFLOPs at {height} x {width} (a multiplication and an addition are two)", ""]
    lines.append(f"{'part':<16} {'filtered':>10} {'unfiltered':>11} {'ratio':>7}")
    for label, value in filtered.items():
        if full[label]:
            lines.append(
                f"{label:<16} {value / 1e9:>10.1f} {full[label] / 1e9:>11.1f} {value / full[label]:>7.2f}"
            )
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
