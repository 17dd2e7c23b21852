"""Configuration keys of Salience-DETR."""

from __future__ import annotations

from detectron2.config import CfgNode

__all__ = ["add_salience_detr_config"]


def add_salience_detr_config(cfg: CfgNode) -> None:
    """Add ``MODEL.SALIENCE_DETR`` and its solver keys, in place.

    Args:
        cfg: the node that ``detectron2.config.get_cfg()`` returns.
    """
    node = cfg.MODEL.SALIENCE_DETR = CfgNode()
    # Class logits K. The published COCO models have 91: the index is the dataset's category id.
    node.NUM_CLASSES = 91
    # Logit index of every class of the dataset, in detectron2's contiguous order; empty: the same index.
    node.LABEL_IDS = []
    # Backbone maps, finest first, and number of maps after the channel mapper.
    node.IN_FEATURES = ["res3", "res4", "res5"]
    node.NUM_LEVELS = 4
    # Width of tokens and queries, of the feed-forward networks; attention heads, sampling points.
    node.DIM = 256
    node.FFN_DIM = 2048
    node.NUM_HEADS = 8
    node.NUM_POINTS = 4
    node.DROPOUT = 0.0
    # Layers of the encoder and of the decoder.
    node.ENC_LAYERS = 6
    node.DEC_LAYERS = 6
    # Object queries.
    node.NUM_QUERIES = 900
    # Share of tokens kept per level (finest first), and of the kept ones refined per encoder layer.
    node.LEVEL_FILTER_RATIO = [0.4, 0.8, 1.0, 1.0]
    node.LAYER_FILTER_RATIO = [1.0, 0.8, 0.6, 0.6, 0.4, 0.2]
    # Number of tokens that attend to each other in an encoder layer.
    node.NUM_ATTENDED = 300
    # Rows and columns of a map that have a background vector of their own; cells beyond share the last.
    node.MAX_EMBEDDINGS = 200
    # IoU above which a proposal suppresses its neighbors.
    node.PROPOSAL_NMS = 0.3
    # Intended number of denoising queries per image, and their noise.
    node.NUM_DENOISING = 100
    node.LABEL_NOISE = 0.5
    node.BOX_NOISE = 1.0
    # Matching costs and loss weights: class, L1, GIoU; weight of the salience loss.
    node.COST = [2.0, 5.0, 2.0]
    node.LOSS_WEIGHT = [1.0, 5.0, 2.0]
    node.SALIENCE_WEIGHT = 2.0
    # Upper end, in pixels, of the size range of every level but the last (salience targets).
    node.SALIENCE_LIMITS = [64.0, 128.0, 256.0]
    # Focal parameters of matching, classification and salience.
    node.FOCAL_ALPHA = 0.25
    node.FOCAL_GAMMA = 2.0
    # Detections per image, and the score they must exceed.
    node.TEST_TOPK = 300
    node.TEST_SCORE_THRESH = 0.0
    # With ROI heads (RankingSalienceDETR): best queries per image that become proposals in training, and the
    # IoU above which a worse detection is removed in inference (negative: never).
    node.TRAIN_PROPOSALS = 100
    node.TEST_NMS = -1.0
    # (short side, longest side): resize images inside the model in evaluation, as published, and expect
    # them at their own size (INPUT.MIN_SIZE_TEST 0); empty: images come resized.
    node.TEST_RESIZE = []
    # Sides of the padded batch are multiples of this.
    node.SIZE_DIVISIBILITY = 32

    # Factor of SOLVER.BASE_LR for the backbone and the sampling offsets.
    node.SLOW_FACTOR = 0.1

    node = cfg.MODEL.PYRAMID_BACKBONE = CfgNode()
    # Swin, ConvNeXt or FocalNet for BACKBONE.NAME "build_pyramid_backbone": a name of
    # ``sor_ppa.salience_detr.backbones.ARCHITECTURES``.
    node.ARCH = "swin_l"
    # Stages that it returns, res2 (stride 4) to res5 (stride 32).
    node.OUT_FEATURES = ["res3", "res4", "res5"]
    # Rate of stochastic depth; negative: the published one of the architecture.
    node.DROP_PATH = -1.0
