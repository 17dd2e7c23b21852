#!/usr/bin/env python
"""Train or evaluate a salient object ranker; arguments as in detectron2's tools."""

from __future__ import annotations

import argparse
import sys

from detectron2.engine import default_argument_parser

from sor_ppa.checkpoint import CheckpointError
from sor_ppa.config import ConfigError
from sor_ppa.data import DatasetError
from sor_ppa.engine import run
from sor_ppa.launching import start


def main(args: argparse.Namespace) -> None:
    """Run one process; leave with a one-line message for errors in configuration, data or weights."""
    try:
        run(args)
    except (CheckpointError, ConfigError, DatasetError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    arguments = default_argument_parser().parse_args()
    start(
        main,
        arguments.num_gpus,
        arguments.num_machines,
        arguments.machine_rank,
        arguments.dist_url,
        (arguments,),
    )
