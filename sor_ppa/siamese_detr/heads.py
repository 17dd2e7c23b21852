"""Heads of the pre-training: prediction head and global discrimination head."""

from __future__ import annotations

import torch
from detectron2.utils.comm import get_world_size
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers.boxes import refine_boxes
from ..layers.detr_assignment import Matches
from ..layers.mlp import MLP
from .criterion import SetCriterion

__all__ = ["GlobalDiscriminationHead", "PredictionHead", "WorkerBatchNorm1d", "cosine_distance"]


def cosine_distance(first: Tensor, second: Tensor) -> Tensor:
    """2 - 2 cos of the angle between rows: (..., C) twice to (...)."""
    return (F.normalize(first, dim=-1) - F.normalize(second, dim=-1)).square().sum(-1)


class PredictionHead(nn.Module):
    """Class, box and region feature of every query, shared by the decoder layers (section 3.3).

    Args:
        dim: channels of the queries.
        feature_dim: channels of the region feature that is regressed; 0 leaves that head out.
        criterion: matching and losses over two classes, of which the second is "region".
    """

    def __init__(self, dim: int, feature_dim: int, criterion: SetCriterion) -> None:
        super().__init__()
        self.class_embed = nn.Linear(dim, criterion.num_classes + 1)
        self.bbox_embed = MLP(dim, dim, 4, 3)
        self.feature_align = MLP(dim, dim, feature_dim, 2) if feature_dim else None
        self.criterion = criterion

    def forward(self, hidden: Tensor, reference: Tensor | None) -> tuple[Tensor, Tensor]:
        """Logits (L, B, Q, C) and boxes (L, B, Q, 4, centre format) of (L, B, Q, dim) queries."""
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = hidden.float()
            return self.class_embed(hidden), refine_boxes(self.bbox_embed(hidden), reference)

    def feature_loss(self, hidden: Tensor, features: Tensor, matches: Matches) -> Tensor:
        """Region discrimination: distance of the matched queries' features from the crops' (equation 5).

        Args:
            hidden: (L, B, Q, dim).
            features: (B, T, feature_dim) of the crops.
            matches: which query answers which region.

        Returns:
            (L,) summed distances over the number of regions.
        """
        assert self.feature_align is not None
        predicted = self.feature_align(matches.gather(hidden))
        distance = cosine_distance(predicted.float(), matches.gather_targets(features).float())
        return distance.sum(1) / (features.shape[0] * features.shape[1])


class WorkerBatchNorm1d(nn.BatchNorm1d):
    """Batch norm whose training statistics span all workers; on any device and backend.

    Every worker must hold the same number of samples.
    """

    def forward(self, x: Tensor) -> Tensor:
        workers = get_world_size()
        if not self.training or workers == 1:
            return super().forward(x)
        from fvcore.nn.distributed import differentiable_all_reduce

        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            mean = differentiable_all_reduce(x.mean(0)) / workers
            centred = x - mean
            variance = differentiable_all_reduce(centred.square().mean(0)) / workers
            self._update(mean.detach(), variance.detach(), count=len(x) * workers)
            return centred * (variance + self.eps).rsqrt() * self.weight + self.bias

    def _update(self, mean: Tensor, variance: Tensor, count: int) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / (count - 1), self.momentum)


class _Neck(nn.Module):
    """Linear layers with batch norm and ReLU under the published name ``mlp``."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.mlp = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x)


class GlobalDiscriminationHead(nn.Module):
    """SimSiam on the pooled encoder memories of the two views (section 3.3, equation 6).

    Args:
        in_dim: channels of the pooled memory.
        dim: channels of projection and prediction.
    """

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.projector = _Neck(
            nn.Linear(in_dim, dim),
            WorkerBatchNorm1d(dim),
            nn.ReLU(),
            nn.Linear(dim, dim),
            WorkerBatchNorm1d(dim),
            nn.ReLU(),
            nn.Linear(dim, dim),
            WorkerBatchNorm1d(dim),
        )
        self.predictor = _Neck(nn.Linear(dim, dim), WorkerBatchNorm1d(dim), nn.ReLU(), nn.Linear(dim, dim))

    def project(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Projection and prediction, both (B, dim), of one view's pooled memory (B, in_dim)."""
        projection = self.projector(pooled)
        return projection, self.predictor(projection)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Symmetric loss of two views; each is a batch of its own for the norms.

        Args:
            first: (B, in_dim) pooled memory of view 1.
            second: (B, in_dim) of view 2.

        Returns:
            scalar in [0, 4].

        Raises:
            ValueError: there is a single sample over all workers, so batch norm has no statistics.
        """
        if self.training and len(first) * get_world_size() < 2:
            raise ValueError(
                "SOLVER.IMS_PER_BATCH: found 1 image over all workers, "
                "expected at least 2 for the batch norm of the global discrimination head"
            )
        projection_1, prediction_1 = self.project(first)
        projection_2, prediction_2 = self.project(second)
        loss_1 = cosine_distance(prediction_1.float(), projection_2.detach().float()).mean()
        loss_2 = cosine_distance(prediction_2.float(), projection_1.detach().float()).mean()
        return 0.5 * (loss_1 + loss_2)
