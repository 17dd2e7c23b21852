"""Files as the published code ships them: keys, names, weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model

from sor_ppa import add_sor_config
from sor_ppa.checkpoint import SORCheckpointer
from sor_ppa.config import load_config
from tests.models import REPO, fill_published
from tests.parity import parity_dir

# what the published base file and ppa.yaml set, and no more
PUBLISHED = """
MODEL:
  META_ARCHITECTURE: "GeneralizedRCNN"
  BACKBONE: {NAME: "build_fcos_vovnet_fpn_backbone", FREEZE_AT: 0}
  VOVNET: {CONV_BODY: "V-39-eSE", OUT_FEATURES: ["stage3", "stage4", "stage5"]}
  FPN: {IN_FEATURES: ["stage3", "stage4", "stage5"]}
  PROPOSAL_GENERATOR: {NAME: "FCOS"}
  FCOS: {POST_NMS_TOPK_TEST: 50, NUM_CLASSES: 1}
  MASK_ON: True
  MASKIOU_ON: True
  ROI_HEADS: {NAME: "CenterROIHeads", IN_FEATURES: ["p3", "p4", "p5"], NUM_CLASSES: 1}
  ROI_MASK_HEAD:
    {NAME: "SpatialAttentionMaskHead", ASSIGN_CRITERION: "ratio", NUM_CONV: 4, POOLER_RESOLUTION: 14}
  DET_WEIGHTS: 1.0
  SOR:
    NAME: "SelfAttentionWithPosConvCat"
    CONV_DIM: 256
    NUM_CONV: 4
    DENSE_DIM: 1024
    OBJ_DIM: 1024
    TRANSFORMER: {D_MODEL: 1024, N_HEAD: 4, LAYERS: 4, USE_POS: True}
"""
RICH = [
    ["proposal_generator.fcos_head.bbox_pred.bias", "set", 4.0],
    ["roi_heads.sor_head.sor.weight", "scale", 8.0],
]


def merged(file: Path) -> CfgNode:
    """Read a file as detectron2's users do."""
    cfg = get_cfg()
    add_sor_config(cfg)
    cfg.merge_from_file(str(file))
    return cfg


@torch.no_grad()
@pytest.mark.parametrize("load", [load_config, merged], ids=["load_config", "detectron2"])
def test_published_file_and_checkpoint_give_our_network(
    load: Callable[[Path], CfgNode], tmp_path: Path
) -> None:
    file, weights = tmp_path / "ppa.yaml", tmp_path / "model_final.pth"
    file.write_text(PUBLISHED)
    case = {"model_state": "state_ppa_v39.json", "weight_gain": 1.0, "weight_overrides": RICH}
    torch.save({"model": fill_published(case, parity_dir("ppa"))}, weights)
    image = {"image": torch.rand((3, 120, 200), generator=torch.Generator().manual_seed(0)) * 255}
    answers = []
    for cfg in (load(file), load_config(REPO / "configs/sor/ppa.yaml")):
        cfg.MODEL.DEVICE = "cpu"
        model = build_model(cfg).eval()
        assert model.proposal_generator.test_options.threshold == 0.3  # of the published script
        SORCheckpointer(model).load(str(weights), complete=True)
        answers.append(model([image])[0]["instances"])
    assert len(answers[0]) > 0
    assert answers[0].pred_ranks.tolist() == answers[1].pred_ranks.tolist()
    assert torch.equal(answers[0].pred_boxes.tensor, answers[1].pred_boxes.tensor)
