"""Configuration keys of InSPyReNet."""

from __future__ import annotations

from detectron2.config import CfgNode

__all__ = ["add_inspyrenet_config"]


def add_inspyrenet_config(cfg: CfgNode) -> None:
    """Add ``MODEL.INSPYRENET``, ``MODEL.SOR.REFINE``, ``MODEL.SOR.REFINER`` and ``DATASETS.SOD``, in place.

    Args:
        cfg: detectron2's config; keys that are there already keep their values.
    """
    if "INSPYRENET" not in cfg.MODEL:
        cfg.MODEL.INSPYRENET = _network()
    # [new] Salient object detection sets beyond the usual ones, each "name=folder".
    cfg.DATASETS.setdefault("SOD", [])
    sor = cfg.MODEL.setdefault("SOR", CfgNode())
    # [new] Sharpen each ranked mask inside its box at image resolution.
    sor.setdefault("REFINE", False)
    # [new] Source of ranks: "head" (the ranking branch) or "saliency" (the post-processing baseline:
    # the mean of the saliency map of REFINER's InSPyReNet under each mask).
    sor.setdefault("RANK_BY", "head")
    if "REFINER" not in sor:
        sor.REFINER = _refiner()


def _network() -> CfgNode:
    node = CfgNode()
    # Encoder: "res2net50" or "swin_b".
    node.BACKBONE = "swin_b"
    # File with weights of the encoder alone, for training ("" = none).
    node.BACKBONE_WEIGHTS = ""
    # Channels of every context and decoder feature.
    node.DEPTH = 64
    # Side in pixels of the (square) training images; it sets the grids of the context attention.
    node.BASE_SIZE = 384
    # How images are resized in inference: "static" (BASE_SIZE squared) or "dynamic" (aspect kept).
    node.RESIZE = "dynamic"
    # L: the dynamic rule limits the shorter side to this many pixels.
    node.MAX_SHORT_SIDE = 1280
    # Blend a high-resolution pass into a pass at BASE_SIZE where both sides exceed this many pixels;
    # smaller images take the pass at BASE_SIZE alone. 0: always a single pass at the resized size.
    node.THRESHOLD = 512
    # Scale each map to [0, 1] by its own minimum and maximum, as published, also in images without a
    # salient object. False: the plain probabilities.
    node.NORMALIZE = True
    # Side in pixels of the tiles in which the finest levels are computed; 0: no tiles, -1: by device.
    node.TILE = -1
    # Normalization: "BN" or "SyncBN".
    node.NORM = "BN"
    # Learning rate of everything but the encoder, as a multiple of SOLVER.BASE_LR.
    node.DECODER_LR_FACTOR = 10.0
    # Exponent and final learning rate of the polynomial decay.
    node.LR_POWER = 0.9
    node.LR_MINIMUM = 1e-7
    # Augmentation: range of the random scale, and of the rotation in whole degrees (end excluded).
    node.SCALE_RANGE = [0.75, 1.25]
    node.ROTATION_RANGE = [-10, 10]
    return node


def _refiner() -> CfgNode:
    node = CfgNode()
    # [new] What refines a mask's edge: "color" (the colors on both sides; needs no weights) or "network"
    # (the InSPyReNet of CONFIG).
    node.METHOD = "color"
    # [new] Config and weights of the InSPyReNet for METHOD "network" and for RANK_BY "saliency".
    node.CONFIG = ""
    node.WEIGHTS = ""
    # [new] Margin around a box as a fraction of its sides.
    node.MARGIN = 0.15
    # [new] Half width of the band around a mask's edge that may change, as a fraction of the square root
    # of its area.
    node.BAND = 0.1
    return node
