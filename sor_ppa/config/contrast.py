"""Configuration keys of the training-free ranker; one comment a key."""

from __future__ import annotations

from detectron2.config import CfgNode

__all__ = ["add_contrast_config"]


def add_contrast_config(cfg: CfgNode) -> None:
    """Add ``MODEL.CONTRAST``, in place.

    Args:
        cfg: detectron2's config.
    """
    cfg.MODEL.CONTRAST = CfgNode()
    node = cfg.MODEL.CONTRAST
    # [new] Long side in pixels at which a picture is analyzed.
    node.SIDE = 400
    # [new] Superpixels per segmentation.
    node.SUPERPIXELS = 500
    # [new] Independent segmentations of a picture (every second one of its mirror image) that vote together.
    node.SEGMENTATIONS = 2
    # [new] Color words (k-means clusters) by which regions are compared.
    node.WORDS = 24
    # [new] Most objects per picture.
    node.MAX_OBJECTS = 5
    # [new] Objects below this confidence are left out.
    node.MIN_SCORE = 0.05
    # [new] Least CIELAB distance between the mean colors of an object and of its surround.
    node.MIN_CONTRAST = 5.0
    # [new] Least share of an object's outline with an edge.
    node.MIN_OUTLINE = 0.3
    # [new] Box IoU from which candidates vote for one another.
    node.VOTE_IOU = 0.6
    # [new] Share of the vote in a candidate's score; the rest is its own score.
    node.VOTE = 0.6
    # [new] Box IoU above which the lower of two candidates is dropped.
    node.NMS_IOU = 0.45
    # [new] Tighten outlines by GrabCut.
    node.GRABCUT = True
    # [new] Half width of the band that GrabCut may change, as a fraction of the square root of the area.
    node.BAND = 0.05

    # [new] Weights of the cues of an object, each measured in standard deviations over photographs.
    node.WEIGHTS = CfgNode()
    # Distance of the mean color from that of the surround.
    node.WEIGHTS.COLOR = 1.0
    # Share of the outline without an edge, counted against.
    node.WEIGHTS.OUTLINE = 1.0
    # Colors that occur nowhere else.
    node.WEIGHTS.UNIQUE = 1.0
    # Colors of the surround that go on behind it.
    node.WEIGHTS.SURROUND = 1.0
    # Probability that the surround is background.
    node.WEIGHTS.BACKGROUND = 1.0
    # Variety of colors inside.
    node.WEIGHTS.VARIETY = 1.0
    # Height over width.
    node.WEIGHTS.UPRIGHT = 1.0
    # Sides of the picture that are touched, counted against.
    node.WEIGHTS.BORDER = 1.0
    # Closeness to the usual size of a main object.
    node.WEIGHTS.SIZE = 1.0

    # [new] Weights of the order of the selected objects, beside their score by the cues above: mean
    # saliency, box area, distance from the center (against); each in [0, 1].
    node.ORDER = CfgNode()
    node.ORDER.SALIENCY = 1.0
    node.ORDER.SIZE = 0.0
    node.ORDER.CENTER = 0.0
