"""``sor-ppa train``: train or evaluate a model, with the options of detectron2's ``train_net.py``."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
from collections.abc import Sequence

from detectron2.engine import default_argument_parser

from ..atomic import DiskFullError
from ..checkpoint import CheckpointError
from ..config import ConfigError
from ..data import DatasetError
from ..engine import run
from ..launching import start
from ..processes import TRAINING
from ..training import NonFiniteError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Train or, with ``--eval-only``, evaluate; return the exit status."""
    parser = default_argument_parser()
    parser.set_defaults(dist_url="auto")  # detectron2's port is the same for every training of a user
    options = parser.parse_args(arguments)
    os.environ[TRAINING] = "1"
    start(
        _process,
        options.num_gpus,
        options.num_machines,
        options.machine_rank,
        options.dist_url,
        (options,),
    )
    return 0


def _process(options: argparse.Namespace) -> None:
    logging.raiseExceptions = False  # no traceback for each line that does not fit on a full disk
    expected = CheckpointError, ConfigError, DatasetError, DiskFullError, FileNotFoundError, NonFiniteError
    try:
        run(options)
    except expected as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        sys.exit(f"error: disk full: {error.filename or 'OUTPUT_DIR'}")
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        sys.exit(f"error: {' '.join(str(error).split())}")  # "DataLoader worker (pid 7) is killed by signal"
