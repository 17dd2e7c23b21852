#!/usr/bin/env python
"""Draw the two views of images, their shared regions and the regions that a pre-trained model predicts.

Solid boxes are the shared regions, with the same number in both views. Dashed boxes of the same color are
predicted by the queries of that region in the other view.

Example:
    python tools/show_views.py --config-file configs/siamese_detr/pretrain_conditional_100q_coco.yaml \
        --output views.png MODEL.WEIGHTS output/siamese_detr/pretrain_conditional_100q_coco/model_final.pth
"""

from __future__ import annotations

import argparse
import sys
from itertools import islice

import numpy as np

from sor_ppa.building import build_checked_model
from sor_ppa.checkpoint import SORCheckpointer
from sor_ppa.data.unlabelled import unlabelled_records
from sor_ppa.engine import ConfigError, load_config
from sor_ppa.siamese_detr.loading import TwoViewMapper, load_proposals
from sor_ppa.siamese_detr.pictures import draw_views, save_picture


def draw(args: argparse.Namespace) -> None:
    """Draw views of the first images of ``DATASETS.TRAIN``."""
    cfg = load_config(args.config_file, args.opts)
    if cfg.MODEL.META_ARCHITECTURE != "SiameseDETR":
        found = cfg.MODEL.META_ARCHITECTURE
        raise ConfigError(f"MODEL.META_ARCHITECTURE: expected 'SiameseDETR', found {found!r}")
    records = unlabelled_records(cfg.DATASETS.TRAIN)
    mapper = TwoViewMapper(cfg, load_proposals(cfg, records))
    model = build_checked_model(cfg)
    SORCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    np.random.seed(args.seed)
    mapped = (sample for sample in map(mapper, records) if sample is not None)
    samples = list(islice(mapped, max(args.count, 1)))
    if not samples:
        raise ValueError("DATASETS.TRAIN: expected images whose views share a region, found none")
    save_picture(args.output, draw_views(samples, model.eval()(samples)))


def main(arguments: list[str] | None = None) -> int:
    """Draw the views and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--config-file", required=True, help="a pre-training configuration")
    parser.add_argument("--output", required=True, help="PNG file to write")
    parser.add_argument("--count", type=int, default=4, help="images (default: 4)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the views (default: 0)")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE pairs for the configuration")
    args = parser.parse_args(arguments)
    try:
        draw(args)
    except (ConfigError, ValueError, KeyError, OSError, ImportError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"{args.output}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
