"""Values of masks at points, and the choice of points for the mask losses (PointRend, section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["sample_binary", "sample_logits", "uncertain_points"]


def sample_logits(maps: Tensor, points: Tensor) -> Tensor:
    """Return the bilinear values of maps at points; 0 outside.

    Args:
        maps: ``(N, C, h, w)``.
        points: ``(N, P, 2)`` as (x, y); (0, 0) is the top left corner of a map, (1, 1) the bottom right one.

    Returns:
        ``(N, C, P)``.
    """
    grid = (2 * points - 1).unsqueeze(2).to(maps.dtype)
    return F.grid_sample(maps, grid, align_corners=False).squeeze(3)


def sample_binary(masks: Tensor, rows: Tensor, points: Tensor) -> Tensor:
    """Return what :func:`sample_logits` returns for binary masks, without a copy of them as floats.

    Args:
        masks: ``(M, H, W)`` bool.
        rows: ``(N,)`` int64, the mask of each row of ``points``.
        points: ``(N, P, 2)`` as (x, y) in [0, 1].

    Returns:
        ``(N, P)`` in the dtype of ``points``; soft at the outlines.
    """
    height, width = masks.shape[-2:]
    position = points * points.new_tensor([width, height]) - 0.5
    low = position.floor()
    part = position - low
    column, row = low.long().unbind(-1)
    flat, start = masks.flatten(), (rows * (height * width))[:, None]
    result = torch.zeros_like(points[..., 0])
    for down in (0, 1):
        y, weight_y = row + down, part[..., 1] if down else 1 - part[..., 1]
        for right in (0, 1):
            x, weight_x = column + right, part[..., 0] if right else 1 - part[..., 0]
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            index = start + y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
            result += (flat[index] & inside) * weight_y * weight_x
    return result


@torch.no_grad()
def uncertain_points(logits: Tensor, count: int, oversample: float, importance: float) -> Tensor:
    """Return points, most of them where a mask is least certain.

    Args:
        logits: ``(N, h, w)`` of masks.
        count: points P of each mask.
        oversample: random candidates, as a multiple of P.
        importance: share of P that is chosen among the candidates; the others are uniformly random.

    Returns:
        ``(N, P, 2)`` as (x, y) in [0, 1]: the most uncertain point first, the random ones last.
    """
    chosen = int(importance * count)
    candidates = torch.rand(len(logits), int(oversample * count), 2, device=logits.device)
    distance = sample_logits(logits[:, None], candidates)[:, 0].abs()
    index = distance.topk(chosen, dim=1, largest=False).indices
    points = candidates.gather(1, index[..., None].expand(-1, -1, 2))
    if chosen == count:
        return points
    return torch.cat([points, torch.rand(len(logits), count - chosen, 2, device=logits.device)], dim=1)
