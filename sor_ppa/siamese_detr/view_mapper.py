"""From a file to two augmented views with matched regions (section 3.1)."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import detection_utils
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor
from torchvision.transforms import functional as TF

from ..data.unlabelled import ProposalCache
from .views import Array, TwoViews, crop_two_views, fill_regions, map_regions, random_regions, resized_shape

__all__ = ["TwoViewMapper", "cut_view", "distort", "flip_boxes"]

logger = logging.getLogger(__name__)

ATTEMPTS = 5  # crops tried per image until both views share a proposal
#: color adjustments and the range of their factor
JITTER: tuple[tuple[Any, float, float], ...] = (
    (TF.adjust_brightness, 0.6, 1.4),
    (TF.adjust_contrast, 0.6, 1.4),
    (TF.adjust_saturation, 0.6, 1.4),
    (TF.adjust_hue, -0.1, 0.1),
)


def flip_boxes(boxes: Array, width: int) -> Array:
    """Mirror (N, 4) corners in an image of ``width`` pixels."""
    return np.stack((width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]), axis=1)


def _crop(picture: Image.Image, box: Array, size: tuple[int, int]) -> Image.Image:
    """Cut a box with rounded corners, at least a pixel wide, and scale it to (width, height)."""
    left, top, right, bottom = (round(float(v)) for v in box)
    part = picture.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
    return part.resize(size, Image.Resampling.BILINEAR)


def cut_view(picture: Image.Image, views: TwoViews, view: int) -> Image.Image:
    """Return the pixels of view 0 or 1."""
    return _crop(picture, views.rectangles[view], (views.width, views.height))


def distort(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Apply color jitter (p .8), grayscale (p .2) and blur (p .5) as published."""
    if rng.random() < 0.8:
        for index in rng.permutation(len(JITTER)):
            adjust, low, high = JITTER[index]
            picture = adjust(picture, rng.uniform(low, high))
    if rng.random() < 0.2:
        picture = picture.convert("L").convert("RGB")
    if rng.random() < 0.5:
        picture = picture.filter(ImageFilter.GaussianBlur(radius=rng.uniform(0.1, 2.0)))
    return picture


class TwoViewMapper:
    """Dataset mapper of the pre-training.

    Args:
        cfg: with the keys of ``INPUT.TWO_VIEWS`` and ``MODEL.SIAMESE_DETR.PRETRAIN``.
        proposals: boxes of every image; None for random ones.

    A sample has ``views`` (2, 3, H, W) uint8 RGB, ``boxes`` (2, P, 4) corners in pixels of each
    view, row p the same region in both, ``crops`` (2, P, 3, S, S) uint8 if the feature loss is
    on, ``file_name`` and ``image_id``. The result is None for an image that cannot be read, or whose
    views share no region in several attempts; the loader then takes another image.
    """

    def __init__(self, cfg: CfgNode, proposals: ProposalCache | None) -> None:
        node = cfg.INPUT.TWO_VIEWS
        self.sizes = [int(s) for s in node.MIN_SIZES]
        self.max_size = int(node.MAX_SIZE)
        self.cut: dict[str, Any] = {
            "scale": tuple(node.SCALE),
            "aspect": tuple(node.ASPECT),
            "iou": float(node.IOU),
            "stochastic": bool(node.STOCHASTIC),
        }
        self.flip = float(node.FLIP)
        self.min_area = float(node.MIN_REGION_AREA)
        self.photometric = bool(node.PHOTOMETRIC)
        self.crop_size = int(node.CROP_SIZE) if cfg.MODEL.SIAMESE_DETR.PRETRAIN.FEATURE_WEIGHT else 0
        self.count = int(cfg.MODEL.SIAMESE_DETR.PRETRAIN.NUM_REGIONS)
        self.draws = int(node.PROPOSALS.RANDOM_DRAWS)
        self.max_aspect = float(node.PROPOSALS.RANDOM_ASPECT)
        self.proposals = proposals

    def __call__(self, record: dict[str, Any]) -> dict[str, Any] | None:
        """Return a sample of an image, or None."""
        rng = np.random.default_rng(np.random.randint(2**31, size=2))
        path = record["file_name"]
        try:
            picture = Image.fromarray(np.ascontiguousarray(detection_utils.read_image(path, format="RGB")))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            logger.warning("%s: cannot be read (%s); using another image", path, error)
            return None
        boxes = None if self.proposals is None else self.proposals.boxes(record["proposal_row"])
        for _ in range(ATTEMPTS):
            sample = self.sample(picture, boxes, rng)
            if sample is not None:
                return {**sample, "file_name": path, "image_id": record["image_id"]}
        return None

    def sample(
        self, picture: Image.Image, boxes: Array | None, rng: np.random.Generator
    ) -> dict[str, Tensor] | None:
        """Draw two views of an RGB picture; None if they share no region.

        Args:
            picture: the image.
            boxes: (N, 4) proposals in its pixels; None draws random regions.
            rng: source of random numbers.
        """
        size = resized_shape(*picture.size, int(rng.choice(self.sizes)), self.max_size)
        flip = rng.random() < self.flip
        views = crop_two_views(*size, **self.cut, draws=rng)
        regions = self.regions(boxes, picture.size, size, flip, views, rng)
        if regions.shape[1] == 0:
            return None
        regions = fill_regions(regions, views, self.count, rng)
        picture = picture.resize(size, Image.Resampling.BILINEAR)
        if flip:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        plain = [cut_view(picture, views, view) for view in (0, 1)]
        sample = {"boxes": torch.from_numpy(regions.astype(np.float32))}
        if self.crop_size:
            side = (self.crop_size, self.crop_size)
            crops = [
                _crop(view, box, side) for view, boxes in zip(plain, regions, strict=True) for box in boxes
            ]
            finished = torch.stack([self._finish(crop, rng) for crop in crops])
            sample["crops"] = finished.unflatten(0, regions.shape[:2])
        sample["views"] = torch.stack([self._finish(view, rng) for view in plain])
        return sample

    def regions(
        self,
        boxes: Array | None,
        original: tuple[int, int],
        size: tuple[int, int],
        flip: bool,
        views: TwoViews,
        rng: np.random.Generator,
    ) -> NDArray[np.float64]:
        """Return (2, M, 4) shared regions: proposals of the original picture, or random ones."""
        if boxes is None:
            return random_regions(
                views, count=self.draws, max_aspect=self.max_aspect, min_area=self.min_area, draws=rng
            )[0]
        scaled = boxes * np.array([size[0] / original[0], size[1] / original[1]] * 2)
        return map_regions(flip_boxes(scaled, size[0]) if flip else scaled, views, self.min_area)[0]

    def _finish(self, picture: Image.Image, rng: np.random.Generator) -> Tensor:
        """Return (3, H, W) uint8 with photometric distortion."""
        picture = distort(picture, rng) if self.photometric else picture
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()
