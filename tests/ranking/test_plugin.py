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
from detectron2.structures import BitMasks, Boxes, ImageList, Instances
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
)
from tests.centermask.test_batches import images, same
from tests.models import REPO


def BoxesAlone(cfg: CfgNode, input_shape: ShapeSpec) -> RankingHead:
    """The variant of the documentation."""
    return RankingHead(cfg, input_shape, position="box", interaction=False)


class WiderHead(RankingHead):
    """A subclass that describes objects in its own way."""

    def describe(self, *args: Any) -> Tensor:
        return super().describe(*args).tanh()


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
        if targets is not None:
            boxes, sizes = [t.gt_boxes.tensor for t in targets], [t.image_size for t in targets]
        else:
            boxes, sizes = [p.pred_boxes.tensor for p in proposals], [p.image_size for p in proposals]
        maps = pyramid_maps(levels, self.strides, sizes, self.options)
        pooled, positions = self.pooler([levels, maps], boxes, sizes)
        masks = pooled.new_ones(len(pooled), 1, 28, 28)
        arguments = (self.sor_head, pooled, masks, positions, boxes, sizes)
        if targets is not None:
            ranks = torch.cat([t.gt_ranks for t in targets])
            return proposals, ranking_losses(*arguments, ranks, self.options)
        ranked = predict_ranks(*arguments, self.options)
        counts = [len(b) for b in boxes]
        parts = zip(proposals, ranked.ranks.split(counts), ranked.scores.split(counts), strict=True)
        for item, item_ranks, scores in parts:
            item.pred_ranks, item.pred_rank_scores = item_ranks, scores
        return proposals, {}


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    entries = [(SOR_HEAD_REGISTRY, BoxesAlone), (SOR_HEAD_REGISTRY, WiderHead)]
    entries += [(BACKBONE_REGISTRY, OddBackbone), (ROI_HEADS_REGISTRY, BoxRanker)]
    for registry, entry in entries:
        registry.register(entry)
    yield
    for registry, entry in entries:
        del registry._obj_map[entry.__name__]


def config(tmp_path: Path, model: str) -> CfgNode:
    """A YAML file of one's own on top of the demonstration."""
    file = tmp_path / "own.yaml"
    base = REPO / "configs/sor/demo.yaml"
    file.write_text(f"_BASE_: {base}\nMODEL:\n  DEVICE: cpu\n  WEIGHTS: ''\n{model}")
    return load_config(file, ["MODEL.FCOS.INFERENCE_TH_TEST", "0.005"])


def example() -> dict[str, Any]:
    instances = Instances((96, 128))
    instances.gt_boxes = Boxes(torch.tensor([[4.0, 8, 60, 70], [50, 20, 120, 90]]))
    instances.gt_classes = torch.zeros(2, dtype=torch.int64)
    instances.gt_masks = BitMasks(torch.ones(2, 96, 128, dtype=torch.bool))
    instances.gt_ranks = torch.tensor([4, 3])
    return {**images([(96, 128)])[0], "instances": instances}


OWN = {
    "head": "  SOR: {NAME: BoxesAlone}\n",
    "subclass": "  SOR: {NAME: WiderHead}\n",
    "backbone": "  BACKBONE: {NAME: OddBackbone}\n",
    "detector": "  ROI_HEADS: {NAME: BoxRanker}\n  MASK_ON: False\n",
}


@pytest.mark.parametrize("own", OWN)
def test_what_a_yaml_names_trains_and_answers_alike_in_a_batch(own: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    cfg = config(tmp_path, OWN[own])
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
