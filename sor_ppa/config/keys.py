"""Every configuration key of this package: a comment, the default, and what the value may be by itself.

The keys of the published salient object ranking code and of CenterMask2, on which it is based, keep their
names, so its YAML files load unchanged. Keys without a published counterpart are marked ``[new]``.
"""

from __future__ import annotations

import copy

from detectron2.config import CfgNode

from ..visualization.rank_maps import PAINTERS
from . import contrast, inspyrenet, mask2former, salience_detr, siamese_detr
from . import rules as r
from .registries import SOR_HEAD_REGISTRY
from .thresholds import DEFAULT_SCORE_THRESH

__all__ = ["KEYS", "add_sor_config"]

_VOVNETS = (
    "V-19-slim-dw-eSE",
    "V-19-dw-eSE",
    "V-19-slim-eSE",
    "V-19-eSE",
    "V-39-eSE",
    "V-57-eSE",
    "V-99-eSE",
)
_STAGES = ["stage2", "stage3", "stage4", "stage5"]

_VOVNET: r.Keys = {
    "CONV_BODY": ("V-39-eSE", r.one_of(*_VOVNETS)),
    # Feature maps that the backbone returns.
    "OUT_FEATURES": (_STAGES, r.each(r.one_of("stem", *_STAGES))),
    "NORM": ("FrozenBN", r.NORM),
    # For published files only, without effect; the FPN's width is MODEL.FPN.OUT_CHANNELS.
    "OUT_CHANNELS BACKBONE_OUT_CHANNELS": (256, r.CHANNELS),
    # Deformable convolutions in stage 2, 3, 4, 5.
    "STAGE_WITH_DCN": ((False, False, False, False), r.each(r.SWITCH, length=4)),
    # Modulated (v2) deformable convolutions.
    "WITH_MODULATED_DCN": (False, r.SWITCH),
    # Offset groups of the deformable convolutions.
    "DEFORMABLE_GROUPS": (1, r.one_of(1, 2, 4, 8, 16, 32)),
}

_FCOS: r.Keys = {
    # Number of foreground classes (salient object ranking has one).
    "NUM_CLASSES": (1, r.CLASSES),
    # FPN levels that the head runs on, and their strides in pixels.
    "IN_FEATURES": (["p3", "p4", "p5", "p6", "p7"], r.NAMES),
    "FPN_STRIDES": ([8, 16, 32, 64, 128], r.each(r.SIDE)),
    # Foreground probability at initialization (bias of the classifier).
    "PRIOR_PROB": (0.01, r.number("(0, 1)")),
    # Class probability a location must exceed to become a proposal, in training and in inference; where
    # no file names the latter, it is 0.3 with a ranking head, as in the published script, else 0.05.
    "INFERENCE_TH_TRAIN": (0.05, r.SHARE),
    "INFERENCE_TH_TEST": (DEFAULT_SCORE_THRESH, r.SHARE),
    # IoU above which non-maximum suppression removes a box.
    "NMS_TH": (0.6, r.AT_MOST_ONE),
    # Candidates per level before, and boxes per image after, suppression.
    "PRE_NMS_TOPK_TRAIN PRE_NMS_TOPK_TEST": (1000, r.COUNT),
    "POST_NMS_TOPK_TRAIN POST_NMS_TOPK_TEST": (100, r.whole(-1, r.MANY)),
    # Extra FPN levels on top of p5: 2 (p6, p7), 1 (p6) or 0.
    "TOP_LEVELS": (2, r.one_of(0, 1, 2)),
    # Normalization in the towers; "" means "none".
    "NORM": ("GN", r.one_of("GN", "none", "")),
    # A learned factor per level on the box distances.
    "USE_SCALE": (True, r.SWITCH),
    # Multiply by centerness before, rather than after, the threshold.
    "THRESH_WITH_CTR": (False, r.SWITCH),
    # Focal loss: weight of the positives and focusing exponent.
    "LOSS_ALPHA": (0.25, r.AT_MOST_ONE),
    "LOSS_GAMMA": (2.0, r.NOT_NEGATIVE),
    # Largest side distance (pixels) of objects assigned to each level but the last.
    "SIZES_OF_INTEREST": ([64, 128, 256, 512], r.rising(r.each(r.POSITIVE, least=0))),
    # For published files only: distances always pass a ReLU.
    "USE_RELU": (True, r.SWITCH),
    # Deformable convolutions in the box and shared towers.
    "USE_DEFORMABLE": (False, r.SWITCH),
    # Number of convolutions in the class, box and shared towers.
    "NUM_CLS_CONVS NUM_BOX_CONVS": (4, r.LAYERS_OR_NONE),
    "NUM_SHARE_CONVS": (0, r.LAYERS_OR_NONE),
    # Train only locations near the center of an object, within POS_RADIUS strides, as positives.
    "CENTER_SAMPLE": (True, r.SWITCH),
    "POS_RADIUS": (1.5, r.POSITIVE),
    # Box loss.
    "LOC_LOSS_TYPE": ("giou", r.one_of("iou", "linear_iou", "giou")),
}

_CRITERION = r.one_of("ratio", "area")

_ROI_HEADS: r.Keys = {
    # As MODEL.FCOS.INFERENCE_TH_TEST, for the box head of Mask R-CNN.
    "ROI_HEADS.SCORE_THRESH_TEST": (DEFAULT_SCORE_THRESH, r.SHARE),
    # Rule that assigns a box to an FPN level: "area" (FPN, eq. 1) or "ratio" (CenterMask, eq. 2).
    "ROI_MASK_HEAD.ASSIGN_CRITERION": ("area", _CRITERION),
    # Predict the IoU of each mask, and the weight of that loss.
    "MASKIOU_ON": (False, r.SWITCH),
    "MASKIOU_LOSS_WEIGHT": (1.0, r.NOT_NEGATIVE),
    # Registered name, channels and number of convolutions of the mask IoU head.
    "ROI_MASKIOU_HEAD.NAME": ("MaskIoUHead", r.TEXT),
    "ROI_MASKIOU_HEAD.CONV_DIM": (256, r.CHANNELS),
    "ROI_MASKIOU_HEAD.NUM_CONV": (4, r.LAYERS),
    # Levels and assignment rule of the keypoint head of CenterMask2.
    "ROI_KEYPOINT_HEAD.IN_FEATURES": (["p2", "p3", "p4", "p5"], r.NAMES),
    "ROI_KEYPOINT_HEAD.ASSIGN_CRITERION": ("ratio", _CRITERION),
}

_RANKING: r.Keys = {
    # Registered name of the ranking head; "" for a detector without ranks, evaluated by COCO AP.
    "NAME": ("SinglePredictor", r.registered(SOR_HEAD_REGISTRY, "")),
    # Number of ranks K.
    "NUM_RANKS": (5, r.FEW),
    # Channels and number of the 3x3 convolutions (the last has stride 2).
    "CONV_DIM": (256, r.CHANNELS),
    "NUM_CONV": (4, r.LAYERS),
    # Width of the first and of the second fully connected layer.
    "DENSE_DIM OBJ_DIM": (1024, r.CHANNELS),
    # Encoder over the objects of an image: width, attention heads, layers.
    "TRANSFORMER.D_MODEL": (256, r.CHANNELS),
    "TRANSFORMER.N_HEAD": (1, r.HEADS),
    "TRANSFORMER.LAYERS": (1, r.LAYERS),
    # Pool position maps beside the features.
    "TRANSFORMER.USE_POS": (False, r.SWITCH),
    # The published canvas in pixels. Positions in an image whose padded size equals it are divided by
    # it, as published; positions in every other image by the image's own size.
    "TRANSFORMER.IMG_WIDTH": (640, r.SIDE),
    "TRANSFORMER.IMG_HEIGHT": (480, r.SIDE),
    # Cells per side of the quantized position embedding.
    "QUANT_NUM": (4, r.FEW),
    # [new] Dropout in the encoder (0.1 is the published constant).
    "TRANSFORMER.DROPOUT": (0.1, r.BELOW_ONE),
    # [new] The ranking loss: "cross_entropy" over the K ranks (published), or of the order of the objects of
    # an image, "plackett_luce" (listwise) or "pairwise". Models of the last two rank every object.
    "LOSS": ("cross_entropy", r.one_of("cross_entropy", "plackett_luce", "pairwise")),
    # [new] How logits become ranks: "greedy" (published), or every object by its rank score ("all") or by
    # what the order losses learn ("utility", which their models always use).
    "DECODE": ("greedy", r.one_of("greedy", "all", "utility")),
    # [new] Probability a greedy pick must exceed; negative: the published value of the ROI heads
    # (0.1 for CenterROIHeads, 0 for MaskRCNNHeads).
    "RANK_THRESH": (-1.0, r.number("(-inf, 1)")),
    # [new] MaskRCNNHeads: feed mask logits, not probabilities, to the ranking head in training, as
    # published (inference always feeds probabilities).
    "RANK_ON_LOGITS": (False, r.SWITCH),
    # [new] Weight of the ranking loss.
    "LOSS_WEIGHT": (1.0, r.NOT_NEGATIVE),
}

_DATASETS: r.Keys = {
    # [new] Folder that holds the datasets; empty: $DETECTRON2_DATASETS, else ./datasets.
    "ROOT": ("", r.TEXT),
    # [new] Datasets of your own, "NAME=FORMAT:PATH"; docs/datasets.md has the formats.
    "OWN": ((), r.each(r.OWN_DATASET, least=0)),
    # [new] Keep objects that are not salient, without a rank (published code leaves them out).
    "KEEP_RANKLESS": (False, r.SWITCH),
    # [new] Fraction of the labeled images to train on, evenly spaced (experiments with few labels).
    "TRAIN_FRACTION": (1.0, r.ABOVE_ZERO_SHARE),
    # [new] Rank labels in training: "top" (most salient = K - 1, counting down) or "keep" (the dataset's).
    "RANK_RULE": ("top", r.one_of("top", "keep")),
    # [new] Objects beyond the K-th rank: "lowest" (share label 0) or "ignore" (no ranking loss).
    "RANK_OVERFLOW": ("lowest", r.one_of("lowest", "ignore")),
}

_INPUT: r.Keys = {
    # [new] "default" (detectron2's) or "detr": flip, and resize with or without a crop before.
    "AUGMENTATION": ("default", r.one_of("default", "detr")),
    # [new] In training, drop objects of whose box less than this fraction remains after crops.
    "MIN_VISIBLE": (0.0, r.SHARE),
    # [new] Large-scale jitter in place of the resize: random scale, then crop or pad to SIZE pixels
    # (a side, or [height, width]).
    "LSJ.ENABLED": (False, r.SWITCH),
    "LSJ.MIN_SCALE": (0.1, r.number("(0, 100]")),
    "LSJ.MAX_SCALE": (2.0, r.number("(0, 100]")),
    "LSJ.SIZE": ([640, 640], r.either(r.SIDE, r.each(r.SIDE, length=2))),
    # [new] Random crop that contains every ranked object whole; MIN_SIZE: smallest fraction of each side.
    "RANKED_CROP.ENABLED": (False, r.SWITCH),
    "RANKED_CROP.MIN_SIZE": (0.5, r.ABOVE_ZERO_SHARE),
    # [new] Random change of colors: largest relative changes, and largest change of the hue in degrees.
    "COLOR.ENABLED": (False, r.SWITCH),
    "COLOR.BRIGHTNESS COLOR.CONTRAST COLOR.SATURATION": (0.2, r.BELOW_ONE),
    "COLOR.HUE": (0.0, r.number("[0, 360]")),
    # [new] Paste up to MAX_OBJECTS ranked objects of another image, with probability PROB. RANKS of the
    # pasted objects: "interleave" (by their position in the order of their own image), "below" (below all
    # others) or "none". Objects of whose mask less than MIN_VISIBLE stays visible are dropped.
    "COPY_PASTE.ENABLED": (False, r.SWITCH),
    "COPY_PASTE.PROB": (0.5, r.SHARE),
    "COPY_PASTE.MAX_OBJECTS": (2, r.FEW),
    "COPY_PASTE.RANKS": ("interleave", r.one_of("interleave", "below", "none")),
    "COPY_PASTE.MIN_VISIBLE": (0.2, r.SHARE),
}

_TEST: r.Keys = {
    # [new] Images per process and step in evaluation; results do not depend on it.
    "IMS_PER_BATCH": (1, r.SOME),
    # [new] Mixed precision in evaluation (SOLVER.AMP.ENABLED is for training): float16 on GPUs, bfloat16
    # on CPUs. Scores, boxes and ranks are computed in float32.
    "AMP": (False, r.SWITCH),
    # Test-time augmentation, with TEST.AUG.ENABLED and TEST.AUG.FLIP of detectron2: the views have
    # short sides MIN_SIZES (and at most MAX_SIZE) where given, else SCALES times the sizes for testing.
    "AUG.MIN_SIZES": ((), r.each(r.SIDE, least=0)),
    # [new]
    "AUG.SCALES": ((0.75, 1.0, 1.25), r.each(r.POSITIVE, least=0)),
    # [new] IoU from which detections in two views count as one object.
    "AUG.FUSION_IOU": (0.6, r.ABOVE_ZERO_SHARE),
    # [new] Field by which evaluation orders objects: "pred_ranks" (objects with a rank, as published) or
    # "pred_rank_scores" (all objects).
    "RANK_FIELD": ("pred_ranks", r.one_of("pred_ranks", "pred_rank_scores")),
    # [new] Metrics that evaluation computes and prints, each "metric" or "metric:variant"; docs/metrics.md
    # lists them. ("sa_sor", "sor:ppa@ppa", "mae:ppa") gives SOR and MAE as the program of PPA prints them.
    "METRICS": (("sa_sor", "sor", "mae"), r.each(r.TEXT, least=0)),
    # [new] In training, put the worst images of every so many evaluations, with truth and prediction, into
    # TensorBoard; 0: never.
    "PICTURE_PERIOD": (0, r.COUNT_OR_ZERO),
    # [new] How evaluation paints its rank maps, inference/DATASET/rank_maps/NAME.png: "assr", whose maps have
    # the SOR and MAE that are printed; "ppa", the maps that the program of PPA writes; others of
    # docs/metrics.md; "" for none.
    "RANK_MAPS": ("assr", r.one_of("", *(name for name, how in PAINTERS.items() if not how.of_gt))),
}

_SOLVER: r.Keys = {
    # [new] Optimizer. Beside detectron2's types of gradient clipping, SOLVER.CLIP_GRADIENTS.CLIP_TYPE may be
    # "full_model": the norm over all parameters. SOLVER.LR_SCHEDULER_NAME may also be
    # "WarmupPolynomialLR" (MODEL.INSPYRENET.LR_POWER, LR_MINIMUM).
    "OPTIMIZER": ("SGD", r.one_of("SGD", "Adam", "AdamW")),
    # [new] Parts into which the images of an iteration are split, to save memory; their gradients are added.
    "ACCUMULATE": (1, r.FEW),
    # [new] Number format of SOLVER.AMP.ENABLED; "auto": float16 on GPUs, bfloat16 on CPUs.
    "AMP.DTYPE": ("auto", r.one_of("auto", "float16", "bfloat16")),
    # [new] What each of several processes keeps of parameters, gradients and optimizer state: all ("ddp"), or
    # a part ("fsdp"); it gathers the parameters for each iteration.
    "PARALLEL": ("ddp", r.one_of("ddp", "fsdp")),
    # [new] Share the statistics of batch norms among all processes.
    "SYNC_BN": (False, r.SWITCH),
    # [new] Iterations in a row that may be skipped because a loss or gradient is NaN or infinite, before the
    # training stops; 0: stop at the first.
    "SKIP_NON_FINITE": (0, r.COUNT_OR_ZERO),
    # [new] Number of periodic checkpoints to keep; 0: all.
    "KEEP_CHECKPOINTS": (0, r.COUNT_OR_ZERO),
    # [new] Metric of the evaluation, such as "sor/SA-SOR" or "segm/AP", whose best checkpoint is written as
    # model_best.pth; with several datasets "<dataset>/sor/SA-SOR"; "": none. The best is the largest or the
    # smallest value.
    "BEST_METRIC": ("", r.TEXT),
    "BEST_MODE": ("max", r.one_of("max", "min")),
}

KEYS: r.Keys = {
    # [new] Only algorithms that give the same result in every run; an operation without one is an error.
    "DETERMINISTIC": (False, r.SWITCH),
    # [new] Share of the training images that may be unreadable. Others take their place, and the log names
    # each in one line; 0: the first one ends the training. Evaluation always ends at the first.
    "DATALOADER.MAX_UNREADABLE": (0.01, r.SHARE),
    # Build MobileNetV2 instead of a ResNet in ``build_fcos_resnet_fpn_backbone``.
    "MODEL.MOBILENET": (False, r.SWITCH),
    **r.below("MODEL.VOVNET", _VOVNET),
    **r.below("MODEL.FCOS", _FCOS),
    **r.below("MODEL", _ROI_HEADS),
    **r.below("MODEL.SOR", _RANKING),
    # For published files only; it has no effect, there or here.
    "MODEL.DET_WEIGHTS": (1.0, r.NUMBER),
    **r.below("DATASETS", _DATASETS),
    **r.below("INPUT", _INPUT),
    **r.below("TEST", _TEST),
    **r.below("SOLVER", _SOLVER),
    **contrast.KEYS,
    **salience_detr.KEYS,
    **inspyrenet.KEYS,
    **siamese_detr.KEYS,
    **mask2former.KEYS,
}


def add_sor_config(cfg: CfgNode) -> None:
    """Add the keys of this package to a detectron2 config, in place.

    Args:
        cfg: the node that ``detectron2.config.get_cfg()`` returns.
    """
    for key, (default, _) in KEYS.items():
        node, (*path, name) = cfg, key.split(".")
        for part in path:
            node = node.setdefault(part, CfgNode())
        node[name] = copy.deepcopy(default)
    # [new] of configs saved by earlier versions
    for key in ("DATASETS.CACHE", "INPUT.COPY_PASTE.MEMORY", "MODEL.INSPYRENET.NORM"):
        cfg.register_deprecated_key(key)
