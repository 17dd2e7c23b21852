"""What a researcher adds from outside, by its registered name: a ranking head, a backbone, a detector."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, ROI_HEADS_REGISTRY
from detectron2.modeling.backbone import Backbone
from detectron2.structures import ImageList, Instances
from torch import Tensor, nn

from sor_ppa.building import build_checked_model
from sor_ppa.config import load_config
from sor_ppa.layers import PyramidROIPooler
from sor_ppa.predictor import SORPredictor
from sor_ppa.ranking import (
    SOR_HEAD_REGISTRY,
    RankingHead,
    RankingOptions,
    build_sor_head,
    predict_ranks,
    pyramid_maps,
    ranking_losses,
    set_fields,
)
from tests.centermask.test_batches import images, same
from tests.models import REPO, bitmask_targets


def BoxesAlone(cfg: CfgNode, input_shape: ShapeSpec) -> RankingHead:
    """The variant of the documentation."""
    return RankingHead(cfg, input_shape, position="box", interaction=False)


class OddBackbone(Backbone):
    """A pyramid of plain convolutions that wants no padding to a multiple."""

    def __init__(self, cfg: CfgNode, input_shape: ShapeSpec) -> None:
        super().__init__()
        layers = [nn.Conv2d(input_shape.channels, 32, 8, stride=8)]
        layers += [nn.Conv2d(32, 32, 3, stride=2, padding=1) for _ in range(2)]
        self.layers = nn.ModuleList(layers)
        self._out_features = ["p3", "p4", "p5"]
        self._out_feature_channels = dict.fromkeys(self._out_features, 32)
        self._out_feature_strides = {"p3": 8, "p4": 16, "p5": 32}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x, features = x / 100, {}
        for name, layer in zip(self._out_features, self.layers, strict=True):
            x = features[name] = layer(x).relu()
        return features


class BoxRanker(nn.Module):
    """ROI heads that rank boxes and segment nothing."""

    def __init__(self, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> None:
        super().__init__()
        self.names = cfg.MODEL.ROI_HEADS.IN_FEATURES
        self.strides = [input_shape[name].stride for name in self.names]
        self.pooler = PyramidROIPooler(14, self.strides, 0, "ROIAlignV2", "ratio")
        shape = ShapeSpec(channels=input_shape[self.names[0]].channels, width=14, height=14)
        self.sor_head = build_sor_head(cfg, shape)
        self.options = RankingOptions.from_config(cfg, published_threshold=0.1)

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        levels = [features[name] for name in self.names]
        sizes = [p.image_size for p in proposals]
        boxes = [x.pred_boxes.tensor if targets is None else x.gt_boxes.tensor for x in targets or proposals]
        maps = pyramid_maps(levels, self.strides, sizes, self.options)
        pooled, positions = self.pooler([levels, maps], boxes, sizes)
        masks = pooled.new_ones(len(pooled), 1, 28, 28)
        arguments = (self.sor_head, pooled, masks, positions, boxes, sizes)
        if targets is not None:
            ranks = torch.cat([t.gt_ranks for t in targets])
            return proposals, ranking_losses(*arguments, ranks, self.options)
        ranked = predict_ranks(*arguments, self.options)
        set_fields(proposals, ranked.fields())
        return proposals, {}


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    entries = [(SOR_HEAD_REGISTRY, BoxesAlone), (BACKBONE_REGISTRY, OddBackbone)]
    entries.append((ROI_HEADS_REGISTRY, BoxRanker))
    for registry, entry in entries:
        registry.register(entry)
    yield
    for registry, entry in entries:
        del registry._obj_map[entry.__name__]


def example() -> dict[str, Any]:
    instances = bitmask_targets((96, 128), [[4, 8, 60, 70], [50, 20, 120, 90]], [4, 3])
    return {**images([(96, 128)])[0], "instances": instances}


OWN = {
    "head": "  SOR: {NAME: BoxesAlone}\n",
    "backbone": "  BACKBONE: {NAME: OddBackbone}\n",
    "detector": "  ROI_HEADS: {NAME: BoxRanker}\n  MASK_ON: False\n",
}


@pytest.mark.parametrize("own", OWN)
def test_what_a_yaml_names_trains_and_answers_alike_in_a_batch(own: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    file = tmp_path / "own.yaml"
    base = REPO / "configs/sor/demo.yaml"
    file.write_text(f"_BASE_: {base}\nMODEL:\n  DEVICE: cpu\n  WEIGHTS: ''\n{OWN[own]}")
    cfg = load_config(file, ["MODEL.FCOS.INFERENCE_TH_TEST", "0.005"])
    model: Any = build_checked_model(cfg)
    losses = model.train()([example(), example()])
    losses["sor_loss"].backward()
    assert model.roi_heads.sor_head.sor.weight.grad.abs().sum() > 0

    model.eval()
    batch = images([(96, 128), (128, 96), (65, 130), (96, 128)])
    with torch.no_grad():
        together = [r["instances"] for r in model(batch)]
        for item, found in zip(batch, together, strict=True):
            alone = model([item])[0]["instances"]
            if own == "detector":
                assert alone.pred_ranks.tolist() == found.pred_ranks.tolist()
            else:
                same(alone, found)
    assert sum(len(x) for x in together) > 0

    predictor = SORPredictor(cfg, model=model)
    (answer,) = predictor([np.zeros((70, 90, 3), np.uint8)])
    assert (answer.height, answer.width) == (70, 90)
