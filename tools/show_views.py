#!/usr/bin/env python
"""Draw what a Siamese DETR pre-training sees: two views, their regions, and where they are predicted.

Solid boxes are the shared regions, numbered alike in both views; dashed ones of the same colour are
predicted in a view by the queries of the other view's region.

Example:
    python tools/show_views.py --config-file configs/siamese_detr/pretrain_conditional_100q_coco.yaml \
        --output views.png MODEL.WEIGHTS output/siamese_detr/pretrain_conditional_100q_coco/model_final.pth
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from detectron2.modeling import build_model

from sor_ppa.checkpoint import SORCheckpointer
from sor_ppa.engine import ConfigError, load_config
from sor_ppa.siamese_detr.loading import load_proposals, unlabelled_records
from sor_ppa.siamese_detr.pictures import draw_views, save_picture
from sor_ppa.siamese_detr.view_mapper import TwoViewMapper


def get_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--config-file", required=True, help="a pre-training configuration")
    parser.add_argument("--output", required=True, help="PNG file to write")
    parser.add_argument("--count", type=int, default=4, help="images (default: 4)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other views (default: 0)")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE pairs for the configuration")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Draw; returns the exit status."""
    args = get_parser().parse_args(arguments)
    try:
        draw(args)
    except (ConfigError, ValueError, KeyError, OSError, ImportError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"{args.output}\n")
    return 0


def draw(args: argparse.Namespace) -> None:
    """Sample views of the first images of ``DATASETS.TRAIN`` and draw them.

    Raises:
        ValueError: no image gives two views with a region in common, or a setting is wrong.
    """
    if args.count < 1:
        raise ValueError(f"--count: found {args.count}, expected at least 1")
    cfg = load_config(args.config_file, args.opts)
    if cfg.MODEL.META_ARCHITECTURE != "SiameseDETR":
        found = cfg.MODEL.META_ARCHITECTURE
        raise ConfigError(f"MODEL.META_ARCHITECTURE: found {found!r}, expected 'SiameseDETR'")
    records = unlabelled_records(cfg.DATASETS.TRAIN)
    mapper = TwoViewMapper(cfg, load_proposals(cfg, records))
    model = build_model(cfg)
    SORCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    np.random.seed(args.seed)
    samples = []
    for record in records:
        sample = mapper(record)
        if sample is not None:
            samples.append(sample)
        if len(samples) == args.count:
            break
    if not samples:
        raise ValueError("DATASETS.TRAIN: found no image whose views share a region, expected at least one")
    save_picture(args.output, draw_views(samples, model.eval()(samples)))


if __name__ == "__main__":
    sys.exit(main())
