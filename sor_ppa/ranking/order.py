"""Predictions as distributions: the probability of each place, the expected place, how sure the first is.

Places count from 1 = most salient, among all detections of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .decode import pad_by_image, rank_scores, utilities

__all__ = ["ORDER_LOSSES", "Places", "place_probabilities", "predicted_places"]

ORDER_LOSSES = ("plackett_luce", "pairwise")
_STEP = 0.5


@dataclass(frozen=True)
class Places:
    """The places of N objects as a model sees them.

    Attributes:
        probabilities: (N, K) of the places 1 to K; what is missing to 1 belongs to later places.
        expected: (N,) expected place.
        first: (N,) probability of being the most salient object of the image.
    """

    probabilities: Tensor
    expected: Tensor
    first: Tensor

    def fields(self) -> dict[str, Tensor]:
        """Return them by the names that ``Instances`` have for them."""
        return {
            "pred_rank_probabilities": self.probabilities,
            "pred_expected_rank": self.expected,
            "pred_first_probability": self.first,
        }


def predicted_places(logits: Tensor, counts: Sequence[int], loss: str) -> Places:
    """Return the distributions of places that a model of a loss predicts.

    Order losses define a Plackett-Luce model, whose distributions are those of whole orders. With the
    cross-entropy each object has a distribution of its own over the K labels, and ``first`` is the
    probability of the highest label given that exactly one object of the image has it.

    Args:
        logits: (N, K), N the sum of ``counts``.
        counts: objects of each image.
        loss: that trained the model, a value of ``MODEL.SOR.LOSS``.
    """
    logits = logits.float()
    if loss in ORDER_LOSSES:
        values = utilities(logits)
        probabilities = place_probabilities(values, counts, logits.shape[1])
        padded, valid = pad_by_image(values, counts)
        ahead = torch.sigmoid(padded[:, None] - padded[..., None]) * valid[:, None]
        return Places(probabilities, 0.5 + ahead.sum(dim=2)[valid], probabilities[:, 0])
    probabilities = torch.softmax(logits, dim=1).flip(1)
    top = probabilities[:, 0].clamp(1e-7, 1 - 1e-7)
    padded, valid = pad_by_image(torch.logit(top), counts)
    first = padded.masked_fill(~valid, -torch.inf).softmax(dim=1)[valid]
    return Places(probabilities, logits.shape[1] - rank_scores(logits), first)


def place_probabilities(values: Tensor, counts: Sequence[int], places: int) -> Tensor:
    """Return the probability of the first places under a Plackett-Luce model.

    The model is a race: object i arrives after an exponential time of rate exp(value). It has place p if
    p - 1 others arrive before it. For a given time the others are independent, and their number has a
    Poisson-binomial distribution. The integral over the logarithm of the time is computed on a grid; the
    error is about 1e-6 for any number of objects.

    Args:
        values: (N,) utilities, N the sum of ``counts``.
        counts: objects of each image.
        places: K.

    Returns:
        (N, K); column 0 is the probability of place 1.
    """
    padded, valid = pad_by_image(values.float(), counts)
    number = padded.shape[1]
    log_time = torch.arange(-18, 4 + _STEP, _STEP, device=values.device)  # minus the utility of the object
    density = torch.exp(log_time - log_time.exp())
    gap = padded[:, None] - padded[..., None]
    before = -torch.expm1(-torch.exp(gap[..., None] + log_time))  # (B, object, other, times)
    others = valid[:, None] & ~torch.eye(number, dtype=torch.bool, device=values.device)
    before = before * others[..., None]
    # the distribution of how many have arrived: (B, object, times, 0 to K - 1)
    arrived = F.pad(before.new_ones((*padded.shape, len(log_time), 1)), (0, places - 1))
    for other in range(number):
        chance = before[:, :, other, :, None]
        arrived = arrived * (1 - chance) + F.pad(arrived, (1, 0))[..., :-1] * chance
    weights = (density / density.sum())[:, None]
    return (arrived * weights).sum(dim=2)[valid]  # a matrix product would be rounded under autocast
