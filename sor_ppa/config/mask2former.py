"""Configuration keys of Mask2Former, by their published names."""

from __future__ import annotations

from . import rules as r

__all__ = ["KEYS"]

_MASK_FORMER: r.Keys = {
    # Weights of the losses and of the matching costs; of "no object" in the cross entropy.
    "CLASS_WEIGHT": (2.0, r.NOT_NEGATIVE),
    "MASK_WEIGHT DICE_WEIGHT": (5.0, r.NOT_NEGATIVE),
    "NO_OBJECT_WEIGHT": (0.1, r.NOT_NEGATIVE),
    # Losses on every decoder layer.
    "DEEP_SUPERVISION": (True, r.SWITCH),
    # Points per mask in matching and losses; random candidates as a multiple of them; share of the points
    # that is chosen among the candidates.
    "TRAIN_NUM_POINTS": (12544, r.whole(1, 1_000_000)),
    "OVERSAMPLE_RATIO": (3.0, r.number("[1, 100]")),
    "IMPORTANCE_SAMPLE_RATIO": (0.75, r.SHARE),
    # Width, queries, attention heads, width of the feed-forward networks; decoder layers plus one.
    "HIDDEN_DIM": (256, r.CHANNELS),
    "NUM_OBJECT_QUERIES": (100, r.SOME),
    "NHEADS": (8, r.HEADS),
    "DIM_FEEDFORWARD": (2048, r.CHANNELS),
    "DEC_LAYERS": (10, r.whole(2, 100)),
    # [new] Start queries at the likely centers of objects instead of learned ones; trains faster.
    "SEEDS": (False, r.SWITCH),
    # [new] With SEEDS: additional queries of every object in training, started at random near its center.
    "GUIDES": (0, r.whole(0, 100)),
    # Dropout of the pixel decoder.
    "DROPOUT": (0.0, r.BELOW_ONE),
    # Sides of the padded batch are multiples of this.
    "SIZE_DIVISIBILITY": (32, r.SIDE),
    # [new] Least score of an instance.
    "TEST.SCORE_THRESH": (0.0, r.SHARE),
    # [new] Ranker: IoU of masks above which the less confident of two objects is removed; 1: never.
    "TEST.NMS_THRESH": (0.7, r.SHARE),
    # For published files only.
    "TRANSFORMER_DECODER_NAME": (
        "MultiScaleMaskedTransformerDecoder",
        r.one_of("MultiScaleMaskedTransformerDecoder"),
    ),
    "TRANSFORMER_IN_FEATURE": ("multi_scale_pixel_decoder", r.one_of("multi_scale_pixel_decoder")),
    "ENC_LAYERS": (0, r.LAYERS_OR_NONE),
    "PRE_NORM ENFORCE_INPUT_PROJ TEST.SEMANTIC_ON TEST.PANOPTIC_ON": (False, r.one_of(False)),
    "TEST.INSTANCE_ON": (True, r.one_of(True)),
    "TEST.OBJECT_MASK_THRESHOLD TEST.OVERLAP_THRESHOLD": (0.8, r.SHARE),
    "TEST.SEM_SEG_POSTPROCESSING_BEFORE_INFERENCE": (False, r.SWITCH),
}

_STAGES = r.each(r.one_of("res2", "res3", "res4", "res5"))

# Beside the keys that detectron2 has: NUM_CLASSES, IN_FEATURES, CONVS_DIM, NORM, COMMON_STRIDE.
_HEAD: r.Keys = {
    # Width of the mask features.
    "MASK_DIM": (256, r.CHANNELS),
    # Pixel decoder: layers, maps that attend to each other, heads, sampling points.
    "TRANSFORMER_ENC_LAYERS": (6, r.LAYERS),
    "DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES": (["res3", "res4", "res5"], r.NAMES),
    "DEFORMABLE_TRANSFORMER_ENCODER_N_HEADS": (8, r.HEADS),
    "DEFORMABLE_TRANSFORMER_ENCODER_N_POINTS": (4, r.HEADS),
    # [new] Width of its feed-forward networks.
    "TRANSFORMER_ENC_FFN_DIM": (1024, r.CHANNELS),
    # For published files only.
    "PIXEL_DECODER_NAME": ("MSDeformAttnPixelDecoder", r.one_of("MSDeformAttnPixelDecoder")),
}

_SWIN: r.Keys = {
    # Channels of the first stage; blocks and heads of each stage; side of a window.
    "EMBED_DIM": (96, r.CHANNELS),
    "DEPTHS": ([2, 2, 6, 2], r.each(r.LAYERS, length=4)),
    "NUM_HEADS": ([3, 6, 12, 24], r.each(r.HEADS, length=4)),
    "WINDOW_SIZE": (7, r.whole(2, 100)),
    # Rate of stochastic depth of the last block.
    "DROP_PATH_RATE": (0.3, r.BELOW_ONE),
    # Stages that it returns, res2 (stride 4) to res5 (stride 32).
    "OUT_FEATURES": (["res2", "res3", "res4", "res5"], _STAGES),
    # For published files only.
    "PRETRAIN_IMG_SIZE": (224, r.SIDE),
    "PATCH_SIZE": (4, r.one_of(4)),
    "MLP_RATIO": (4.0, r.one_of(4.0)),
    "QKV_BIAS PATCH_NORM": (True, r.one_of(True)),
    "QK_SCALE": (None, r.one_of(None)),
    "DROP_RATE ATTN_DROP_RATE": (0.0, r.one_of(0.0)),
    "APE": (False, r.one_of(False)),
    "USE_CHECKPOINT": (False, r.SWITCH),
}

_OTHERS: r.Keys = {
    # Factor on BASE_LR for the backbone, and weight decay of embeddings (both Mask2Former only).
    "SOLVER.BACKBONE_MULTIPLIER": (0.1, r.NOT_NEGATIVE),
    "SOLVER.WEIGHT_DECAY_EMBED": (0.0, r.NOT_NEGATIVE),
    # "coco_instance_lsj" stands for INPUT.LSJ with the next three keys. Other mappers are not available.
    "INPUT.DATASET_MAPPER_NAME": ("", r.one_of("", "coco_instance_lsj")),
    "INPUT.IMAGE_SIZE": (1024, r.SIDE),
    "INPUT.MIN_SCALE": (0.1, r.number("(0, 100]")),
    "INPUT.MAX_SCALE": (2.0, r.number("(0, 100]")),
    # For published files only.
    "INPUT.COLOR_AUG_SSD": (False, r.one_of(False)),
    "INPUT.CROP.SINGLE_CATEGORY_MAX_AREA": (1.0, r.SHARE),
    "INPUT.SIZE_DIVISIBILITY": (-1, r.whole(-1, r.MAX_SIDE)),
    "MODEL.RESNETS.STEM_TYPE": ("basic", r.one_of("basic")),
    "MODEL.RESNETS.RES5_MULTI_GRID": ([1, 1, 1], r.one_of([1, 1, 1])),
}

KEYS: r.Keys = {
    **r.below("MODEL.MASK_FORMER", _MASK_FORMER),
    **r.below("MODEL.SEM_SEG_HEAD", _HEAD),
    **r.below("MODEL.SWIN", _SWIN),
    **_OTHERS,
}
