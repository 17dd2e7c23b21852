"""Salient object ranking as a detectron2 plugin.

Importing this package registers its models and datasets with detectron2.
"""

import os
from multiprocessing import current_process
from typing import TYPE_CHECKING, Any

from .processes import TRAINING, exit_with_parent

if TRAINING in os.environ and current_process().name != "MainProcess":
    exit_with_parent()  # the imports below take seconds, in which the parent may die

# Before torch starts its threads: those that wait for others spin for a thirtieth of libgomp's time before
# they sleep. Where other programs take the processors, spinning takes the time of the thread that is waited
# for. Fewer rounds slow down an idle machine (1000 of them: 16 to 35 percent).
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "10000"

import torch

from ._requirements import check_requirements, check_torch

check_requirements()
check_torch(torch.__version__)

# only after the check, which says in one line what is missing
from . import (  # noqa: E402
    backbone,
    centermask,
    contrast,
    data,
    inspyrenet,
    mask2former,
    mask_rcnn,
    salience_detr,
    siamese_detr,
)
from .config import add_sor_config, get_config_file  # noqa: E402

if TYPE_CHECKING:
    from .predictor import SORPredictor

__version__ = "0.1.0"

__all__ = [
    "SORPredictor",
    "__version__",
    "add_sor_config",
    "backbone",
    "centermask",
    "contrast",
    "data",
    "get_config_file",
    "inspyrenet",
    "mask2former",
    "mask_rcnn",
    "salience_detr",
    "siamese_detr",
]


def __getattr__(name: str) -> Any:
    """Import the predictor when it is first used."""
    if name == "SORPredictor":
        from .predictor import SORPredictor

        return SORPredictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
