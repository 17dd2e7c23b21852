"""Configuration keys of InSPyReNet."""

from __future__ import annotations

from . import rules as r

__all__ = ["KEYS"]

_INSPYRENET: r.Keys = {
    # Encoder.
    "BACKBONE": ("swin_b", r.one_of("res2net50", "swin_b")),
    # File with weights of the encoder alone, for training ("" = none).
    "BACKBONE_WEIGHTS": ("", r.TEXT),
    # Channels of every context and decoder feature.
    "DEPTH": (64, r.CHANNELS),
    # Side in pixels of the (square) training images; it sets the grids of the context attention.
    "BASE_SIZE": (384, r.COUNT),
    # How images are resized in inference: "static" (BASE_SIZE squared) or "dynamic" (aspect kept).
    "RESIZE": ("dynamic", r.one_of("static", "dynamic")),
    # L: the dynamic rule limits the shorter side to this many pixels.
    "MAX_SHORT_SIDE": (1280, r.SIDE),
    # Blend a high-resolution pass into a pass at BASE_SIZE where both sides exceed this many pixels;
    # smaller images take the pass at BASE_SIZE alone. 0: always a single pass at the resized size.
    "THRESHOLD": (512, r.COUNT_OR_ZERO),
    # Scale each map to [0, 1] by its own minimum and maximum, as published, also in images without a
    # salient object. False: the plain probabilities.
    "NORMALIZE": (True, r.SWITCH),
    # Side in pixels of the tiles in which the finest levels are computed; 0: no tiles, -1: by device.
    "TILE": (-1, r.whole(-1, r.MAX_SIDE)),
    # Learning rate of everything but the encoder, as a multiple of SOLVER.BASE_LR.
    "DECODER_LR_FACTOR": (10.0, r.NOT_NEGATIVE),
    # Exponent and final learning rate of the polynomial decay.
    "LR_POWER": (0.9, r.NOT_NEGATIVE),
    "LR_MINIMUM": (1e-7, r.NOT_NEGATIVE),
    # Augmentation: range of the random scale, and of the rotation in whole degrees (end excluded).
    "SCALE_RANGE": ([0.75, 1.25], r.rising(r.each(r.POSITIVE, length=2))),
    "ROTATION_RANGE": ([-10, 10], r.rising(r.each(r.whole(-360, 360), length=2), equal=False)),
}

_RANKING: r.Keys = {
    # [new] Sharpen each ranked mask inside its box at image resolution.
    "REFINE": (False, r.SWITCH),
    # [new] Source of ranks: "head" (the ranking branch) or "saliency" (the post-processing baseline:
    # the mean of the saliency map of REFINER's InSPyReNet under each mask).
    "RANK_BY": ("head", r.one_of("head", "saliency")),
    # [new] What refines a mask's edge: "color" (the colors on both sides; needs no weights) or "network"
    # (the InSPyReNet of CONFIG).
    "REFINER.METHOD": ("color", r.one_of("color", "network")),
    # [new] Config and weights of the InSPyReNet for METHOD "network" and for RANK_BY "saliency".
    "REFINER.CONFIG": ("", r.TEXT),
    "REFINER.WEIGHTS": ("", r.TEXT),
    # [new] Margin around a box as a fraction of its sides.
    "REFINER.MARGIN": (0.15, r.NOT_NEGATIVE),
    # [new] Half width of the band around a mask's edge that may change, as a fraction of the square root
    # of its area.
    "REFINER.BAND": (0.1, r.NOT_NEGATIVE),
}

KEYS = {
    **r.below("MODEL.INSPYRENET", _INSPYRENET),
    **r.below("MODEL.SOR", _RANKING),
    # [new] Salient object detection sets beyond the usual ones, each "name=folder".
    "DATASETS.SOD": ([], r.each(r.NAME_AND_FOLDER, least=0)),
}
