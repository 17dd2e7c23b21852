#!/usr/bin/env python
"""Propose regions for the images of a Siamese DETR pre-training.

Training does the same when it starts. Use this tool to do it on another machine. Run it again after an
interruption: it continues with the missing images.

Example:
    python tools/propose_regions.py --config-file configs/siamese_detr/pretrain_conditional_100q_coco.yaml \
        INPUT.TWO_VIEWS.PROPOSALS.CACHE proposals/coco DATASETS.TRAIN '("folder://datasets/coco/train2017",)'
"""

from __future__ import annotations

import argparse
import sys

from detectron2.utils.logger import setup_logger

from sor_ppa.data.unlabelled import unlabelled_records
from sor_ppa.engine import ConfigError, load_config
from sor_ppa.siamese_detr.loading import load_proposals


def main(arguments: list[str] | None = None) -> int:
    """Propose regions and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--config-file", required=True, help="a pre-training configuration")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE pairs for the configuration")
    args = parser.parse_args(arguments)
    setup_logger(name="sor_ppa")
    try:
        cfg = load_config(args.config_file, args.opts)
        cache = load_proposals(cfg, unlabelled_records(cfg.DATASETS.TRAIN))
    except (ConfigError, ValueError, KeyError, OSError, ImportError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    if cache is None:
        sys.stdout.write("INPUT.TWO_VIEWS.PROPOSALS.METHOD is random: nothing to propose\n")
    else:
        sys.stdout.write(f"{cache.folder}: {int(cache.counts().sum())} boxes for {len(cache)} images\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
