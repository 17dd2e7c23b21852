"""Positions of objects: coordinate maps for ROI pooling, and normalized box coordinates.

PPA preserves the absolute position of an object by pooling two coordinate maps together with the features
(position embedding stage of the paper). The published code builds them for a canvas of 640x480 pixels; here
every image has maps of its own size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["box_positions", "measuring_sizes", "position_maps", "quantized_cells"]


def measuring_sizes(
    image_sizes: Sequence[tuple[int, int]] | Tensor,
    canvas: tuple[int, int],
    divisibility: int,
    device: torch.device,
) -> Tensor:
    """Return the (height, width) by which positions in each image are divided.

    It is the image's own size, or the canvas where that size, rounded up to a multiple of
    ``divisibility``, is the canvas: there the numbers are those of the published code.

    Args:
        image_sizes: (height, width) of each image in pixels, without padding; or a tensor (B, 2).
        canvas: (height, width) of the published canvas in pixels.
        divisibility: what images are padded to, in pixels.
        device: of the result.

    Returns:
        (B, 2) float32.
    """
    true = torch.as_tensor(image_sizes, dtype=torch.int64).reshape(-1, 2)
    padded = torch.div(true + divisibility - 1, divisibility, rounding_mode="floor") * divisibility
    target = torch.tensor(canvas, dtype=torch.int64, device=true.device)
    on_canvas = (padded == target).all(dim=1, keepdim=True)
    return torch.where(on_canvas, target, true).to(device=device, dtype=torch.float32)


def position_maps(sizes: Tensor, feature_size: tuple[int, int], stride: int) -> Tensor:
    """Return the coordinate maps of one level: the center of each cell as a fraction of the image.

    Args:
        sizes: (B, 2) of :func:`measuring_sizes`.
        feature_size: (H, W) of the level's feature map.
        stride: of the level in pixels.

    Returns:
        (B, 2, H, W) float32: channel 0 holds y, channel 1 holds x.
    """
    height, width = feature_size
    y = torch.arange(height, device=sizes.device, dtype=torch.float32) * stride + stride / 2
    x = torch.arange(width, device=sizes.device, dtype=torch.float32) * stride + stride / 2
    y = (y[None] / sizes[:, :1])[:, :, None].expand(-1, height, width)
    x = (x[None] / sizes[:, 1:])[:, None, :].expand(-1, height, width)
    return torch.stack([y, x], dim=1)


def box_positions(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Return box coordinates as the published box head feeds them to its encoder.

    Args:
        boxes: (N, 4) XYXY in pixels.
        sizes: (N, 2) (height, width) of each box's image, from :func:`measuring_sizes`.

    Returns:
        (N, 4): center x, center y, width and y1 + y2, as fractions. The published code has y1 + y2 where
        one expects the height; it is kept for the sake of published weights.
    """
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    height, width = sizes.unbind(dim=1)
    return torch.stack(
        [0.5 * (x1 + x2) / width, 0.5 * (y1 + y2) / height, (x2 - x1) / width, (y1 + y2) / height], dim=1
    )


def quantized_cells(boxes: Tensor, sizes: Tensor, cells: int) -> Tensor:
    """Return the cell of a ``cells`` x ``cells`` grid over the image that contains each box's center.

    Centers outside the image belong to the nearest cell (the published code fails there).

    Args:
        boxes: (N, 4) XYXY in pixels.
        sizes: (N, 2) (height, width) of each box's image.
        cells: per side.

    Returns:
        (N,) int64, column * cells + row.
    """
    height, width = sizes.unbind(dim=1)
    column = 0.5 * (boxes[:, 0] + boxes[:, 2]) / (width / cells)
    row = 0.5 * (boxes[:, 1] + boxes[:, 3]) / (height / cells)
    column, row = (v.long().clamp(0, cells - 1) for v in (column, row))
    return column * cells + row
