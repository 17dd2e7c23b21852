"""Configuration keys of Siamese DETR and its detectors."""

from __future__ import annotations

from detectron2.config import CfgNode

__all__ = ["add_siamese_detr_config"]


def add_siamese_detr_config(cfg: CfgNode) -> None:
    """Add ``MODEL.SIAMESE_DETR`` and ``INPUT.TWO_VIEWS`` to a detectron2 config, in place."""
    node = CfgNode()
    cfg.MODEL.SIAMESE_DETR = node
    # "conditional", "vanilla" or "deformable".
    node.TRANSFORMER = "conditional"
    # Backbone features, fine to coarse; one for the vanilla and the conditional transformer.
    node.IN_FEATURES = ["res5"]
    # Feature maps of the deformable transformer; those beyond IN_FEATURES are strided convolutions.
    node.NUM_FEATURE_LEVELS = 1
    # Object queries.
    node.NUM_QUERIES = 100
    # Channels, attention heads, layers, feed-forward width and dropout of the transformer.
    node.HIDDEN_DIM = 256
    node.NUM_HEADS = 8
    node.ENCODER_LAYERS = 6
    node.DECODER_LAYERS = 6
    node.FFN_DIM = 2048
    node.DROPOUT = 0.1
    # Sampling points per head and level (deformable).
    node.NUM_POINTS = 4

    # Detector: object classes.
    node.NUM_CLASSES = 80
    # "focal" (Conditional and Deformable DETR) or "softmax" (DETR).
    node.CLASSIFICATION = "focal"
    # Each layer refines the boxes of the one before (deformable).
    node.BOX_REFINE = False
    # Losses on every decoder layer.
    node.AUX_LOSS = True
    # Detections per image.
    node.TOP_K = 100
    # Detections with a lower score are dropped.
    node.SCORE_THRESH = 0.0
    # IoU above which the less confident of two detections is dropped; 1: never.
    node.NMS_THRESH = 1.0
    # Weights in the matching cost.
    node.COST_CLASS = 2.0
    node.COST_BOX = 5.0
    node.COST_GIOU = 2.0
    # Weights of the losses.
    node.CLASS_WEIGHT = 2.0
    node.BOX_WEIGHT = 5.0
    node.GIOU_WEIGHT = 2.0
    # Weight of "no object" in the softmax cross entropy.
    node.EMPTY_WEIGHT = 0.1
    # Factor on SOLVER.BASE_LR for the backbone.
    node.BACKBONE_LR_FACTOR = 1.0

    _add_pretraining(node)
    _add_views(cfg)


def _add_pretraining(node: CfgNode) -> None:
    node.PRETRAIN = CfgNode()
    # Regions per view; NUM_QUERIES is a multiple of it.
    node.PRETRAIN.NUM_REGIONS = 10
    # Jitter of the boxes that queries are pooled from, as a fraction of their size.
    node.PRETRAIN.BOX_JITTER = 0.1
    # Query every image of a batch for the regions of the first one, as the published deformable model does.
    node.PRETRAIN.FIRST_IMAGE_QUERIES = False
    # Weight of "no object" in the cross entropy.
    node.PRETRAIN.EMPTY_WEIGHT = 0.1
    # Weights of the losses; zero removes a term (and its head).
    node.PRETRAIN.CLASS_WEIGHT = 1.0
    node.PRETRAIN.BOX_WEIGHT = 5.0
    node.PRETRAIN.GIOU_WEIGHT = 2.0
    node.PRETRAIN.FEATURE_WEIGHT = 5.0
    node.PRETRAIN.GLOBAL_WEIGHT = 10.0
    # Iterations between pictures of the matched regions, written to OUTPUT_DIR/views; 0: none.
    node.PRETRAIN.PICTURE_PERIOD = 0
    # Image pairs per picture.
    node.PRETRAIN.PICTURE_IMAGES = 4


def _add_views(cfg: CfgNode) -> None:
    views = CfgNode()
    cfg.INPUT.TWO_VIEWS = views
    # Shorter side before the two views are cropped, chosen from these; largest longer side.
    views.MIN_SIZES = [320, 336, 352, 368, 400, 416, 432, 448, 464, 480]
    views.MAX_SIZE = 600
    # Area of the rectangle around both views, as a fraction of the image, and its aspect ratio.
    views.SCALE = [0.5, 1.0]
    views.ASPECT = [0.75, 4 / 3]
    # Lowest IoU of the two views; with STOCHASTIC they may overlap more.
    views.IOU = 0.5
    views.STOCHASTIC = True
    # Probability of a horizontal flip (of both views).
    views.FLIP = 0.5
    # Smallest area of a region as a fraction of the intersection of the views.
    views.MIN_REGION_AREA = 0.05
    # Side of the region crops in pixels.
    views.CROP_SIZE = 128
    # Color jitter, gray and blur on views and crops.
    views.PHOTOMETRIC = True

    proposals = CfgNode()
    views.PROPOSALS = proposals
    # "edge_boxes" (structured edges, needs EDGE_MODEL), "gradient_boxes" (image gradients) or
    # "random" (boxes drawn inside the intersection of the views: the published ablation).
    proposals.METHOD = "gradient_boxes"
    # OpenCV's structured-edge forest, model.yml.gz.
    proposals.EDGE_MODEL = ""
    # Boxes kept per image.
    proposals.MAX_BOXES = 512
    # Folder of the cached boxes; empty: OUTPUT_DIR/proposals.
    proposals.CACHE = ""
    # Processes that compute boxes; 0: as many as there are processors.
    proposals.WORKERS = 0
    # Random boxes: draws and largest aspect ratio.
    proposals.RANDOM_DRAWS = 100
    proposals.RANDOM_ASPECT = 8.0
