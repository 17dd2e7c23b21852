"""Class-agnostic region proposals: EdgeBoxes on structured or on gradient edges (section 3.1)."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import detection_utils
from numpy.typing import NDArray

from .saved_proposals import SavedProposals

DENSEST = 0.04  # share of the pixels that gradient edges cover at most
SHORTEST = 8  # pixels of the shortest connected gradient edge
COUNTED = 0.1  # EdgeBoxes ignores weaker edges (edgeMinMag)
FAINT = 0.02  # an image with smaller gradients (in a range of 1) counts as flat
SMALLEST_RESCALED = 1000.0  # shorter side, in pixels, of the second attempt

Array = NDArray[Any]

#: Names for ``INPUT.TWO_VIEWS.PROPOSALS.METHOD``.
METHODS = ("edge_boxes", "gradient_boxes", "saved", "random")


def _ximgproc() -> Any:
    if not hasattr(cv2, "ximgproc"):
        raise ImportError(
            "cv2.ximgproc: expected opencv-contrib-python-headless (for EdgeBoxes), "
            "found an OpenCV without contributed modules"
        )
    return cv2.ximgproc


def edge_boxes(edges: Array, orientation: Array, max_boxes: int = 512) -> tuple[Array, Array]:
    """Run EdgeBoxes (Zitnick and Dollár, ECCV 2014) with OpenCV's default parameters.

    Args:
        edges: (H, W) float32 edge strength in [0, 1], thinned.
        orientation: (H, W) float32 direction of the edge normal in [0, pi).
        max_boxes: boxes kept.

    Returns:
        (N, 4) int64 corners and (N,) float32 scores, best first.
    """
    finder = _ximgproc().createEdgeBoxes()
    finder.setMaxBoxes(max_boxes)
    boxes, scores = finder.getBoundingBoxes(np.float32(edges), np.float32(orientation))
    corners = np.asarray(boxes, dtype=np.int64).reshape(-1, 4).copy()
    corners[:, 2:] += corners[:, :2]
    return corners, np.asarray(scores, dtype=np.float32).reshape(-1)


def thin_edges(strength: Array, orientation: Array) -> Array:
    """Suppress edges (H, W) float32 that are weaker than their neighbors one pixel along the normal."""
    height, width = strength.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    dx, dy = np.cos(orientation).astype(np.float32), np.sin(orientation).astype(np.float32)
    kept = strength.astype(np.float32)
    for side in (1, -1):
        place = x + side * dx, y + side * dy
        beside = cv2.remap(kept, *place, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        strength = np.where(kept < beside, 0, strength)
    return strength.astype(np.float32)


def sparse_edges(edges: Array) -> Array:
    """Keep the strongest edges and of these the long ones.

    The time of EdgeBoxes grows with the square of the number of edges. Learned edges cover 2 to 4 percent of
    an image and are connected; a photograph has gradients everywhere. Takes and returns (H, W) float32.
    """
    most = max(1, int(DENSEST * edges.size))
    if np.count_nonzero(edges) > most:
        weakest = np.partition(edges.ravel(), edges.size - most)[edges.size - most]
        edges = np.where(edges >= weakest, edges, 0)
    _, labels, stats, _ = cv2.connectedComponentsWithStats((edges > COUNTED).astype(np.uint8), connectivity=8)
    return np.where((stats[:, cv2.CC_STAT_AREA] < SHORTEST)[labels], 0, edges).astype(np.float32)


def gradient_edges(image: Array) -> tuple[Array, Array]:
    """Return thinned and sparse color gradients of an (H, W, 3) uint8 image, without a learned model.

    Returns:
        edge strength in [0, 1] and direction of the normal in [0, pi), both (H, W) float32.
    """
    smooth = cv2.GaussianBlur(image.astype(np.float32) / 255, (0, 0), 1.0)
    gx = cv2.Scharr(smooth, cv2.CV_32F, 1, 0, scale=1 / 32)
    gy = cv2.Scharr(smooth, cv2.CV_32F, 0, 1, scale=1 / 32)
    power = gx * gx + gy * gy
    best = power.argmax(axis=2)[..., None]
    gx, gy = np.take_along_axis(gx, best, 2)[..., 0], np.take_along_axis(gy, best, 2)[..., 0]
    magnitude = np.sqrt(np.take_along_axis(power, best, 2)[..., 0])
    orientation = np.mod(np.arctan2(gy, gx), math.pi).astype(np.float32)
    ceiling = max(float(np.quantile(magnitude, 0.99)), FAINT)
    return sparse_edges(thin_edges(np.minimum(magnitude / ceiling, 1), orientation)), orientation


@lru_cache(maxsize=1)
def _forest(path: str) -> Any:
    return _ximgproc().createStructuredEdgeDetection(path)


def structured_edges(image: Array, forest: str) -> tuple[Array, Array]:
    """Return thinned edges and orientation from a structured forest (Dollár and Zitnick, 2015)."""
    detector = _forest(forest)
    edges = detector.detectEdges(image.astype(np.float32) / 255)
    orientation = detector.computeOrientation(edges)
    return detector.edgesNms(edges, orientation), orientation


@dataclass(frozen=True)
class EdgeBoxProposer:
    """Boxes of an image file by EdgeBoxes; can be sent to other processes.

    Args:
        max_boxes: boxes kept per image.
        edge_model: OpenCV's structured-edge forest (``model.yml.gz``); empty for gradient edges.

    Raises:
        ImportError: OpenCV has no contributed modules.
        FileNotFoundError: the forest does not exist.
    """

    max_boxes: int = 512
    edge_model: str = ""

    def __post_init__(self) -> None:
        _ximgproc()
        if self.edge_model and not os.path.isfile(self.edge_model):
            raise FileNotFoundError(
                f"{self.edge_model}: expected OpenCV's structured-edge forest, found no such file"
            )

    def __call__(self, path: str) -> tuple[Array, Array]:
        """Return (N, 4) int64 corners in pixels, best first, and (N,) scores; at least one box.

        Raises:
            OSError: the file cannot be read as an image.
        """
        cv2.setNumThreads(1)
        return self.propose(detection_utils.read_image(path, format="RGB"))

    def propose(self, image: Array) -> tuple[Array, Array]:
        """Return the same for an (H, W, 3) uint8 RGB image.

        An image without boxes gets a second attempt with higher sharpness, contrast and size. If that
        fails, too, the result is its central half.
        """
        boxes, scores = self.detect(image)
        if len(boxes) == 0:
            enlarged, factor = _sharpen(image)
            boxes, scores = self.detect(enlarged)
            boxes = _divide(boxes, factor)
        if len(boxes) == 0:
            height, width = image.shape[:2]
            quarter = np.array([[width // 4, height // 4, width // 4 * 3, height // 4 * 3]])
            return quarter.astype(np.int64), np.zeros(1, np.float32)
        return boxes, scores

    def detect(self, image: Array) -> tuple[Array, Array]:
        """Run EdgeBoxes on the edges of an (H, W, 3) uint8 RGB image."""
        if min(image.shape[:2]) < 3:
            return np.zeros((0, 4), np.int64), np.zeros(0, np.float32)
        image = np.ascontiguousarray(image)
        edges = structured_edges(image, self.edge_model) if self.edge_model else gradient_edges(image)
        return edge_boxes(*edges, self.max_boxes)


def _divide(boxes: Array, factor: int) -> Array:
    """Return corners in the original image; origin and size are rounded down separately, as published."""
    origin = boxes[:, :2] // factor
    return np.concatenate((origin, origin + (boxes[:, 2:] - boxes[:, :2]) // factor), axis=1)


def _sharpen(image: Array) -> tuple[Array, int]:
    """Return a sharpened, contrasted and enlarged copy and the factor of enlargement."""
    kernel = np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]], dtype=np.float32)
    strong = cv2.convertScaleAbs(cv2.filter2D(image, -1, kernel), alpha=1.5, beta=0)
    height, width = image.shape[:2]
    factor = math.ceil(SMALLEST_RESCALED / min(height, width))
    if max(height, width) * factor > 8 * SMALLEST_RESCALED:  # limit the memory for a thin strip
        factor = max(1, int(8 * SMALLEST_RESCALED) // max(height, width))
    return cv2.resize(strong, (width * factor, height * factor)), factor


def make_proposer(cfg: CfgNode) -> tuple[EdgeBoxProposer | SavedProposals | None, dict[str, Any]]:
    """Return the proposer of a config (None for random boxes) and the settings its boxes depend on.

    Raises:
        ValueError: the method needs a forest and none is given.
        FileNotFoundError: the method needs a folder or a forest that does not exist.
    """
    node = cfg.INPUT.TWO_VIEWS.PROPOSALS
    assert node.METHOD in METHODS
    settings = {"method": node.METHOD, "max_boxes": node.MAX_BOXES}
    if node.METHOD == "gradient_boxes":
        settings["densest"] = DENSEST
    if node.METHOD == "random":
        return None, settings
    if node.METHOD == "saved":
        return SavedProposals(node.FOLDER, node.MAX_BOXES), settings | {"folder": node.FOLDER}
    if node.METHOD == "edge_boxes" and not node.EDGE_MODEL:
        raise ValueError(
            "INPUT.TWO_VIEWS.PROPOSALS.EDGE_MODEL: expected OpenCV's structured-edge forest, found nothing "
            "(METHOD 'gradient_boxes' needs none)"
        )
    return EdgeBoxProposer(node.MAX_BOXES, node.EDGE_MODEL if node.METHOD == "edge_boxes" else ""), settings
