"""Models with weights made by rule, as the parity fixtures describe them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from torch import nn

from sor_ppa import add_sor_config
from sor_ppa.checkpoint import convert_published
from tests.parity import deterministic, parity_dir

REPO = Path(__file__).resolve().parents[1]


def make_cfg(config: str | None = "configs/sor/ppa.yaml", **overrides: Any) -> CfgNode:
    """A CPU config without weights; overrides use ``__`` for dots."""
    cfg = get_cfg()
    add_sor_config(cfg)
    if config is not None:
        cfg.merge_from_file(str(REPO / config))
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    for key, value in overrides.items():
        cfg.merge_from_list([key.replace("__", "."), value])
    return cfg


def published_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Zeros of every published name and shape."""
    return {name: torch.zeros(shape) for name, shape in json.loads(path.read_text())["tensors"]}


def fill_published(case: dict, folder: Path) -> dict[str, torch.Tensor]:
    """The published state dictionary of a case of the manifest."""
    state = deterministic().fill_state_dict(
        published_tensors(folder / case["model_state"]), case["weight_gain"]
    )
    for name, action, value in case["weight_overrides"]:
        state[name] = torch.full_like(state[name], value) if action == "set" else state[name] * value
    return state


def ppa_model(case: dict, cfg: CfgNode | None = None) -> nn.Module:
    """The model of a case of the manifest, in evaluation mode."""
    cfg = make_cfg() if cfg is None else cfg
    for key, value in case.get("cfg_overrides", {}).items():
        cfg.merge_from_list([key, value])
    model = build_model(cfg).eval()
    state = convert_published(fill_published(case, parity_dir("ppa")), system="sor")
    missing = model.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys
    assert set(missing.missing_keys) <= {"pixel_mean", "pixel_std"}
    return model


def ppa_cases() -> dict[str, Any]:
    """The cases of the manifest of PPA, by name."""
    return json.loads((parity_dir("ppa") / "manifest.json").read_text())["cases"]


def polygon_targets(case: dict) -> Instances:
    """The ground truth of a training case of a manifest."""
    objects = case["targets"]
    return Instances(
        (case["image"]["height"], case["image"]["width"]),
        gt_boxes=Boxes(torch.tensor([o["box"] for o in objects])),
        gt_classes=torch.zeros(len(objects), dtype=torch.int64),
        gt_masks=PolygonMasks([[np.array(p) for p in o["polys"]] for o in objects]),
        gt_ranks=torch.tensor([o["rank"] for o in objects]),
    )


def bitmask_targets(size: tuple[int, int], boxes: list[list[int]], ranks: list[int]) -> Instances:
    """Objects of class 0 that fill their boxes."""
    masks = torch.zeros((len(boxes), *size), dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    return Instances(
        size,
        gt_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)),
        gt_classes=torch.zeros(len(boxes), dtype=torch.int64),
        gt_masks=BitMasks(masks),
        gt_ranks=torch.tensor(ranks, dtype=torch.int64),
    )


def as_input(image: dict, **extra: Any) -> dict:
    """A batch element from an image recipe of the manifest."""
    pixels = deterministic().image(image["key"], image["height"], image["width"])
    return {"image": torch.from_numpy(pixels).permute(2, 0, 1).float(), **extra}
