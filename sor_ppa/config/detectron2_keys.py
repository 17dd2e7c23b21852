"""What detectron2's keys may be by themselves, as far as this package or its users set them."""

from __future__ import annotations

from detectron2.config import get_cfg
from detectron2.modeling import ANCHOR_GENERATOR_REGISTRY, BACKBONE_REGISTRY, META_ARCH_REGISTRY
from detectron2.modeling.proposal_generator.rpn import RPN_HEAD_REGISTRY

from . import rules as r

__all__ = ["DETECTRON2"]

_IMAGE_SIZE = r.whole(0, r.MANY)
_BOX_LOSS = r.one_of("smooth_l1", "giou", "diou", "ciou")
_POOLERS = ("ROIAlignV2", "ROIAlign", "ROIPool", "ROIAlignRotated")
_SAMPLERS = (
    "TrainingSampler",
    "RepeatFactorTrainingSampler",
    "RandomSubsetTrainingSampler",
    "ShardTrainingSampler",  # [new] each process reads its own part of the shards in each epoch
)
_SCHEDULES = ["WarmupMultiStepLR", "WarmupCosineLR", "WarmupPolynomialLR"]
if "NUM_DECAYS" in get_cfg().SOLVER:  # detectron2 after 0.6
    _SCHEDULES.append("WarmupStepWithFixedGammaLR")

_MODEL = {
    "META_ARCHITECTURE": r.registered(META_ARCH_REGISTRY),
    "PIXEL_MEAN": r.each(r.NUMBER),
    "PIXEL_STD": r.each(r.POSITIVE),
    "BACKBONE.NAME": r.registered(BACKBONE_REGISTRY),
    "BACKBONE.FREEZE_AT": r.whole(-1, 100),
    "FPN.OUT_CHANNELS": r.CHANNELS,
    "FPN.FUSE_TYPE": r.one_of("sum", "avg"),
    "FPN.NORM RESNETS.NORM ROI_BOX_HEAD.NORM ROI_MASK_HEAD.NORM": r.NORM,
    "RESNETS.DEPTH": r.one_of(18, 34, 50, 101, 152),
    "RESNETS.OUT_FEATURES": r.each(r.one_of("stem", "res2", "res3", "res4", "res5")),
    "RESNETS.NUM_GROUPS RESNETS.WIDTH_PER_GROUP RESNETS.DEFORM_NUM_GROUPS": r.whole(1, 4096),
    "RESNETS.RES2_OUT_CHANNELS RESNETS.STEM_OUT_CHANNELS": r.CHANNELS,
    "RESNETS.RES5_DILATION": r.one_of(1, 2),
    "RESNETS.DEFORM_ON_PER_STAGE": r.each(r.SWITCH, length=4),
    "ANCHOR_GENERATOR.NAME": r.registered(ANCHOR_GENERATOR_REGISTRY),
    "ANCHOR_GENERATOR.SIZES ANCHOR_GENERATOR.ASPECT_RATIOS": r.each(r.each(r.POSITIVE)),
    "RPN.HEAD_NAME": r.registered(RPN_HEAD_REGISTRY),
    "RPN.IN_FEATURES ROI_HEADS.IN_FEATURES": r.NAMES,
    "RPN.IOU_THRESHOLDS ROI_HEADS.IOU_THRESHOLDS": r.rising(r.each(r.SHARE)),
    "RPN.IOU_LABELS ROI_HEADS.IOU_LABELS": r.each(r.one_of(-1, 0, 1)),
    "RPN.BATCH_SIZE_PER_IMAGE ROI_HEADS.BATCH_SIZE_PER_IMAGE": r.COUNT,
    "RPN.PRE_NMS_TOPK_TRAIN RPN.PRE_NMS_TOPK_TEST": r.COUNT,
    "RPN.POST_NMS_TOPK_TRAIN RPN.POST_NMS_TOPK_TEST": r.COUNT,
    "RPN.POSITIVE_FRACTION RPN.NMS_THRESH ROI_HEADS.NMS_THRESH_TEST": r.SHARE,
    "RPN.LOSS_WEIGHT RPN.BBOX_REG_LOSS_WEIGHT RPN.SMOOTH_L1_BETA": r.NOT_NEGATIVE,
    "RPN.BBOX_REG_LOSS_TYPE ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE": _BOX_LOSS,
    "RPN.BBOX_REG_WEIGHTS ROI_BOX_HEAD.BBOX_REG_WEIGHTS": r.each(r.POSITIVE),
    "PROPOSAL_GENERATOR.MIN_SIZE": r.NOT_NEGATIVE,
    "ROI_HEADS.NUM_CLASSES": r.CLASSES,
    "ROI_HEADS.POSITIVE_FRACTION": r.ABOVE_ZERO_SHARE,
    "ROI_BOX_HEAD.POOLER_RESOLUTION ROI_MASK_HEAD.POOLER_RESOLUTION": r.FEW,
    "ROI_BOX_HEAD.POOLER_SAMPLING_RATIO ROI_MASK_HEAD.POOLER_SAMPLING_RATIO": r.whole(0, 1000),
    "ROI_BOX_HEAD.POOLER_TYPE": r.one_of(*_POOLERS),
    "ROI_MASK_HEAD.POOLER_TYPE": r.one_of(*_POOLERS, ""),
    "ROI_BOX_HEAD.NUM_FC ROI_BOX_HEAD.NUM_CONV ROI_MASK_HEAD.NUM_CONV": r.LAYERS_OR_NONE,
    "ROI_BOX_HEAD.FC_DIM ROI_BOX_HEAD.CONV_DIM ROI_MASK_HEAD.CONV_DIM": r.CHANNELS,
    "ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT ROI_BOX_HEAD.SMOOTH_L1_BETA": r.NOT_NEGATIVE,
}

_INPUT = {
    "MIN_SIZE_TRAIN": r.each(_IMAGE_SIZE),
    "MIN_SIZE_TRAIN_SAMPLING": r.one_of("choice", "range"),
    "MIN_SIZE_TEST": _IMAGE_SIZE,
    "MAX_SIZE_TRAIN MAX_SIZE_TEST": r.whole(1, 2**63 - 1),
    "RANDOM_FLIP": r.one_of("none", "horizontal", "vertical"),
    "CROP.TYPE": r.one_of("relative", "relative_range", "absolute", "absolute_range"),
    "CROP.SIZE": r.each(r.POSITIVE, length=2),
    "FORMAT": r.one_of("BGR", "RGB"),
    "MASK_FORMAT": r.one_of("polygon", "bitmask"),
}

_DATA = {
    "DATASETS.TRAIN DATASETS.TEST": r.each(r.TEXT, least=0),
    "DATASETS.PROPOSAL_FILES_TRAIN DATASETS.PROPOSAL_FILES_TEST": r.each(r.TEXT, least=0),
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST": r.COUNT,
    "DATALOADER.NUM_WORKERS": r.whole(0, 1024),
    "DATALOADER.SAMPLER_TRAIN": r.one_of(*_SAMPLERS),
    "DATALOADER.REPEAT_THRESHOLD": r.SHARE,
    "DATALOADER.RANDOM_SUBSET_RATIO": r.ABOVE_ZERO_SHARE,
    "TEST.EVAL_PERIOD VIS_PERIOD": r.COUNT_OR_ZERO,
    "TEST.DETECTIONS_PER_IMAGE": r.whole(1, 1_000_000),
    "TEST.AUG.MAX_SIZE": r.SIDE,
    "TEST.PRECISE_BN.NUM_ITER": r.COUNT,
    "SEED": r.whole(-1, 4_000_000_000),
}

_SOLVER = {
    "MAX_ITER CHECKPOINT_PERIOD": r.COUNT,
    "BASE_LR WEIGHT_DECAY WEIGHT_DECAY_NORM WARMUP_FACTOR": r.NOT_NEGATIVE,
    "WEIGHT_DECAY_BIAS BIAS_LR_FACTOR": r.either(r.NOT_NEGATIVE, r.one_of(None)),
    "MOMENTUM": r.BELOW_ONE,
    "GAMMA": r.POSITIVE,
    "LR_SCHEDULER_NAME": r.one_of(*_SCHEDULES),
    "STEPS": r.rising(r.each(r.COUNT_OR_ZERO, least=0)),
    "WARMUP_ITERS": r.COUNT_OR_ZERO,
    "WARMUP_METHOD": r.one_of("linear", "constant"),
    "IMS_PER_BATCH": r.whole(1, 1_000_000),
    "REFERENCE_WORLD_SIZE": r.whole(0, 1_000_000),
    "CLIP_GRADIENTS.CLIP_TYPE": r.one_of("value", "norm", "full_model"),
    "CLIP_GRADIENTS.CLIP_VALUE": r.POSITIVE,
    "CLIP_GRADIENTS.NORM_TYPE": r.number("(0, inf]"),
}

DETECTRON2: dict[str, r.Rule] = {
    **r.below("MODEL", _MODEL),
    **r.below("INPUT", _INPUT),
    **r.below("SOLVER", _SOLVER),
    **r.below("", _DATA),
}
