"""Pictures by which the ranges of 8-bit integers are chosen."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from ..pictures import Picture, to_bgr
from ..predictor import SORPredictor
from ..saliency_predictor import SaliencyPredictor
from ..visualization.files import ImageReadError
from .model import ExportedRanker
from .runtime import Graph

__all__ = ["calibration_pictures", "graph_inputs", "readable_pictures"]

_Arrays = Mapping[str, NDArray[Any]]
_MOST_PICTURES = 100
_log = logging.getLogger(__name__)


def calibration_pictures(pictures: Sequence[Picture]) -> list[Picture]:
    """Return at most a hundred of the pictures, evenly spaced, without those that cannot be read.

    Raises:
        ValueError: there is none.
    """
    return readable_pictures(pictures[:: -(-len(pictures) // _MOST_PICTURES)], "calibration")


def readable_pictures(pictures: Iterable[Picture], use: str) -> list[Picture]:
    """Return the pictures that can be read; name the others and their use.

    Raises:
        ValueError: there is none.
    """
    readable: list[Picture] = []
    for picture in pictures:
        try:
            to_bgr(picture)
            readable.append(picture)
        except ImageReadError as error:
            _log.warning("not used for %s: %s", use, error)
    if not readable:
        raise ValueError(f"{use}: expected pictures that can be read, found none")
    return readable


def graph_inputs(predictor: SORPredictor | SaliencyPredictor, pictures: Iterable[Picture]) -> list[_Arrays]:
    """Return what the exported model of a predictor gets for pictures: resized and padded as in use."""
    model: Any = predictor.model
    holder = model if isinstance(model, ExportedRanker) else model.network
    holder.graph = recorder = _Recorder(holder.graph)
    for picture in pictures:
        predictor(picture)
    return recorder.inputs


class _Recorder:
    """A graph that keeps its inputs."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.info = graph.info
        self.inputs: list[_Arrays] = []

    def __call__(self, inputs: _Arrays) -> dict[str, NDArray[Any]]:
        self.inputs.append(inputs)
        return self.graph(inputs)
