"""Decoding rank logits to ranks, for all images of a batch at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "DECODERS",
    "decode_flat",
    "decode_ranks",
    "pad_by_image",
    "rank_all",
    "rank_greedily",
    "rank_scores",
    "utilities",
]

DECODERS = ("greedy", "all", "utility")


def pad_by_image(values: Tensor, counts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Pad the objects of several images to a common number.

    Args:
        values: (sum counts, ...), images in order.
        counts: objects of each image.

    Returns:
        (B, max count, ...) padded with zeros, and the mask (B, max count) of real objects.
    """
    number = torch.tensor(list(counts), device=values.device)
    width = max(counts, default=0)
    valid = torch.arange(width, device=values.device)[None] < number[:, None]
    padded = values.new_zeros((len(counts), width, *values.shape[1:]))
    padded[valid] = values
    return padded, valid


def rank_scores(logits: Tensor) -> Tensor:
    """Return the expected rank of each object.

    The ranking loss is a cross-entropy over the K ranks of an object, so the softmax of its logits is a
    distribution over ranks. Its mean lies in [0, K - 1], higher is more salient, and does not depend on
    the decoder.

    Args:
        logits: (N, K).

    Returns:
        (N,) float32.
    """
    probability = torch.softmax(logits.float(), dim=1)
    return (probability * torch.arange(logits.shape[1], device=logits.device)).sum(dim=1)


def utilities(logits: Tensor) -> Tensor:
    """Return the number by which the order losses compare objects, one an object.

    It is the component of the K logits in the direction of (0, 1, ..., K - 1) less its mean: a head with one
    output, made from the K that every model has. So weights of one loss can be loaded for another.

    Args:
        logits: (N, K), K at least 2.

    Returns:
        (N,) float32, or float64 for float64 logits; higher is more salient.
    """
    steps = torch.arange(logits.shape[1], device=logits.device, dtype=torch.float32)
    steps = steps - steps.mean()
    return (logits * (steps / steps.norm())).sum(dim=1)


def rank_greedily(logits: Tensor, counts: Sequence[int], threshold: float) -> Tensor:
    """Decode by the published greedy rule.

    For each rank, a softmax over the objects of an image gives probabilities. From the highest rank down,
    the most probable object without a rank gets it if its probability exceeds ``threshold``; otherwise no
    object does. Ties go to the object listed first.

    Args:
        logits: (N, K), N the sum of ``counts``.
        counts: objects of each image.
        threshold: probability to exceed (0.1 in the CenterMask heads as published).

    Returns:
        (N,) int64 ranks, higher is more salient, -1 for objects without one.
    """
    if logits.shape[0] == 0:
        return torch.empty(0, dtype=torch.int64, device=logits.device)
    padded, valid = pad_by_image(logits.float(), counts)
    return _greedy_table(padded, valid, threshold)[valid]


def _greedy_table(padded: Tensor, valid: Tensor, threshold: float) -> Tensor:
    """Return ranks (B, M) for logits (B, M, K) and the mask (B, M) of real objects; -1 elsewhere."""
    taken = ~valid
    probability = torch.softmax(padded.masked_fill(taken[..., None], -torch.inf), dim=1)
    table = torch.full_like(valid, -1, dtype=torch.int64)
    for rank in range(padded.shape[2] - 1, -1, -1):
        free = probability[..., rank].masked_fill(taken, -torch.inf)
        best, index = free.max(dim=1, keepdim=True)  # the first of equal maxima
        given = best > threshold
        table.scatter_(1, index, torch.where(given, rank, table.gather(1, index)))
        taken = taken.scatter(1, index, taken.gather(1, index) | given)
    return table


def rank_all(scores: Tensor, counts: Sequence[int]) -> Tensor:
    """Rank every object of an image by its score, from 0 for the lowest to count - 1 for the highest.

    Ties go to the object listed first.

    Args:
        scores: (N,), N the sum of ``counts``.
        counts: objects of each image.

    Returns:
        (N,) int64.
    """
    padded, valid = pad_by_image(scores, counts)
    order = padded.masked_fill(~valid, -torch.inf).argsort(dim=1, descending=True, stable=True)
    position = order.argsort(dim=1)  # 0 = most salient; padding comes last
    number = torch.tensor(list(counts), device=scores.device)[:, None]
    return (number - 1 - position)[valid]


def decode_ranks(
    logits: Tensor, counts: Sequence[int], decoder: str = "greedy", threshold: float = 0.1
) -> tuple[Tensor, Tensor]:
    """Return the ranks and rank scores of a batch.

    Args:
        logits: (N, K), N the sum of ``counts``.
        counts: objects of each image.
        decoder: "greedy" (:func:`rank_greedily`), "all" (:func:`rank_all` by rank score), or "utility"
            (:func:`rank_all` by :func:`utilities`).
        threshold: of the greedy rule.

    Returns:
        ranks (N,) int64 and scores (N,) float32 (:func:`utilities` for "utility", else :func:`rank_scores`);
        higher is more salient.
    """
    assert decoder in DECODERS, decoder
    scores = utilities(logits) if decoder == "utility" else rank_scores(logits)
    if decoder == "greedy":
        return rank_greedily(logits, counts, threshold), scores
    return rank_all(scores, counts), scores


def decode_flat(
    logits: Tensor, image_index: Tensor, num_images: int, decoder: str, threshold: float
) -> tuple[Tensor, Tensor]:
    """Return what :func:`decode_ranks` returns, in a form for export: without lists of counts.

    Args:
        logits: (N, K).
        image_index: (N,) int64 image of each object, rising.
        num_images: B.
        decoder, threshold: see :func:`decode_ranks`.
    """
    assert decoder in DECODERS, decoder
    scores = utilities(logits) if decoder == "utility" else rank_scores(logits)
    if decoder == "greedy":
        # One more object that belongs to no image: ONNX has no maximum of nothing.
        index = F.pad(image_index, (0, 1), value=-1)
        members = index == torch.arange(num_images, device=index.device)[:, None]
        padded = F.pad(logits.float(), (0, 0, 0, 1)).expand(num_images, -1, -1)
        return _greedy_table(padded, members, threshold).amax(dim=0)[:-1], scores
    same = image_index[:, None] == image_index
    number = torch.arange(logits.shape[0], device=logits.device)
    equal_but_earlier = (scores == scores[:, None]) & (number < number[:, None])
    better = (scores > scores[:, None]) | equal_but_earlier
    return (same & ~better).sum(dim=1) - 1, scores
