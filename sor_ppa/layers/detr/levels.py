"""Feature maps of a padded batch: geometry, flattening, masks and projections to one width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..batching import ceil_divide
from .positions import sine_position_map

Size = tuple[int, int]


@dataclass(frozen=True)
class Levels:
    """Where the cells of a batch's feature maps lie, and which of them are padding.

    S is the number of cells of all L maps together; flattened tensors run map by map, row by row.
    """

    #: (h, w) of every map, finest first.
    shapes: tuple[Size, ...]
    #: per map ``(B, h, w)`` bool, True = padded.
    paddings: tuple[Tensor, ...]
    #: ``(B, S)`` bool, True = padded; None when nothing is.
    padding: Tensor | None
    #: ``(B, L, 2)`` float32: unpadded share (x, y) of every map.
    valid_ratios: Tensor
    #: per image and map: unpadded (rows, columns); one entry where all images have the same.
    valid_sizes: tuple[tuple[Size, ...], ...]

    @property
    def sizes(self) -> list[int]:
        """Cells of every map."""
        return [h * w for h, w in self.shapes]

    @property
    def starts(self) -> list[int]:
        """Index of the first cell of every map among all S."""
        return [sum(self.sizes[:level]) for level in range(len(self.shapes))]

    def flatten(self, maps: Sequence[Tensor]) -> Tensor:
        """Join maps ``(B, C, h, w)`` to tokens ``(B, S, C)``."""
        return torch.cat([m.flatten(2).transpose(1, 2) for m in maps], dim=1)

    def unflatten(self, tokens: Tensor) -> list[Tensor]:
        """Split tokens ``(B, S, C)`` into maps ``(B, C, h, w)``."""
        return [
            part.transpose(1, 2).unflatten(2, shape)
            for part, shape in zip(tokens.split(self.sizes, dim=1), self.shapes, strict=True)
        ]

    def sine_positions(self, dim: int, offset: float, embedding: Tensor | None = None) -> Tensor:
        """Return the sine position embedding of every token, ``(B, S, dim)``; see ``sine_position_map``.

        ``embedding`` ``(L, dim)`` is added to the tokens of each map.
        """
        maps = [sine_position_map(padding, dim // 2, offset=offset) for padding in self.paddings]
        if embedding is not None:
            maps = [m + row.view(1, -1, 1, 1) for m, row in zip(maps, embedding, strict=True)]
        return self.flatten(maps)

    def centers(self) -> Tensor:
        """Return cell centers ``(B, S, 2)`` as (x, y); 1 is the end of the unpadded part of the map."""
        device = self.valid_ratios.device
        valid = torch.tensor(self.valid_sizes, dtype=torch.float32, device=device)  # (B, L, 2)
        grids = []
        for level, (h, w) in enumerate(self.shapes):
            y = (torch.arange(h, device=device) + 0.5) / valid[:, level, 0, None]  # (B, h)
            x = (torch.arange(w, device=device) + 0.5) / valid[:, level, 1, None]
            grid = torch.stack([x[:, None, :].expand(-1, h, -1), y[:, :, None].expand(-1, -1, w)], dim=-1)
            grids.append(grid.flatten(1, 2))
        return torch.cat(grids, dim=1).expand(self.valid_ratios.shape[0], -1, -1)

    def repeated(self, count: int) -> Levels:
        """Return the geometry of ``count`` images of one size from that of one image."""
        paddings = tuple(padding.expand(count, -1, -1) for padding in self.paddings)
        padding = None if self.padding is None else self.padding.expand(count, -1)
        ratios = self.valid_ratios.expand(count, -1, -1)
        return replace(self, paddings=paddings, padding=padding, valid_ratios=ratios)

    def on_every_level(self, reference: Tensor) -> Tensor:
        """Rescale references from the unpadded image to every padded map, for deformable attention.

        Points ``(B, N, 2)`` become ``(B, N, L, 2)``; boxes ``(B, N, 4)`` (cx, cy, w, h) ``(B, N, L, 4)``.
        """
        ratios = self.valid_ratios.repeat(1, 1, reference.shape[-1] // 2)
        return reference.unsqueeze(2) * ratios.unsqueeze(1)


@dataclass(frozen=True)
class Memory:
    """Tokens ``(B, S, C)`` that attention reads; deformable attention needs no positions."""

    tokens: Tensor
    levels: Levels
    positions: Tensor | None = None

    def maps(self) -> list[Tensor]:
        """The tokens as one ``(B, C, h, w)`` map per level."""
        return self.levels.unflatten(self.tokens)


def build_levels(
    image_sizes: Sequence[Size],
    padded_size: Size,
    shapes: Sequence[Size],
    device: torch.device,
    masked: bool | None = None,
) -> Levels:
    """Compute the geometry of a batch.

    The padding mask of a map is the image's mask, sampled at nearest neighbors. Sizes are computed on the
    host, so no step waits for the device.

    Args:
        image_sizes: (height, width) of every image in pixels, before padding.
        padded_size: common (height, width) of the batch in pixels.
        shapes: (h, w) of every map in cells.
        device: of the result's tensors.
        masked: whether the result has ``padding``; None: where something is padded. A graph that is exported
            for all sizes cannot decide by the size.
    """
    valid_sizes = tuple(
        tuple(_valid_shape(size, padded_size, shape) for shape in shapes) for size in image_sizes
    )
    valid = torch.tensor(valid_sizes)  # (B, L, 2)
    paddings = []
    for level, (h, w) in enumerate(shapes):
        rows, columns = valid[:, level].unbind(1)
        below = torch.arange(h) >= rows[:, None]
        right = torch.arange(w) >= columns[:, None]
        paddings.append(below[:, :, None] | right[:, None])
    flat = torch.cat([mask.flatten(1) for mask in paddings], dim=1)
    ratios = (valid / torch.tensor(shapes, dtype=torch.float32)).flip(-1)
    if masked is None:
        masked = bool(flat.any())
    return Levels(
        shapes=tuple((h, w) for h, w in shapes),
        paddings=tuple(mask.to(device) for mask in paddings),
        padding=flat.to(device) if masked else None,
        valid_ratios=ratios.to(device),
        valid_sizes=valid_sizes,
    )


def _valid_shape(size: Size, padded: Size, shape: Size) -> Size:
    """Return the unpadded (rows, columns) of a map, at nearest neighbors."""
    # cell k reads pixel k * whole // cells; those below the length are not padded
    rows, columns = (
        ceil_divide(length * cells, whole) for length, whole, cells in zip(size, padded, shape, strict=True)
    )
    return rows, columns


def level_projections(
    in_channels: Sequence[int], out_channels: int, num_levels: int, bias: bool = False
) -> nn.ModuleList:
    """Build one convolution with GroupNorm per level (Deformable DETR, section 4.1).

    Input maps get a 1x1 convolution. Every further level is a 3x3 convolution of stride 2: the first one
    of the last input map, the others of the output before.

    Args:
        in_channels: channels of the input maps, finest first.
        out_channels: channels of all outputs, a multiple of 32.
        num_levels: number of outputs, at least the number of inputs.
        bias: of the convolutions.
    """
    assert num_levels >= len(in_channels), "a level for every input map"
    convs = [nn.Conv2d(channels, out_channels, 1, bias=bias) for channels in in_channels]
    channels = in_channels[-1]
    for _ in range(num_levels - len(in_channels)):
        convs.append(nn.Conv2d(channels, out_channels, 3, stride=2, padding=1, bias=bias))
        channels = out_channels
    for conv in convs:
        nn.init.xavier_uniform_(conv.weight)
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
    return nn.ModuleList(nn.Sequential(conv, nn.GroupNorm(32, out_channels)) for conv in convs)


def project_levels(projections: nn.ModuleList, maps: Sequence[Tensor]) -> list[Tensor]:
    """Apply :func:`level_projections` to maps ``(B, in_channels[i], h, w)``, finest first."""
    outputs = [projection(x) for projection, x in zip(projections, maps, strict=False)]
    extra = maps[-1]
    for projection in projections[len(maps) :]:
        extra = projection(extra)
        outputs.append(extra)
    return outputs
