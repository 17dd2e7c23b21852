"""Names of published Mask2Former weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode

from sor_ppa.building import build_checked_model
from sor_ppa.checkpoint import SORCheckpointer, convert_published
from sor_ppa.config import ConfigError, load_config
from tests.mask2former.models import small_ranker
from tests.mask2former.reference import base_config, info


def without_memory(cfg: CfgNode) -> torch.nn.Module:
    """The model of a configuration, with shapes alone."""
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        return build_checked_model(cfg)


def shapes_of(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def test_every_published_name_has_a_place() -> None:
    ours = shapes_of(without_memory(base_config()))
    published = {name: tuple(shape) for name, shape, _, _ in info("state_r50")}
    assert convert_published(published, system="mask2former") == ours
    assert convert_published(ours, system="mask2former") == ours


def test_names_of_older_files_and_of_swin() -> None:
    names = {
        "sem_seg_head.mask_features.weight": "pixel_decoder.mask_features.weight",
        "sem_seg_head.predictor.static_query.weight": "decoder.query_feat.weight",
        "backbone.layers.2.blocks.5.attn.relative_position_bias_table": (
            "backbone.swin.layers.2.blocks.5.attn.relative_position_bias_table"
        ),
        "backbone.norm3.weight": "backbone.swin.norm3.weight",
        "backbone.res2.0.conv1.weight": "backbone.res2.0.conv1.weight",
    }
    published = [*names, "backbone.layers.0.blocks.0.attn.relative_position_index"]
    found = convert_published(dict.fromkeys(published, 0), system="mask2former")
    assert set(found) == set(names.values())


def test_published_yaml_is_read_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "published.yaml"
    file.write_text(
        "MODEL:\n  META_ARCHITECTURE: MaskFormer\n  BACKBONE: {NAME: D2SwinTransformer}\n"
        "  SWIN: {APE: False, PATCH_NORM: True, DROP_PATH_RATE: 0.3}\n"
        "  RESNETS: {STEM_TYPE: basic, RES5_MULTI_GRID: [1, 1, 1]}\n"
        "  SEM_SEG_HEAD: {NAME: MaskFormerHead, IGNORE_VALUE: 255, CONVS_DIM: 256, "
        "IN_FEATURES: [res2, res3, res4, res5]}\n"
        "  MASK_FORMER: {PRE_NORM: False, TEST: {SEMANTIC_ON: False, INSTANCE_ON: True}}\n"
        "SOLVER: {OPTIMIZER: ADAMW}\n"
        "INPUT: {DATASET_MAPPER_NAME: coco_instance_lsj, IMAGE_SIZE: 640}\n"
    )
    cfg = load_config(file)
    assert (cfg.SOLVER.OPTIMIZER, cfg.INPUT.LSJ.ENABLED, cfg.INPUT.LSJ.SIZE) == ("AdamW", True, [640, 640])
    assert type(without_memory(cfg)).__name__ == "Mask2Former"
    cfg = load_config(file, ["INPUT.LSJ.ENABLED", "False", "INPUT.IMAGE_SIZE", "512"])
    assert (cfg.INPUT.LSJ.ENABLED, cfg.INPUT.LSJ.SIZE) == (False, [512, 512])


def test_a_model_of_other_classes_starts_a_ranker(tmp_path: Path) -> None:
    learned = "MODEL.MASK_FORMER.SEEDS", False
    published = small_ranker(*learned, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 80)
    torch.save({"model": published.state_dict()}, tmp_path / "published.pth")
    ranker = small_ranker(*learned, "MODEL.MASK_FORMER.NO_OBJECT_WEIGHT", 0.5)
    torch.nn.init.zeros_(ranker.decoder.query_feat.weight)
    SORCheckpointer(ranker).load(str(tmp_path / "published.pth"))
    assert torch.equal(ranker.decoder.query_feat.weight, published.decoder.query_feat.weight)
    assert ranker.criterion.empty_weight.tolist() == [1.0, 0.5]


@pytest.mark.parametrize("line", ["DATASET_MAPPER_NAME: coco_panoptic_lsj", "COLOR_AUG_SSD: True"])
def test_published_yaml_of_another_task_is_refused(line: str, tmp_path: Path) -> None:
    file = tmp_path / "published.yaml"
    file.write_text(f"INPUT: {{{line}}}\nVERSION: 2")
    with pytest.raises(ConfigError, match=rf"\AINPUT.{line.split(':')[0]}: expected .*, found .*\Z"):
        load_config(file)
