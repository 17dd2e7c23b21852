"""Every configuration key of this package; one comment a key.

The keys of the published salient object ranking code (and of CenterMask2, on
which it stands) keep their names and defaults, so its YAML files load as they
are. Keys without a published counterpart are marked ``[new]``.
"""

from __future__ import annotations

from detectron2.config import CfgNode

from .contrast import add_contrast_config
from .inspyrenet import add_inspyrenet_config
from .salience_detr import add_salience_detr_config
from .siamese_detr import add_siamese_detr_config

__all__ = ["add_sor_config"]


def add_sor_config(cfg: CfgNode) -> None:
    """Add the keys of this package to a detectron2 config, in place.

    Args:
        cfg: the node that ``detectron2.config.get_cfg()`` returns.
    """
    _add_backbone(cfg)
    _add_fcos(cfg)
    _add_roi_heads(cfg)
    _add_ranking(cfg)
    _add_data(cfg)
    _add_training(cfg)
    add_salience_detr_config(cfg)
    add_inspyrenet_config(cfg)
    add_siamese_detr_config(cfg)
    add_contrast_config(cfg)


def _add_backbone(cfg: CfgNode) -> None:
    # Build MobileNetV2 instead of a ResNet in ``build_fcos_resnet_fpn_backbone``.
    cfg.MODEL.MOBILENET = False

    cfg.MODEL.VOVNET = CfgNode()
    # V-19-slim-dw-eSE, V-19-dw-eSE, V-19-slim-eSE, V-19-eSE, V-39-eSE, V-57-eSE or V-99-eSE.
    cfg.MODEL.VOVNET.CONV_BODY = "V-39-eSE"
    # Feature maps that the backbone returns: any of stem, stage2 ... stage5.
    cfg.MODEL.VOVNET.OUT_FEATURES = ["stage2", "stage3", "stage4", "stage5"]
    # Normalisation: FrozenBN, BN, SyncBN, GN (any name that detectron2's get_norm takes).
    cfg.MODEL.VOVNET.NORM = "FrozenBN"
    # Kept for published files; the FPN's width is MODEL.FPN.OUT_CHANNELS.
    cfg.MODEL.VOVNET.OUT_CHANNELS = 256
    # Kept for published files; without effect there and here.
    cfg.MODEL.VOVNET.BACKBONE_OUT_CHANNELS = 256
    # Deformable convolutions in stage 2, 3, 4, 5.
    cfg.MODEL.VOVNET.STAGE_WITH_DCN = (False, False, False, False)
    # Modulated (v2) deformable convolutions.
    cfg.MODEL.VOVNET.WITH_MODULATED_DCN = False
    # Offset groups of the deformable convolutions.
    cfg.MODEL.VOVNET.DEFORMABLE_GROUPS = 1


def _add_fcos(cfg: CfgNode) -> None:
    cfg.MODEL.FCOS = CfgNode()
    # Number of foreground classes (salient object ranking has one).
    cfg.MODEL.FCOS.NUM_CLASSES = 1
    # FPN levels that the head runs on, and their strides in pixels.
    cfg.MODEL.FCOS.IN_FEATURES = ["p3", "p4", "p5", "p6", "p7"]
    cfg.MODEL.FCOS.FPN_STRIDES = [8, 16, 32, 64, 128]
    # Foreground probability at initialisation (bias of the classifier).
    cfg.MODEL.FCOS.PRIOR_PROB = 0.01
    # Class probability a location must exceed to become a proposal, in training and in inference.
    cfg.MODEL.FCOS.INFERENCE_TH_TRAIN = 0.05
    cfg.MODEL.FCOS.INFERENCE_TH_TEST = 0.05
    # IoU above which non-maximum suppression removes a box.
    cfg.MODEL.FCOS.NMS_TH = 0.6
    # Candidates per level before, and boxes per image after, suppression.
    cfg.MODEL.FCOS.PRE_NMS_TOPK_TRAIN = 1000
    cfg.MODEL.FCOS.PRE_NMS_TOPK_TEST = 1000
    cfg.MODEL.FCOS.POST_NMS_TOPK_TRAIN = 100
    cfg.MODEL.FCOS.POST_NMS_TOPK_TEST = 100
    # Extra FPN levels on top of p5: 2 (p6, p7), 1 (p6) or 0.
    cfg.MODEL.FCOS.TOP_LEVELS = 2
    # Normalisation in the towers: "GN" or "none".
    cfg.MODEL.FCOS.NORM = "GN"
    # A learnt factor per level on the box distances.
    cfg.MODEL.FCOS.USE_SCALE = True
    # Multiply by centre-ness before, rather than after, the threshold.
    cfg.MODEL.FCOS.THRESH_WITH_CTR = False
    # Focal loss: weight of the positives and focusing exponent.
    cfg.MODEL.FCOS.LOSS_ALPHA = 0.25
    cfg.MODEL.FCOS.LOSS_GAMMA = 2.0
    # Largest side distance (pixels) of objects assigned to each level but the last.
    cfg.MODEL.FCOS.SIZES_OF_INTEREST = [64, 128, 256, 512]
    # Kept for published files: distances always pass a ReLU.
    cfg.MODEL.FCOS.USE_RELU = True
    # Deformable convolutions in the box and shared towers.
    cfg.MODEL.FCOS.USE_DEFORMABLE = False
    # Convolutions in the class, box and shared towers.
    cfg.MODEL.FCOS.NUM_CLS_CONVS = 4
    cfg.MODEL.FCOS.NUM_BOX_CONVS = 4
    cfg.MODEL.FCOS.NUM_SHARE_CONVS = 0
    # Positives only near the centre of an object, within POS_RADIUS strides.
    cfg.MODEL.FCOS.CENTER_SAMPLE = True
    cfg.MODEL.FCOS.POS_RADIUS = 1.5
    # Box loss: "iou", "linear_iou" or "giou".
    cfg.MODEL.FCOS.LOC_LOSS_TYPE = "giou"


def _add_roi_heads(cfg: CfgNode) -> None:
    # Rule that assigns a box to an FPN level: "area" (FPN, eq. 1) or "ratio" (CenterMask, eq. 2).
    cfg.MODEL.ROI_MASK_HEAD.ASSIGN_CRITERION = "area"
    # Predict the IoU of each mask, and the weight of that loss.
    cfg.MODEL.MASKIOU_ON = False
    cfg.MODEL.MASKIOU_LOSS_WEIGHT = 1.0
    cfg.MODEL.ROI_MASKIOU_HEAD = CfgNode()
    # Registered name, channels and number of convolutions of the mask IoU head.
    cfg.MODEL.ROI_MASKIOU_HEAD.NAME = "MaskIoUHead"
    cfg.MODEL.ROI_MASKIOU_HEAD.CONV_DIM = 256
    cfg.MODEL.ROI_MASKIOU_HEAD.NUM_CONV = 4
    # Levels and assignment rule of the keypoint head of CenterMask2.
    cfg.MODEL.ROI_KEYPOINT_HEAD.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    cfg.MODEL.ROI_KEYPOINT_HEAD.ASSIGN_CRITERION = "ratio"


def _add_ranking(cfg: CfgNode) -> None:
    cfg.MODEL.SOR = CfgNode()
    # Registered name of the ranking head; "" for none: a detector without ranks, evaluated by COCO AP.
    cfg.MODEL.SOR.NAME = "SinglePredictor"
    # Number of ranks K.
    cfg.MODEL.SOR.NUM_RANKS = 5
    # Channels and number of the 3x3 convolutions (the last has stride 2).
    cfg.MODEL.SOR.CONV_DIM = 256
    cfg.MODEL.SOR.NUM_CONV = 4
    # Width of the first and of the second fully connected layer.
    cfg.MODEL.SOR.DENSE_DIM = 1024
    cfg.MODEL.SOR.OBJ_DIM = 1024
    # Kept for published files; without effect there and here.
    cfg.MODEL.DET_WEIGHTS = 1.0

    cfg.MODEL.SOR.TRANSFORMER = CfgNode()
    # Encoder over the objects of an image: width, attention heads, layers.
    cfg.MODEL.SOR.TRANSFORMER.D_MODEL = 256
    cfg.MODEL.SOR.TRANSFORMER.N_HEAD = 1
    cfg.MODEL.SOR.TRANSFORMER.LAYERS = 1
    # Pool position maps beside the features.
    cfg.MODEL.SOR.TRANSFORMER.USE_POS = False
    # The published canvas in pixels. An image whose padded size equals it is measured on it, as
    # published; every other image is measured by its own size.
    cfg.MODEL.SOR.TRANSFORMER.IMG_WIDTH = 640
    cfg.MODEL.SOR.TRANSFORMER.IMG_HEIGHT = 480
    # Cells per side of the quantised position embedding.
    cfg.MODEL.SOR.QUANT_NUM = 4

    # [new] Dropout in the encoder (0.1 is the published constant).
    cfg.MODEL.SOR.TRANSFORMER.DROPOUT = 0.1
    # [new] How logits become ranks: "greedy" (published) or "all" (every object, by its rank score).
    cfg.MODEL.SOR.DECODE = "greedy"
    # [new] Probability a greedy pick must exceed; negative: the published value of the ROI heads
    # (0.1 for CenterROIHeads, 0 for MaskRCNNHeads).
    cfg.MODEL.SOR.RANK_THRESH = -1.0
    # [new] MaskRCNNHeads: feed mask logits, not probabilities, to the ranking head in training, as
    # published (inference always feeds probabilities).
    cfg.MODEL.SOR.RANK_ON_LOGITS = False
    # [new] Weight of the ranking loss.
    cfg.MODEL.SOR.LOSS_WEIGHT = 1.0


def _add_data(cfg: CfgNode) -> None:
    # [new] Folder that holds the datasets; empty: $DETECTRON2_DATASETS, else ./datasets.
    cfg.DATASETS.ROOT = ""
    # [new] Keep objects that are not salient, without a rank (published code leaves them out).
    cfg.DATASETS.KEEP_RANKLESS = False
    # [new] Cache what is known about the images of large datasets (checked at every use).
    cfg.DATASETS.CACHE = True
    # [new] Train on this part of the labelled images, every n-th of them (experiments with few labels).
    cfg.DATASETS.TRAIN_FRACTION = 1.0
    # [new] Rank labels in training: "top" (most salient = K - 1, counting down) or "keep" (the dataset's).
    cfg.DATASETS.RANK_RULE = "top"
    # [new] Objects beyond the K-th rank: "lowest" (share label 0) or "ignore" (no ranking loss).
    cfg.DATASETS.RANK_OVERFLOW = "lowest"

    # [new] In training, an object leaves if crops keep less than this share of its box.
    cfg.INPUT.MIN_VISIBLE = 0.0
    # [new] Large-scale jitter in place of the resize: random scale, then crop or pad to SIZE pixels
    # (a side, or [height, width]).
    cfg.INPUT.LSJ = CfgNode()
    cfg.INPUT.LSJ.ENABLED = False
    cfg.INPUT.LSJ.MIN_SCALE = 0.1
    cfg.INPUT.LSJ.MAX_SCALE = 2.0
    cfg.INPUT.LSJ.SIZE = [640, 640]
    # [new] Random crop that holds every ranked object whole; MIN_SIZE: least share of either side.
    cfg.INPUT.RANKED_CROP = CfgNode()
    cfg.INPUT.RANKED_CROP.ENABLED = False
    cfg.INPUT.RANKED_CROP.MIN_SIZE = 0.5
    # [new] Random change of colours: largest relative changes, and largest turn of the hue in degrees.
    cfg.INPUT.COLOR = CfgNode()
    cfg.INPUT.COLOR.ENABLED = False
    cfg.INPUT.COLOR.BRIGHTNESS = 0.2
    cfg.INPUT.COLOR.CONTRAST = 0.2
    cfg.INPUT.COLOR.SATURATION = 0.2
    cfg.INPUT.COLOR.HUE = 0.0
    # [new] Paste up to MAX_OBJECTS ranked objects of one of the last MEMORY images, with probability
    # PROB. RANKS: "interleave" (by distance from the top of their own image), "below" (all others) or
    # "none". Objects covered so that less than MIN_VISIBLE of their mask is left leave.
    cfg.INPUT.COPY_PASTE = CfgNode()
    cfg.INPUT.COPY_PASTE.ENABLED = False
    cfg.INPUT.COPY_PASTE.PROB = 0.5
    cfg.INPUT.COPY_PASTE.MAX_OBJECTS = 2
    cfg.INPUT.COPY_PASTE.RANKS = "interleave"
    cfg.INPUT.COPY_PASTE.MIN_VISIBLE = 0.2
    cfg.INPUT.COPY_PASTE.MEMORY = 64


def _add_training(cfg: CfgNode) -> None:
    # [new] "SGD" (detectron2's) or "AdamW". Beside detectron2's types of gradient clipping,
    # SOLVER.CLIP_GRADIENTS.CLIP_TYPE may be "full_model": the norm over all parameters.
    cfg.SOLVER.OPTIMIZER = "SGD"
    # [new] "default" (detectron2's) or "detr": flip, and resize with or without a crop before.
    cfg.INPUT.AUGMENTATION = "default"
    # [new] Images per process and step in evaluation; the answers do not depend on it.
    cfg.TEST.IMS_PER_BATCH = 1
    # [new] Mixed precision in evaluation (SOLVER.AMP.ENABLED is for training): float16 on GPUs, bfloat16
    # on CPUs. What decides about scores, boxes and ranks stays float32.
    cfg.TEST.AMP = False
    # Test-time augmentation, with TEST.AUG.ENABLED and TEST.AUG.FLIP of detectron2: the views have
    # short sides MIN_SIZES (and at most MAX_SIZE) where given, else SCALES times the sizes for testing.
    cfg.TEST.AUG.MIN_SIZES = ()
    # [new]
    cfg.TEST.AUG.SCALES = (0.75, 1.0, 1.25)
    # [new] Overlap from which detections in two views are one object.
    cfg.TEST.AUG.FUSION_IOU = 0.6
    # [new] What orders objects in evaluation: "pred_ranks" (those with a rank, as published) or
    # "pred_rank_scores" (all).
    cfg.TEST.RANK_FIELD = "pred_ranks"
