"""Configuration keys of the training-free ranker."""

from __future__ import annotations

from . import rules as r

__all__ = ["KEYS"]

_CONTRAST: r.Keys = {
    # [new] Long side in pixels at which a picture is analyzed.
    "SIDE": (400, r.whole(32, r.MAX_SIDE)),
    # [new] Superpixels per segmentation.
    "SUPERPIXELS": (500, r.whole(4, 100_000)),
    # [new] Independent segmentations of a picture (every second one of its mirror image) that vote together.
    "SEGMENTATIONS": (2, r.whole(1, 100)),
    # [new] Color words (k-means clusters) by which regions are compared.
    "WORDS": (24, r.whole(2, 1000)),
    # [new] Most objects per picture.
    "MAX_OBJECTS": (5, r.COUNT),
    # [new] Objects below this confidence are left out.
    "MIN_SCORE": (0.05, r.SHARE),
    # [new] Least CIELAB distance between the mean colors of an object and of its surround.
    "MIN_CONTRAST": (5.0, r.NOT_NEGATIVE),
    # [new] Least share of an object's outline with an edge.
    "MIN_OUTLINE": (0.3, r.SHARE),
    # [new] Box IoU from which candidates vote for one another.
    "VOTE_IOU": (0.6, r.SHARE),
    # [new] Share of the vote in a candidate's score; the rest is its own score.
    "VOTE": (0.6, r.SHARE),
    # [new] Box IoU above which the lower of two candidates is dropped.
    "NMS_IOU": (0.45, r.SHARE),
    # [new] Tighten outlines by GrabCut.
    "GRABCUT": (True, r.SWITCH),
    # [new] Half width of the band that GrabCut may change, as a fraction of the square root of the area.
    "BAND": (0.05, r.NOT_NEGATIVE),
}

# [new] Weights of the cues of an object, each measured in standard deviations over photographs.
_WEIGHTS: r.Keys = {
    # Distance of the mean color from that of the surround.
    "COLOR": (1.0, r.NUMBER),
    # Share of the outline without an edge, counted against.
    "OUTLINE": (1.0, r.NUMBER),
    # Colors that occur nowhere else.
    "UNIQUE": (1.0, r.NUMBER),
    # Colors of the surround that go on behind it.
    "SURROUND": (1.0, r.NUMBER),
    # Probability that the surround is background.
    "BACKGROUND": (1.0, r.NUMBER),
    # Variety of colors inside.
    "VARIETY": (1.0, r.NUMBER),
    # Height over width.
    "UPRIGHT": (1.0, r.NUMBER),
    # Sides of the picture that are touched, counted against.
    "BORDER": (1.0, r.NUMBER),
    # Closeness to the usual size of a main object.
    "SIZE": (1.0, r.NUMBER),
}

# [new] Weights of the order of the selected objects, beside their score by the cues above: mean saliency, box
# area, distance from the center (against); each in [0, 1].
_ORDER: r.Keys = {
    "SALIENCY": (1.0, r.NUMBER),
    "SIZE": (0.0, r.NUMBER),
    "CENTER": (0.0, r.NUMBER),
}

KEYS = {
    **r.below("MODEL.CONTRAST", _CONTRAST),
    **r.below("MODEL.CONTRAST.WEIGHTS", _WEIGHTS),
    **r.below("MODEL.CONTRAST.ORDER", _ORDER),
}
