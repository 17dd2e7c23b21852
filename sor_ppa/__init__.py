"""Salient object ranking as a detectron2 plugin.

Importing this package registers its models and datasets with detectron2.
"""

from ._requirements import check_requirements

check_requirements()

# only after the check, which says in one line what is missing
from . import (  # noqa: E402
    backbone,
    centermask,
    contrast,
    data,
    inspyrenet,
    mask_rcnn,
    salience_detr,
    siamese_detr,
)
from .config import add_sor_config  # noqa: E402

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "add_sor_config",
    "backbone",
    "centermask",
    "contrast",
    "data",
    "inspyrenet",
    "mask_rcnn",
    "salience_detr",
    "siamese_detr",
]
