"""Models and pictures that several benchmarks measure."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = ["load_ours", "load_published", "smooth_picture", "training_batch"]


def load_published(checkout: str, config: str, options: Sequence[str]) -> tuple[Any, Any]:
    """Return the published CenterMask model on the CPU with random weights, and its configuration.

    Args:
        checkout: folder ``sor_ppa`` of the published code.
        config: file below that folder.
        options: KEY VALUE pairs.
    """
    sys.path.insert(0, checkout)

    def keep_device(self: Any, *_: Any, **__: Any) -> Any:
        return self

    torch.Tensor.cuda = keep_device  # type: ignore[method-assign] # its position maps call .cuda()
    import centermask
    from centermask.config import get_cfg
    from detectron2.modeling import build_model

    assert centermask.__file__.startswith(checkout)
    cfg = get_cfg()
    cfg.merge_from_file(f"{checkout}/{config}")
    cfg.merge_from_list(["MODEL.DEVICE", "cpu", *options])
    return build_model(cfg), cfg


def load_ours(config: str, options: Sequence[str], weights: str = "") -> tuple[Any, Any]:
    """Return our model on the CPU, with random weights or those of a file, and its configuration."""
    from sor_ppa.building import build_checked_model
    from sor_ppa.checkpoint import SORCheckpointer
    from sor_ppa.config import load_config

    cfg = load_config(config, ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", *options])
    model = build_checked_model(cfg)
    if weights and Path(weights).exists():
        SORCheckpointer(model).load(weights, checkpointables=[])
    return model, cfg


def smooth_picture(height: int, width: int, seed: int = 0) -> Tensor:
    """Return a smooth random picture (3, H, W) with values from 0 to 255."""
    coarse = torch.rand(1, 3, 12, 16, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0].clamp(0, 1) * 255


def training_batch(images: int, height: int, width: int, objects: int = 5) -> list[dict[str, Any]]:
    """Return images with ranked elliptic objects, as a dataset mapper does."""
    from detectron2.structures import Boxes, Instances, PolygonMasks

    generator = torch.Generator().manual_seed(0)
    angle = torch.linspace(0, 6.28, 24)
    batch = []
    for index in range(images):
        size = torch.tensor([width, height])
        center = (0.25 + 0.5 * torch.rand(objects, 2, generator=generator)) * size
        radius = (0.08 + 0.12 * torch.rand(objects, 2, generator=generator)) * size
        outline = center[:, None] + radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
        target = Instances((height, width))
        target.gt_boxes = Boxes(torch.cat([outline.amin(1), outline.amax(1)], 1))
        target.gt_masks = PolygonMasks([[points.double().numpy().ravel()] for points in outline])
        target.gt_classes = torch.zeros(objects, dtype=torch.int64)
        target.gt_ranks = torch.arange(objects)
        item = {"image": smooth_picture(height, width, index), "instances": target}
        batch.append(item | {"height": height, "width": width})
    return batch
