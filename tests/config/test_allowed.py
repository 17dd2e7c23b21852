"""The table of allowed values: whole, true to the code that reads the keys, and said in one line."""

from __future__ import annotations

import re
from typing import Any

import pytest
from detectron2.config import get_cfg

from sor_ppa import add_sor_config
from sor_ppa.backbone.vovnet import VOVNET_SPECS
from sor_ppa.config import ConfigError, check_config
from sor_ppa.config.allowed import ALONE, flat
from sor_ppa.config.together import TOGETHER
from sor_ppa.layers.iou_loss import LOC_LOSSES
from sor_ppa.ranking.decode import DECODERS
from sor_ppa.salience_detr.backbones import ARCHITECTURES
from tests.models import REPO, make_cfg

PPA, MASK_RCNN = "configs/sor/ppa.yaml", "configs/sor/exp/maskrcnn.yaml"
SALIENCE = "configs/salience_detr/ppa_salience_detr_R_50.yaml"
SIAMESE = "configs/siamese_detr/ranking_conditional_detr_R_50.yaml"
PRETRAIN = "configs/siamese_detr/pretrain_deformable_ms_300q_imagenet.yaml"
INSPYRENET = "configs/inspyrenet/inspyrenet_swin_b.yaml"
# base files alone describe no model
CONFIGS = sorted(
    str(path.relative_to(REPO))
    for path in (REPO / "configs").rglob("*.yaml")
    if not path.name.startswith("Base-")
)


def test_every_key_has_a_rule_and_every_rule_a_key() -> None:
    cfg = get_cfg()
    add_sor_config(cfg)
    keys = {key for key, default in flat(cfg) if default is not None}
    described = set(ALONE)
    assert keys - described == set()
    described |= {key for when, rules in TOGETHER for key in (*when, *rules)}
    later = {"DATALOADER.RANDOM_SUBSET_RATIO"}  # of detectron2 after 0.6
    assert described - set(dict(flat(cfg))) <= later


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("MODEL.VOVNET.CONV_BODY", VOVNET_SPECS),
        ("MODEL.PYRAMID_BACKBONE.ARCH", ARCHITECTURES),
        ("MODEL.FCOS.LOC_LOSS_TYPE", LOC_LOSSES),
        ("MODEL.SOR.DECODE", DECODERS),
    ],
)
def test_names_are_those_that_the_code_knows(key: str, names: Any) -> None:
    assert set(re.findall(r"'([^']*)'", ALONE[key].expected(get_cfg()))) == set(names)


@pytest.mark.parametrize("config", CONFIGS)
def test_every_config_passes(config: str) -> None:
    check_config(make_cfg(config))


@pytest.mark.parametrize(
    ("config", "key", "value"),
    [
        (PPA, "MODEL.META_ARCHITECTURE", "Nope"),
        (PPA, "MODEL.PROPOSAL_GENERATOR.NAME", "Nope"),
        (PPA, "MODEL.ROI_MASKIOU_HEAD.NAME", "Nope"),
        (MASK_RCNN, "MODEL.ROI_BOX_HEAD.NAME", "Nope"),
        (MASK_RCNN, "MODEL.RPN.IN_FEATURES", ["p9"]),
        (MASK_RCNN, "MODEL.SOR.NAME", ""),
        (MASK_RCNN, "MODEL.ROI_MASK_HEAD.POOLER_TYPE", ""),
        (PPA, "MODEL.MASK_ON", False),
        (PPA, "MODEL.MASK_ON", None),
        (PPA, "MODEL.KEYPOINT_ON", True),
        (PPA, "MODEL.PIXEL_STD", [1.0]),
        (PPA, "MODEL.VOVNET.NORM", "XN"),
        (PPA, "MODEL.VOVNET.STAGE_WITH_DCN", (True,)),
        (PPA, "MODEL.FPN.IN_FEATURES", ["stage2"]),
        (PPA, "MODEL.FPN.OUT_CHANNELS", 20),
        (PPA, "MODEL.FCOS.FPN_STRIDES", [8, 16, 32, 64, 100]),
        (PPA, "MODEL.FCOS.SIZES_OF_INTEREST", [64, 32, 256, 512]),
        (PPA, "MODEL.FCOS.PRIOR_PROB", float("nan")),
        (PPA, "MODEL.FCOS.NUM_CLASSES", True),
        (PPA, "MODEL.ROI_HEADS.IN_FEATURES", ["p9"]),
        (PPA, "MODEL.ROI_HEADS.NUM_CLASSES", 3),
        (PPA, "MODEL.ROI_HEADS.IOU_LABELS", [0, -1, 1]),
        (PPA, "MODEL.SOR.NUM_RANKS", "five"),
        (PPA, "MODEL.SOR.TRANSFORMER.D_MODEL", 512),
        (PPA, "MODEL.SOR.TRANSFORMER.N_HEAD", 3),
        (SALIENCE, "MODEL.ROI_HEADS.NUM_CLASSES", 5),
        (SALIENCE, "MODEL.SALIENCE_DETR.NUM_HEADS", 7),
        (SALIENCE, "MODEL.SALIENCE_DETR.IN_FEATURES", ["res9"]),
        (SALIENCE, "MODEL.SALIENCE_DETR.LAYER_FILTER_RATIO", [1.0, 0.5]),
        (SALIENCE, "MODEL.SALIENCE_DETR.LABEL_IDS", [91]),
        (SALIENCE, "MODEL.SALIENCE_DETR.NUM_LEVELS", 2),
        (SIAMESE, "MODEL.ROI_HEADS.IN_FEATURES", ["p6"]),
        (SIAMESE, "MODEL.SIAMESE_DETR.BOX_REFINE", True),
        (PRETRAIN, "MODEL.SIAMESE_DETR.NUM_QUERIES", 101),
        (PRETRAIN, "MODEL.SIAMESE_DETR.NUM_FEATURE_LEVELS", 2),
        (PRETRAIN, "SOLVER.IMS_PER_BATCH", 1),
        (INSPYRENET, "MODEL.INSPYRENET.BASE_SIZE", 100),
        (INSPYRENET, "MODEL.INSPYRENET.ROTATION_RANGE", [10, 10]),
        (INSPYRENET, "INPUT.FORMAT", "L"),
        (PPA, "INPUT.LSJ.MAX_SCALE", 0.01),
        (PPA, "INPUT.CROP.SIZE", [2.0, 0.5]),
        (PPA, "DATASETS.SOD", ["name="]),
        (PPA, "SOLVER.STEPS", (20, 10)),
        (PPA, "OUTPUT_DIR", 5),
    ],
)
def test_a_wrong_value_is_one_line_with_its_key(config: str, key: str, value: Any) -> None:
    cfg = node = make_cfg(config)
    *path, name = key.split(".")
    for part in path:
        node = node[part]
    node[name] = value  # as a program sets it: merging would check the type
    with pytest.raises(ConfigError, match=rf"\A{re.escape(key)}: expected .*, found .*\Z"):
        check_config(cfg)


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            {"MODEL__SOR__DECODE": "best"},
            "MODEL.SOR.DECODE: expected one of 'greedy', 'all', 'utility', found 'best'",
        ),
        (
            {"MODEL__FCOS__NUM_CLASSES": 5},
            "MODEL.ROI_HEADS.NUM_CLASSES: expected 5 (classes of MODEL.FCOS), found 1",
        ),
        (
            {"MODEL__SOR__RANK_BY": "saliency"},
            "MODEL.SOR.REFINER.CONFIG: expected the path of a saliency model's config, a file that exists, "
            "found ''",
        ),
        (
            {"TEST__AUG__ENABLED": True, "TEST__AUG__SCALES": ()},
            "TEST.AUG.SCALES: expected at least one, each giving 1 to 65535 pixels of INPUT.MIN_SIZE_TEST, "
            "found ()",
        ),
        (
            {"SOLVER__STEPS": (1, "2")},
            "SOLVER.STEPS: expected a list, each a whole number from 0 to 1000000000, in rising order, "
            "found (1, '2')",
        ),
    ],
)
def test_a_line_says_what_is_allowed_and_why(overrides: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_config(make_cfg(PPA, **overrides))
    assert str(error.value) == line
