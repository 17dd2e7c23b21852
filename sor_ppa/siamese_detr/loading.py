"""The data loader of the pre-training: two views of unlabeled images with matched regions (section 3.1)."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import detection_utils
from detectron2.utils import comm
from PIL import Image, ImageFilter
from torch import Tensor
from torchvision.transforms import functional as TF

from ..data.issues import DatasetError
from ..data.train_loader import TrainingBatches, train_loader
from ..data.unlabelled import ProposalCache, build_proposal_cache, unlabelled_records
from .region_proposals import make_proposer
from .views import (
    Array,
    TwoViews,
    cut_two_views,
    fill_regions,
    map_regions,
    outer_rectangle,
    random_regions,
    resized_shape,
)

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


def _cut_box(picture: Image.Image, box: Array, size: tuple[int, int]) -> Image.Image:
    """Cut a box with rounded corners, at least a pixel wide, and scale it to (width, height)."""
    left, top, right, bottom = (round(float(v)) for v in box)
    part = picture.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
    return part.resize(size, Image.Resampling.BILINEAR)


def cut_view(picture: Image.Image, views: TwoViews, view: int) -> Image.Image:
    """Return the pixels of view 0 or 1."""
    return _cut_box(picture, views.rectangles[view], (views.width, views.height))


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
    on, ``file_name`` and ``image_id``. The result is None for an image whose views share no region in several
    attempts; the loader then takes another image.
    """

    def __init__(self, cfg: CfgNode, proposals: ProposalCache | None) -> None:
        node = cfg.INPUT.TWO_VIEWS
        self.node = node
        self.crop_size = node.CROP_SIZE if cfg.MODEL.SIAMESE_DETR.PRETRAIN.FEATURE_WEIGHT else 0
        self.count = cfg.MODEL.SIAMESE_DETR.PRETRAIN.NUM_REGIONS
        self.proposals = proposals

    def __call__(self, record: dict[str, Any]) -> dict[str, Any] | None:
        """Return a sample of an image, or None; raise ``DatasetError`` if it cannot be read."""
        rng = np.random.default_rng(np.random.randint(2**31, size=2))
        path = record["file_name"]
        try:
            picture = Image.fromarray(np.ascontiguousarray(detection_utils.read_image(path, format="RGB")))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise DatasetError(f"{path}: cannot be read ({error})") from error
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
        node = self.node
        size = resized_shape(*picture.size, int(rng.choice(node.MIN_SIZES)), node.MAX_SIZE)
        flip = rng.random() < node.FLIP
        outer = outer_rectangle(*size, node.SCALE, node.ASPECT, rng)
        views = cut_two_views(outer, node.IOU, node.STOCHASTIC, rng)
        if boxes is None:
            draws, aspect = node.PROPOSALS.RANDOM_DRAWS, node.PROPOSALS.RANDOM_ASPECT
            regions, _ = random_regions(
                views, count=draws, max_aspect=aspect, min_area=node.MIN_REGION_AREA, draws=rng
            )
        else:
            boxes = boxes * np.array([size[0] / picture.width, size[1] / picture.height] * 2)
            boxes = flip_boxes(boxes, size[0]) if flip else boxes
            regions, _ = map_regions(boxes, views, node.MIN_REGION_AREA)
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
            cuts = [_cut_box(plain[view], box, side) for view in (0, 1) for box in regions[view]]
            finished = torch.stack([self._finish(cut, rng) for cut in cuts])
            sample["crops"] = finished.unflatten(0, regions.shape[:2])
        sample["views"] = torch.stack([self._finish(view, rng) for view in plain])
        return sample

    def _finish(self, picture: Image.Image, rng: np.random.Generator) -> Tensor:
        """Return (3, H, W) uint8 with photometric distortion."""
        picture = distort(picture, rng) if self.node.PHOTOMETRIC else picture
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()


def load_proposals(cfg: CfgNode, records: list[dict[str, Any]]) -> ProposalCache | None:
    """Return the cached boxes of all records, or None for random boxes.

    The main process computes missing boxes while the others wait.

    Raises:
        ValueError: the cache was made for other images or settings.
    """
    propose, settings = make_proposer(cfg)
    if propose is None:
        return None
    node = cfg.INPUT.TWO_VIEWS.PROPOSALS
    folder = node.CACHE or os.path.join(cfg.OUTPUT_DIR, "proposals")
    files = [record["file_name"] for record in records]
    if comm.is_main_process():
        build_proposal_cache(files, folder, propose, settings, node.WORKERS)
    comm.synchronize()
    return ProposalCache(folder)


def build_pretraining_loader(cfg: CfgNode) -> TrainingBatches:
    """Return endless batches of :class:`TwoViewMapper` samples of ``DATASETS.TRAIN``.

    Raises:
        ValueError: no image has a proposal.
    """
    records = unlabelled_records(cfg.DATASETS.TRAIN)
    proposals = load_proposals(cfg, records)
    if proposals is not None:
        filled = np.flatnonzero(proposals.counts())
        records = [records[i] for i in filled]
        if not records:
            raise ValueError(f"{proposals.folder}: expected boxes, found none for any image")
    return train_loader(cfg, TwoViewMapper(cfg, proposals), records)
