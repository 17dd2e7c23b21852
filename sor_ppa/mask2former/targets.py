"""The objects of a training batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..layers.detr.matching import Matches
from ..layers.distributed import mean_over_processes

__all__ = ["MaskTargets"]


@dataclass(frozen=True)
class MaskTargets:
    """The objects of a batch; N is the number of all of them, images in order."""

    #: ``(N, H, W)`` bool, of the size of the padded batch.
    masks: Tensor
    #: ``(N,)`` int64.
    labels: Tensor
    #: objects of each image.
    counts: list[int]

    @property
    def image(self) -> Tensor:
        """The image of each object, ``(N,)`` int64."""
        counts = torch.tensor(self.counts, device=self.labels.device)
        images = torch.arange(len(counts), device=counts.device)
        return images.repeat_interleave(counts, output_size=len(self.labels))  # known, so no wait for a GPU

    def pad(self, values: Tensor) -> Tensor:
        """Return values ``(N, ...)`` as ``(B, T, ...)`` with zeros up to the largest count T."""
        return nn.utils.rnn.pad_sequence(list(values.split(self.counts)), batch_first=True)

    def mean_count(self) -> Tensor:
        """Return the objects per process, at least 1: the normalizer of the losses."""
        total = torch.tensor(float(len(self.labels)), device=self.labels.device)
        return mean_over_processes(total).clamp(min=1.0)

    def rows(self, matches: Matches) -> Tensor:
        """Return the object of each match of the one layer, ``(M,)`` indices in 0 to N."""
        counts = torch.tensor(self.counts, device=self.labels.device)
        return (counts.cumsum(0) - counts)[matches.image[0]] + matches.target[0]
