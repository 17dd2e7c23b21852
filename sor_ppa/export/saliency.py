"""An exported saliency network in the place of a PyTorch network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from numpy.typing import NDArray
from torch import Tensor, nn

from ..inspyrenet import InSPyReNet
from ..inspyrenet.network import CoarseLevels, SaliencyPyramid
from ..inspyrenet.pyramid import reconstruct
from .runtime import Graph, load_graph

__all__ = ["ExportedNetwork", "MapAgreement", "compare_maps", "exported_saliency"]

_LARGEST_DIFFERENCE = 1e-4


class ExportedNetwork(nn.Module):
    """Compute saliency pyramids with a graph; the interface is that of ``InSPyReNetNetwork``.

    Args:
        graph: an exported saliency model.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph

    def forward(self, images: Tensor) -> SaliencyPyramid:
        """Compute the saliency pyramid of images (B, 3, H, W), 0 ... 255; sides are multiples of 32."""
        return self.finest(self.coarse(images))

    def coarse(self, images: Tensor) -> CoarseLevels:
        """Compute levels 3, 2 and 1, and the finest Laplacian map in the place of its inputs."""
        size = images.shape[-2], images.shape[-1]
        found = self.graph({"images": images.numpy(), "sizes": np.array([size] * len(images), np.int64)})
        d3, p2, p1, p0 = (
            torch.from_numpy(found[name]) for name in ("coarse", "details2", "details1", "details0")
        )
        d2 = reconstruct(d3, p2)
        return CoarseLevels(SaliencyPyramid([d3, d2, reconstruct(d2, p1)], [p2, p1]), p0, size)

    def finest(self, coarse: CoarseLevels, wanted: Tensor | None = None) -> SaliencyPyramid:
        """Add level 0, which :meth:`coarse` has computed everywhere."""
        del wanted
        (saliency, laplacian), p0 = coarse.pyramid, coarse.feature
        return SaliencyPyramid([*saliency, reconstruct(saliency[-1], p0)], [*laplacian, p0])


def exported_saliency(cfg: CfgNode, path: str | Path) -> InSPyReNet:
    """Return the model of a configuration with an exported network, which normalizes images itself."""
    network = ExportedNetwork(load_graph(path, threads=torch.get_num_threads()))
    no_change = {"pixel_mean": (0.0, 0.0, 0.0), "pixel_std": (1.0, 1.0, 1.0)}
    return InSPyReNet(network=network, **no_change, **InSPyReNet.inference_options(cfg)).eval()


@dataclass(frozen=True)
class MapAgreement:
    """How well saliency maps agree with those of PyTorch.

    Attributes:
        pictures: number of pictures.
        largest, mean: absolute difference of two pixels.
    """

    pictures: int
    largest: float
    mean: float

    @property
    def equal(self) -> bool:
        """Whether only rounding differs."""
        return self.largest <= _LARGEST_DIFFERENCE

    @property
    def usable(self) -> bool:
        """Whether the maps of a reduced precision differ by less than a twentieth on average."""
        return self.mean < 0.05

    def __str__(self) -> str:
        return (
            f"{self.pictures} pictures: maps differ by at most {self.largest:.2g}, on average {self.mean:.2g}"
        )


def compare_maps(pairs: Iterable[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> MapAgreement:
    """Return how well pairs of maps (H, W) of the same pictures agree."""
    errors = [np.abs(expected - found) for expected, found in pairs]
    means = [float(error.mean()) for error in errors]
    return MapAgreement(len(errors), max(float(e.max()) for e in errors), sum(means) / len(means))
