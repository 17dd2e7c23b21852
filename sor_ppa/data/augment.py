"""Augmentations beyond detectron2's; ranks stay with their objects in all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetFromList
from detectron2.data import transforms as T
from detectron2.data.detection_utils import build_augmentation
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from PIL import Image
from torchvision.transforms import ColorJitter

from .masks import mask_box
from .record import UNRANKED, dense_ranks

PASTE_RANKS = ("interleave", "below", "none")
"""How the ranks of pasted objects are merged into those of the image; see ``merged_ranks``."""


class _CompactCrop(T.CropTransform):
    """Crop to a contiguous array; Pillow, which resizes it, copies a view value by value."""

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(super().apply_image(img))


class RankedCrop(T.Augmentation):
    """Crop a random window that contains all ranked objects, whose boxes are those of the ``AugInput``.

    Args:
        min_size: least side of the window as a share of the image's, in (0, 1].
    """

    def __init__(self, min_size: float) -> None:
        super().__init__()
        assert 0 < min_size <= 1, min_size
        self.min_size = min_size

    def get_transform(self, image: np.ndarray, boxes: np.ndarray) -> T.Transform:
        """Return the crop of an image (H, W, C) with boxes (N, 4), XYXY."""
        window = []
        for axis, side in ((0, image.shape[1]), (1, image.shape[0])):
            low, high = side, 0
            if len(boxes):
                low = int(np.clip(np.floor(boxes[:, axis].min()), 0, side - 1))
                high = int(np.clip(np.ceil(boxes[:, axis + 2].max()), low + 1, side))
            length = int(np.ceil(side * np.random.uniform(self.min_size, 1.0)))
            length = min(max(length, high - low, 1), side)
            start = np.random.randint(max(0, high - length), min(low, side - length) + 1)
            window.append((start, length))
        (x, width), (y, height) = window
        return _CompactCrop(x, y, width, height, image.shape[1], image.shape[0])


class RandomColor(T.Augmentation):
    """Change brightness, contrast and saturation in random order, then the hue.

    Args:
        brightness, contrast, saturation: largest relative change of each, in [0, 1).
        hue: largest change of the hue in degrees, at most 180.
        image_format: "BGR" or "RGB".
    """

    def __init__(
        self, brightness: float, contrast: float, saturation: float, hue: float, image_format: str
    ) -> None:
        super().__init__()
        assert image_format in ("BGR", "RGB"), image_format
        self.is_bgr = image_format == "BGR"
        self.jitter = ColorJitter(brightness, contrast, saturation)
        self.hue = hue

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Return a change of colors for one image (H, W, 3), uint8."""
        turn = round(np.random.uniform(-self.hue, self.hue) * 256 / 360)

        def change(pixels: np.ndarray) -> np.ndarray:
            # Pillow and OpenCV take a sixth of the time of torchvision's tensors
            rgb = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB) if self.is_bgr else pixels
            changed = np.array(self.jitter(Image.fromarray(rgb)))
            if turn:
                hsv = np.asarray(cv2.cvtColor(changed, cv2.COLOR_RGB2HSV_FULL), np.uint8)
                hsv[..., 0] += np.uint8(turn % 256)
                changed = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)
            return cv2.cvtColor(changed, cv2.COLOR_RGB2BGR) if self.is_bgr else changed

        return T.ColorTransform(change)


def large_scale_jitter(min_scale: float, max_scale: float, size: int | Sequence[int]) -> list[T.Augmentation]:
    """Return large-scale jitter: resize by a random factor, then crop or pad to one size.

    Args:
        min_scale, max_scale: factors on the size that just fits ``size``.
        size: side, or (height, width), of the result in pixels.
    """
    assert 0 < min_scale <= max_scale, (min_scale, max_scale)
    height, width = (size, size) if isinstance(size, int) else size
    crop = T.FixedSizeCrop(crop_size=(height, width), pad=True)
    return [T.ResizeScale(min_scale, max_scale, height, width), crop]


def detr_augmentation(cfg: CfgNode) -> list[T.Augmentation]:
    """Return the augmentation that DETR-like detectors train with (DETR, section A.4).

    Flip with probability 0.5; with probability 0.5 resize to a short side of 400, 500 or 600 and crop a
    window with sides of 384 to 600; resize the short side to one of ``INPUT.MIN_SIZE_TRAIN``, the long
    side to at most ``INPUT.MAX_SIZE_TRAIN``.
    """
    larger = T.ResizeShortestEdge((400, 500, 600), sample_style="choice")
    crop = T.AugmentationList([larger, T.RandomCrop("absolute_range", (384, 600))])
    resize = T.ResizeShortestEdge(cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN, "choice")
    return [T.RandomFlip(), T.RandomApply(crop, prob=0.5), resize]


def training_augmentations(cfg: CfgNode) -> list[T.Augmentation]:
    """Return the augmentations of ``INPUT``, in the order in which they are applied."""
    node = cfg.INPUT
    assert node.AUGMENTATION in ("default", "detr"), node.AUGMENTATION
    augmentations = detr_augmentation(cfg) if node.AUGMENTATION == "detr" else build_augmentation(cfg, True)
    if node.LSJ.ENABLED:
        kept = [item for item in augmentations if not isinstance(item, T.ResizeShortestEdge)]
        augmentations = large_scale_jitter(node.LSJ.MIN_SCALE, node.LSJ.MAX_SCALE, node.LSJ.SIZE) + kept
    if node.RANKED_CROP.ENABLED:
        augmentations.insert(0, RankedCrop(node.RANKED_CROP.MIN_SIZE))
    if node.CROP.ENABLED:
        augmentations.insert(0, T.RandomCrop(node.CROP.TYPE, node.CROP.SIZE))
    if node.COLOR.ENABLED:
        reach = (node.COLOR.BRIGHTNESS, node.COLOR.CONTRAST, node.COLOR.SATURATION, node.COLOR.HUE)
        augmentations.append(RandomColor(*reach, node.FORMAT))
    return augmentations


def merged_ranks(host: Sequence[int], pasted: Sequence[int], rule: str) -> list[int]:
    """Return ranks of an image's objects followed by pasted ones; each group keeps its own order.

    Args:
        host: ranks in the image, higher = more salient, -1 = none.
        pasted: levels of the pasted objects in the image they come from: 0 = most salient, 1 = next;
            -1 = no rank.
        rule: ``interleave`` (by level; at equal levels the image's own object is more salient),
            ``below`` (all pasted objects below all others), ``none`` (no rank).

    Returns:
        dense ranks, -1 = none.
    """
    ranked = [rank for rank in host if rank >= 0]
    dense = dict(zip(ranked, dense_ranks(ranked), strict=True))
    top = max(dense.values(), default=0)
    keys: list[float | None] = [None if rank < 0 else 2.0 * (top - dense[rank]) for rank in host]
    first = 2.0 * (top + 1) if rule == "below" else 1.0
    keys += [None if level < 0 or rule == "none" else first + 2.0 * level for level in pasted]
    order = iter(dense_ranks([-key for key in keys if key is not None]))
    return [UNRANKED if key is None else next(order) for key in keys]


Load = Callable[[dict[str, Any]], tuple[np.ndarray, Instances]]


class CopyPaste:
    """Paste ranked objects of other images onto an image.

    Objects of the image that are covered too much are removed. The others keep their order; their masks
    and boxes shrink to the visible part.

    Args:
        probability: of pasting anything onto an image.
        max_objects: largest number of pasted objects.
        rule: ``interleave``, ``below`` or ``none``, see ``merged_ranks``.
        min_visible: share of an object that must stay visible, else it is removed.
    """

    def __init__(self, probability: float, max_objects: int, rule: str, min_visible: float) -> None:
        assert rule in PASTE_RANKS, rule
        self.probability = probability
        self.max_objects = max_objects
        self.rule = rule
        self.min_visible = min_visible
        self.donors: Sequence[dict[str, Any]] = []

    def set_donors(self, records: Sequence[dict[str, Any]]) -> None:
        """Paste from now on from those of the dataset dicts that have a ranked object."""
        ranked = [
            record
            for record in records
            if any(item.get("gt_rank", UNRANKED) >= 0 for item in record.get("annotations", ()))
        ]
        self.donors = DatasetFromList(ranked, copy=False) if ranked else []

    def __call__(self, image: np.ndarray, instances: Instances, load: Load) -> tuple[np.ndarray, Instances]:
        """Paste objects of one other image, or none; the masks are bit masks if anything was pasted.

        Args:
            image: (H, W, C), augmented.
            instances: its targets, with the dataset's own ranks.
            load: from a dataset dict to an augmented image and its targets.
        """
        if not len(self.donors) or np.random.rand() >= self.probability:
            return image, instances
        return self._paste(image, instances, *load(self.donors[np.random.randint(len(self.donors))]))

    def _paste(
        self, image: np.ndarray, instances: Instances, other: np.ndarray, source: Instances
    ) -> tuple[np.ndarray, Instances]:
        """Paste some ranked objects of ``other`` onto ``image`` at random places."""
        ranks = source.gt_ranks.tolist()
        candidates = [index for index, rank in enumerate(ranks) if rank >= 0]
        wanted = min(len(candidates), np.random.randint(1, self.max_objects + 1)) if candidates else 0
        chosen = sorted(np.random.permutation(candidates)[:wanted].tolist())
        height, width = image.shape[:2]
        canvas, planes, kept = image.copy(), [], []
        for index, mask in zip(chosen, bit_masks(source)[chosen], strict=True):
            box = mask_box(mask)
            if box is None:
                continue
            window = slice(box[1], box[3]), slice(box[0], box[2])
            piece = mask[window]
            if piece.shape[0] > 0.8 * height or piece.shape[1] > 0.8 * width:
                continue
            y = np.random.randint(0, height - piece.shape[0] + 1)
            x = np.random.randint(0, width - piece.shape[1] + 1)
            there = slice(y, y + piece.shape[0]), slice(x, x + piece.shape[1])
            canvas[there] = blend(canvas[there], other[window], piece)
            plane = np.zeros((height, width), bool)
            plane[there] = piece
            planes.append(plane)
            kept.append(index)
        if not kept:
            return image, instances
        return canvas, self._combined(instances, source[kept], np.stack(planes), ranks)

    def _combined(
        self, instances: Instances, pasted: Instances, planes: np.ndarray, ranks: list[int]
    ) -> Instances:
        """Return the targets after pasting; later planes (P, H, W) cover earlier ones and other objects.

        ``ranks`` are those of all objects of the image that the pasted ones come from.
        """
        masks = np.concatenate([bit_masks(instances), planes])
        before = masks.sum(axis=(1, 2))
        count = len(instances)
        for index in range(len(planes)):
            masks[: count + index] &= ~planes[index]
        after = masks.sum(axis=(1, 2))

        values = sorted({rank for rank in ranks if rank >= 0}, reverse=True)
        levels = [values.index(rank) for rank in pasted.gt_ranks.tolist()]
        bits = BitMasks(torch.from_numpy(masks))
        boxes = tight_boxes(bits)
        whole = torch.from_numpy(after[:count] == before[:count])
        boxes.tensor[:count][whole] = instances.gt_boxes.tensor[whole]  # as given where nothing was covered
        output = Instances(instances.image_size, gt_boxes=boxes, gt_masks=bits)
        output.gt_classes = torch.cat([instances.gt_classes, pasted.gt_classes])
        output.gt_ranks = torch.tensor(merged_ranks(instances.gt_ranks.tolist(), levels, self.rule))
        return output[torch.from_numpy((after > 0) & (after >= self.min_visible * before))]


def blend(below: np.ndarray, above: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return ``above`` on ``below`` inside ``mask``, with an edge of about one pixel."""
    alpha = np.where(mask, cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.7), 0)[..., None]
    mixed = below + alpha * (above.astype(np.float32) - below)
    return mixed.round().astype(below.dtype) if below.dtype == np.uint8 else mixed.astype(below.dtype)


def tight_boxes(masks: BitMasks | PolygonMasks) -> Boxes:
    """Return the boxes of masks, zeros for an empty one."""
    if isinstance(masks, PolygonMasks):
        return masks.get_bounding_boxes()
    # a tenth of the time of detectron2's
    boxes = [mask_box(mask) or (0, 0, 0, 0) for mask in masks.tensor.numpy()]
    return Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))


def bit_masks(instances: Instances) -> np.ndarray:
    """Return the masks (N, H, W), bool, of targets with polygons or bit masks; a copy."""
    masks = instances.gt_masks
    if not len(masks):
        return np.zeros((0, *instances.image_size), bool)
    if isinstance(masks, PolygonMasks):
        masks = BitMasks.from_polygon_masks(masks, *instances.image_size)
    return masks.tensor.numpy().astype(bool)
