"""Configuration keys of Salience-DETR."""

from __future__ import annotations

from . import rules as r

__all__ = ["KEYS"]

_SALIENCE_DETR: r.Keys = {
    # Class logits K. The published COCO models have 91: the index is the dataset's category id.
    "NUM_CLASSES": (91, r.CLASSES),
    # Logit index of every class of the dataset, in detectron2's contiguous order; empty: the same index.
    "LABEL_IDS": ([], r.each(r.whole(0, 100_000), least=0)),
    # Backbone maps, finest first, and number of maps after the channel mapper.
    "IN_FEATURES": (["res3", "res4", "res5"], r.NAMES),
    "NUM_LEVELS": (4, r.whole(1, 8)),
    # Width of tokens and queries, of the feed-forward networks; attention heads, sampling points.
    "DIM": (256, r.CHANNELS),
    "FFN_DIM": (2048, r.CHANNELS),
    "NUM_HEADS": (8, r.HEADS),
    "NUM_POINTS": (4, r.HEADS),
    "DROPOUT": (0.0, r.BELOW_ONE),
    # Layers of the encoder and of the decoder.
    "ENC_LAYERS DEC_LAYERS": (6, r.LAYERS),
    # Object queries.
    "NUM_QUERIES": (900, r.SOME),
    # Share of tokens kept per level (finest first), and of the kept ones refined per encoder layer.
    "LEVEL_FILTER_RATIO": ([0.4, 0.8, 1.0, 1.0], r.each(r.ABOVE_ZERO_SHARE)),
    "LAYER_FILTER_RATIO": ([1.0, 0.8, 0.6, 0.6, 0.4, 0.2], r.each(r.ABOVE_ZERO_SHARE)),
    # Number of tokens that attend to each other in an encoder layer.
    "NUM_ATTENDED": (300, r.SOME),
    # Rows and columns of a map that have a background vector of their own; cells beyond share the last.
    "MAX_EMBEDDINGS": (200, r.SOME),
    # IoU above which a proposal suppresses its neighbors.
    "PROPOSAL_NMS": (0.3, r.SHARE),
    # Intended number of denoising queries per image, and their noise.
    "NUM_DENOISING": (100, r.whole(0, 100_000)),
    "LABEL_NOISE": (0.5, r.SHARE),
    "BOX_NOISE": (1.0, r.NOT_NEGATIVE),
    # Matching costs and loss weights: class, L1, GIoU; weight of the salience loss.
    "COST": ([2.0, 5.0, 2.0], r.each(r.NOT_NEGATIVE, length=3)),
    "LOSS_WEIGHT": ([1.0, 5.0, 2.0], r.each(r.NOT_NEGATIVE, length=3)),
    "SALIENCE_WEIGHT": (2.0, r.NOT_NEGATIVE),
    # Upper end, in pixels, of the size range of every level but the last (salience targets).
    "SALIENCE_LIMITS": ([64.0, 128.0, 256.0], r.rising(r.each(r.POSITIVE, least=0))),
    # Focal parameters of matching, classification and salience.
    "FOCAL_ALPHA": (0.25, r.AT_MOST_ONE),
    "FOCAL_GAMMA": (2.0, r.NOT_NEGATIVE),
    # Detections per image, and the score they must exceed.
    "TEST_TOPK": (300, r.SOME),
    "TEST_SCORE_THRESH": (0.0, r.SHARE),
    # With ROI heads (RankingSalienceDETR): best queries per image that become proposals in training, and the
    # IoU above which a worse detection is removed in inference (negative: never).
    "TRAIN_PROPOSALS": (100, r.SOME),
    "TEST_NMS": (-1.0, r.AT_MOST_ONE),
    # (short side, longest side): resize images inside the model in evaluation, as published, and expect
    # them at their own size (INPUT.MIN_SIZE_TEST 0); empty: images come resized.
    "TEST_RESIZE": ([], r.either(r.one_of([], ()), r.each(r.SIDE, length=2))),
    # Sides of the padded batch are multiples of this.
    "SIZE_DIVISIBILITY": (32, r.SIDE),
    # Factor of SOLVER.BASE_LR for the backbone and the sampling offsets.
    "SLOW_FACTOR": (0.1, r.NOT_NEGATIVE),
}

_SWIN = ("swin_t", "swin_s", "swin_b", "swin_l", "swin_l_384")
_CONVNEXT = ("convnext_t", "convnext_s", "convnext_b", "convnext_l")

_PYRAMID_BACKBONE: r.Keys = {
    # Swin, ConvNeXt or FocalNet for BACKBONE.NAME "build_pyramid_backbone".
    "ARCH": ("swin_l", r.one_of(*_SWIN, *_CONVNEXT, "focalnet_l_lrf_fl4")),
    # Stages that it returns, res2 (stride 4) to res5 (stride 32).
    "OUT_FEATURES": (["res3", "res4", "res5"], r.each(r.one_of("res2", "res3", "res4", "res5"))),
    # Rate of stochastic depth; negative: the published one of the architecture.
    "DROP_PATH": (-1.0, r.number("(-inf, 1)")),
}

KEYS = r.below("MODEL.SALIENCE_DETR", _SALIENCE_DETR) | r.below("MODEL.PYRAMID_BACKBONE", _PYRAMID_BACKBONE)
