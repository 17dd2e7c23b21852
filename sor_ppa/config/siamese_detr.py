"""Configuration keys of Siamese DETR and its detectors."""

from __future__ import annotations

from . import rules as r

__all__ = ["KEYS"]

_DETECTOR: r.Keys = {
    "TRANSFORMER": ("conditional", r.one_of("vanilla", "conditional", "deformable")),
    # Backbone features, fine to coarse; one for the vanilla and the conditional transformer.
    "IN_FEATURES": (["res5"], r.NAMES),
    # Feature maps of the deformable transformer; those beyond IN_FEATURES are strided convolutions.
    "NUM_FEATURE_LEVELS": (1, r.whole(1, 8)),
    # Object queries.
    "NUM_QUERIES": (100, r.SOME),
    # Channels, attention heads, layers, feed-forward width and dropout of the transformer.
    "HIDDEN_DIM": (256, r.CHANNELS),
    "NUM_HEADS": (8, r.HEADS),
    "ENCODER_LAYERS": (6, r.LAYERS_OR_NONE),
    "DECODER_LAYERS": (6, r.LAYERS),
    "FFN_DIM": (2048, r.CHANNELS),
    "DROPOUT": (0.1, r.BELOW_ONE),
    # Sampling points per head and level (deformable).
    "NUM_POINTS": (4, r.HEADS),
    # Detector: object classes.
    "NUM_CLASSES": (80, r.CLASSES),
    # "focal" (Conditional and Deformable DETR) or "softmax" (DETR).
    "CLASSIFICATION": ("focal", r.one_of("focal", "softmax")),
    # Each layer refines the boxes of the one before (deformable).
    "BOX_REFINE": (False, r.SWITCH),
    # Losses on every decoder layer.
    "AUX_LOSS": (True, r.SWITCH),
    # Detections per image.
    "TOP_K": (100, r.SOME),
    # Detections with a lower score are dropped.
    "SCORE_THRESH": (0.0, r.SHARE),
    # IoU above which the less confident of two detections is dropped; 1: never.
    "NMS_THRESH": (1.0, r.SHARE),
    # Weights in the matching cost, and of the losses.
    "COST_CLASS COST_GIOU CLASS_WEIGHT GIOU_WEIGHT": (2.0, r.NOT_NEGATIVE),
    "COST_BOX BOX_WEIGHT": (5.0, r.NOT_NEGATIVE),
    # Weight of "no object" in the softmax cross entropy.
    "EMPTY_WEIGHT": (0.1, r.NOT_NEGATIVE),
    # Factor on SOLVER.BASE_LR for the backbone.
    "BACKBONE_LR_FACTOR": (1.0, r.NOT_NEGATIVE),
}

_PRETRAINING: r.Keys = {
    # Regions per view; NUM_QUERIES is a multiple of it.
    "NUM_REGIONS": (10, r.SOME),
    # Jitter of the boxes that queries are pooled from, as a fraction of their size.
    "BOX_JITTER": (0.1, r.NOT_NEGATIVE),
    # Query every image of a batch for the regions of the first one, as the published deformable model does.
    "FIRST_IMAGE_QUERIES": (False, r.SWITCH),
    # Weight of "no object" in the cross entropy.
    "EMPTY_WEIGHT": (0.1, r.NOT_NEGATIVE),
    # Weights of the losses; zero removes a term (and its head).
    "CLASS_WEIGHT": (1.0, r.NOT_NEGATIVE),
    "BOX_WEIGHT FEATURE_WEIGHT": (5.0, r.NOT_NEGATIVE),
    "GIOU_WEIGHT": (2.0, r.NOT_NEGATIVE),
    "GLOBAL_WEIGHT": (10.0, r.NOT_NEGATIVE),
    # Iterations between pictures of the matched regions, written to OUTPUT_DIR/views; 0: none.
    "PICTURE_PERIOD": (0, r.COUNT_OR_ZERO),
    # Image pairs per picture.
    "PICTURE_IMAGES": (4, r.FEW),
}

_VIEWS: r.Keys = {
    # Shorter side before the two views are cropped, chosen from these; largest longer side.
    "MIN_SIZES": ([320, 336, 352, 368, 400, 416, 432, 448, 464, 480], r.each(r.SIDE)),
    "MAX_SIZE": (600, r.SIDE),
    # Area of the rectangle around both views, as a fraction of the image, and its aspect ratio.
    "SCALE": ([0.5, 1.0], r.rising(r.each(r.ABOVE_ZERO_SHARE, length=2))),
    "ASPECT": ([0.75, 4 / 3], r.rising(r.each(r.POSITIVE, length=2))),
    # Lowest IoU of the two views; with STOCHASTIC they may overlap more.
    "IOU": (0.5, r.ABOVE_ZERO_SHARE),
    "STOCHASTIC": (True, r.SWITCH),
    # Probability of a horizontal flip (of both views).
    "FLIP": (0.5, r.SHARE),
    # Smallest area of a region as a fraction of the intersection of the views.
    "MIN_REGION_AREA": (0.05, r.SHARE),
    # Side of the region crops in pixels.
    "CROP_SIZE": (128, r.SIDE),
    # Color jitter, gray and blur on views and crops.
    "PHOTOMETRIC": (True, r.SWITCH),
}

_PROPOSALS: r.Keys = {
    # "edge_boxes" (structured edges, needs EDGE_MODEL), "gradient_boxes" (image gradients), "saved" (the .npy
    # files of the published generator, needs FOLDER) or "random" (boxes drawn inside the intersection of
    # the views: the published ablation).
    "METHOD": ("gradient_boxes", r.one_of("edge_boxes", "gradient_boxes", "saved", "random")),
    # Saved boxes: the published unsup_boxes_root.
    "FOLDER": ("", r.TEXT),
    # OpenCV's structured-edge forest, model.yml.gz.
    "EDGE_MODEL": ("", r.TEXT),
    # Boxes kept per image.
    "MAX_BOXES": (512, r.SOME),
    # Folder of the cached boxes; empty: OUTPUT_DIR/proposals.
    "CACHE": ("", r.TEXT),
    # Processes that compute boxes; 0: as many as there are processors.
    "WORKERS": (0, r.whole(0, 1024)),
    # Random boxes: draws and largest aspect ratio.
    "RANDOM_DRAWS": (100, r.whole(1, 1_000_000)),
    "RANDOM_ASPECT": (8.0, r.number("[1, inf)")),
}

KEYS = {
    **r.below("MODEL.SIAMESE_DETR", _DETECTOR),
    **r.below("MODEL.SIAMESE_DETR.PRETRAIN", _PRETRAINING),
    **r.below("INPUT.TWO_VIEWS", _VIEWS),
    **r.below("INPUT.TWO_VIEWS.PROPOSALS", _PROPOSALS),
}
