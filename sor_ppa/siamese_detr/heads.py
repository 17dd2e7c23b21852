"""Heads of the pre-training: prediction head and global discrimination head."""

from __future__ import annotations

from collections import OrderedDict

import torch
from detectron2.utils.comm import get_world_size
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers.detr.boxes import refine_boxes
from ..layers.detr.losses import SoftmaxCriterion
from ..layers.detr.matching import Matches, Predictions
from ..layers.detr.mlp import MLP


def cosine_distance(first: Tensor, second: Tensor) -> Tensor:
    """Return 2 - 2 cos of the angle between the rows of two (..., C) tensors, (...)."""
    return (F.normalize(first, dim=-1) - F.normalize(second, dim=-1)).square().sum(-1)


class PredictionHead(nn.Module):
    """Class, box and region feature of every query, shared by the decoder layers (section 3.3).

    Args:
        dim: channels of the queries.
        feature_dim: channels of the region feature that is regressed; 0 for no such head.
        criterion: matching and losses over two classes; the second is "region".
    """

    def __init__(self, dim: int, feature_dim: int, criterion: SoftmaxCriterion) -> None:
        super().__init__()
        self.class_embed = nn.Linear(dim, criterion.num_classes + 1)
        self.bbox_embed = MLP(dim, dim, 4, 3)
        self.feature_align = MLP(dim, dim, feature_dim, 2) if feature_dim else None
        self.criterion = criterion

    def forward(self, hidden: Tensor, reference: Tensor | None) -> Predictions:
        """Predict from (L, B, Q, dim) queries, in float32 also under autocast."""
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = hidden.float()
            return Predictions(self.class_embed(hidden), refine_boxes(self.bbox_embed(hidden), reference))

    def feature_loss(self, hidden: Tensor, features: Tensor, matches: Matches) -> Tensor:
        """Return the distance between the features of matched queries and of crops (equation 5).

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
    """Batch norm with training statistics over all workers, on any device and backend.

    Every worker must have the same number of samples.
    """

    def forward(self, x: Tensor) -> Tensor:
        workers = get_world_size()
        if not self.training or workers == 1:
            return super().forward(x)
        from fvcore.nn.distributed import differentiable_all_reduce

        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            mean = differentiable_all_reduce(x.mean(0)) / workers
            centered = x - mean
            variance = differentiable_all_reduce(centered.square().mean(0)) / workers
            self._update(mean.detach(), variance.detach(), count=len(x) * workers)
            return centered * (variance + self.eps).rsqrt() * self.weight + self.bias

    def _update(self, mean: Tensor, variance: Tensor, count: int) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / (count - 1), self.momentum)


class GlobalDiscriminationHead(nn.Module):
    """SimSiam on the pooled encoder memories of the two views (section 3.3, equation 6).

    Args:
        in_dim: channels of the pooled memory.
        dim: channels of projection and prediction.
    """

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        norm = WorkerBatchNorm1d
        hidden = [nn.Linear(in_dim, dim), norm(dim), nn.ReLU(), nn.Linear(dim, dim), norm(dim), nn.ReLU()]
        predictor = [nn.Linear(dim, dim), norm(dim), nn.ReLU(), nn.Linear(dim, dim)]
        # under the published names projector.mlp.* and predictor.mlp.*
        projector = nn.Sequential(*hidden, nn.Linear(dim, dim), norm(dim))
        self.projector = nn.Sequential(OrderedDict(mlp=projector))
        self.predictor = nn.Sequential(OrderedDict(mlp=nn.Sequential(*predictor)))

    def project(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Return projection and prediction, both (B, dim), of one view's pooled memory (B, in_dim)."""
        projection = self.projector(pooled)
        return projection, self.predictor(projection)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the symmetric loss of two views; the batch norms see each view separately.

        Args:
            first: (B, in_dim) pooled memory of view 1.
            second: (B, in_dim) of view 2.

        Returns:
            scalar in [0, 4].
        """
        assert not self.training or len(first) * get_world_size() > 1, "batch norm needs two images"
        projection_1, prediction_1 = self.project(first)
        projection_2, prediction_2 = self.project(second)
        loss_1 = cosine_distance(prediction_1.float(), projection_2.detach().float()).mean()
        loss_2 = cosine_distance(prediction_2.float(), projection_1.detach().float()).mean()
        return 0.5 * (loss_1 + loss_2)
