"""Geometry of a padded batch on several feature maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Levels", "build_levels"]


@dataclass(frozen=True)
class Levels:
    """Where the cells of a batch's feature maps lie, and which of them are padding.

    S is the number of cells of all maps together; flattened tensors run map by map, row by row.
    """

    #: (h, w) of every map, finest first.
    shapes: tuple[tuple[int, int], ...]
    #: per map ``(B, h, w)`` bool, True = padded.
    paddings: tuple[Tensor, ...]
    #: ``(B, S)`` bool, True = padded; None when nothing is.
    padding: Tensor | None
    #: ``(B, L, 2)`` float32: unpadded share (x, y) of every map.
    valid_ratios: Tensor
    #: per image and map: unpadded (rows, columns).
    valid_sizes: tuple[tuple[tuple[int, int], ...], ...]

    @property
    def sizes(self) -> list[int]:
        """Cells of every map."""
        return [h * w for h, w in self.shapes]

    def flatten(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps ``(B, C, h, w)`` as tokens ``(B, S, C)``."""
        return torch.cat([m.flatten(2).transpose(1, 2) for m in maps], dim=1)

    def unflatten(self, tokens: Tensor) -> list[Tensor]:
        """Tokens ``(B, S, C)`` as maps ``(B, C, h, w)``."""
        return [
            part.transpose(1, 2).unflatten(2, shape)
            for part, shape in zip(tokens.split(self.sizes, dim=1), self.shapes, strict=True)
        ]

    def centres(self) -> Tensor:
        """Cell centres ``(B, S, 2)`` as (x, y), 1 = the end of the unpadded part of the cell's map."""
        device = self.valid_ratios.device
        valid = torch.tensor(self.valid_sizes, dtype=torch.float32, device=device)  # (B, L, 2)
        grids = []
        for level, (h, w) in enumerate(self.shapes):
            y = torch.arange(h, dtype=torch.float32, device=device) + 0.5
            x = torch.arange(w, dtype=torch.float32, device=device) + 0.5
            y = y / valid[:, level, 0, None]  # (B, h)
            x = x / valid[:, level, 1, None]
            grid = torch.stack([x[:, None, :].expand(-1, h, -1), y[:, :, None].expand(-1, -1, w)], dim=-1)
            grids.append(grid.flatten(1, 2))
        return torch.cat(grids, dim=1)


def build_levels(
    image_sizes: Sequence[tuple[int, int]],
    padded_size: tuple[int, int],
    shapes: Sequence[tuple[int, int]],
    device: torch.device,
) -> Levels:
    """The geometry of a batch.

    The padding mask of a map is the image's mask at nearest neighbours. All is computed on the
    host from the sizes, so no step waits for the device.

    Args:
        image_sizes: (height, width) of every image in pixels, before padding.
        padded_size: common (height, width) of the batch in pixels.
        shapes: (h, w) of every map in cells.
        device: where the tensors shall live.
    """
    valid_sizes = tuple(
        tuple(
            (_valid_cells(height, padded_size[0], h), _valid_cells(width, padded_size[1], w))
            for h, w in shapes
        )
        for height, width in image_sizes
    )
    paddings = []
    for level, (h, w) in enumerate(shapes):
        mask = torch.ones(len(image_sizes), h, w, dtype=torch.bool)
        for image, sizes in enumerate(valid_sizes):
            mask[image, : sizes[level][0], : sizes[level][1]] = False
        paddings.append(mask)
    flat = torch.cat([mask.flatten(1) for mask in paddings], dim=1)
    extent = torch.tensor(shapes, dtype=torch.float32)
    ratios = (torch.tensor(valid_sizes, dtype=torch.float32) / extent).flip(-1)
    return Levels(
        shapes=tuple((int(h), int(w)) for h, w in shapes),
        paddings=tuple(mask.to(device) for mask in paddings),
        padding=flat.to(device) if bool(flat.any()) else None,
        valid_ratios=ratios.to(device),
        valid_sizes=valid_sizes,
    )


def _valid_cells(length: int, padded: int, cells: int) -> int:
    """Unpadded cells of one axis of a map, at nearest neighbours."""
    inside = torch.zeros(1, 1, padded)
    inside[..., :length] = 1
    return int(F.interpolate(inside, size=cells).sum())
