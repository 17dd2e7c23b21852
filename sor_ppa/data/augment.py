"""Augmentations beyond detectron2's, all of which leave ranks with their objects."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks

from .record import UNRANKED, dense_ranks

__all__ = ["PASTE_RANKS", "CopyPaste", "RandomColour", "RankedCrop", "large_scale_jitter", "merged_ranks"]

PASTE_RANKS = ("interleave", "below", "none")


class RankedCrop(T.Augmentation):
    """Crop a random window that holds every ranked object whole.

    The boxes of the ranked objects come with the input (``AugInput(image, boxes=...)``).
    """

    def __init__(self, min_size: float) -> None:
        """
        Args:
            min_size: least side of the window as a share of the image's, in (0, 1].
        """
        super().__init__()
        if not 0 < min_size <= 1:
            raise ValueError(f"INPUT.RANKED_CROP.MIN_SIZE: found {min_size}, expected a share in (0, 1]")
        self.min_size = min_size

    def get_transform(self, image: np.ndarray, boxes: np.ndarray) -> T.Transform:
        """The window for one image (H, W, C) and its boxes (N, 4), XYXY."""
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
        return T.CropTransform(x, y, width, height, image.shape[1], image.shape[0])


class RandomColour(T.Augmentation):
    """Change brightness, contrast, saturation and hue a little."""

    def __init__(
        self, brightness: float, contrast: float, saturation: float, hue: float, image_format: str
    ) -> None:
        """
        Args:
            brightness, contrast, saturation: largest relative change of each, such as 0.2.
            hue: largest turn of the hue in degrees.
            image_format: "BGR" or "RGB".
        """
        super().__init__()
        for name, value in (("BRIGHTNESS", brightness), ("CONTRAST", contrast), ("SATURATION", saturation)):
            if not 0 <= value < 1:
                raise ValueError(f"INPUT.COLOR.{name}: found {value}, expected a share in [0, 1)")
        if image_format not in ("BGR", "RGB"):
            raise ValueError(f"INPUT.COLOR: found INPUT.FORMAT {image_format!r}, expected BGR or RGB")
        self.reach = (brightness, contrast, saturation)
        self.hue = hue
        self.weights = np.array([0.114, 0.587, 0.299], np.float32)
        self.codes = (cv2.COLOR_BGR2HSV, cv2.COLOR_HSV2BGR)
        if image_format == "RGB":
            self.weights = self.weights[::-1].copy()
            self.codes = (cv2.COLOR_RGB2HSV, cv2.COLOR_HSV2RGB)

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """A change of colours for one image (H, W, 3)."""
        brightness, contrast, saturation = (1 + np.random.uniform(-1, 1) * reach for reach in self.reach)
        turn = np.random.uniform(-1, 1) * self.hue

        def change(pixels: np.ndarray) -> np.ndarray:
            values: np.ndarray = pixels.astype(np.float32)
            if turn:
                hsv = cv2.cvtColor(values / 255, self.codes[0])
                hsv[..., 0] = (hsv[..., 0] + turn) % 360
                values = cv2.cvtColor(hsv, self.codes[1]) * 255
            grey = (values @ self.weights)[..., None]
            values = grey + saturation * (values - grey)
            values = brightness * (grey.mean() + contrast * (values - grey.mean()))
            changed = values.clip(0, 255)
            return changed.round().astype(np.uint8) if pixels.dtype == np.uint8 else changed

        return T.ColorTransform(change)


def large_scale_jitter(min_scale: float, max_scale: float, size: int | Sequence[int]) -> list[T.Augmentation]:
    """Large-scale jitter: resize by a random factor, then crop or pad to one size.

    Args:
        min_scale, max_scale: factors on the size that just fits ``size``.
        size: side, or (height, width), of the result in pixels.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if not 0 < min_scale <= max_scale:
        raise ValueError(f"INPUT.LSJ: found scales {min_scale} to {max_scale}, expected 0 < least <= most")
    return [
        T.ResizeScale(min_scale, max_scale, height, width),
        T.FixedSizeCrop(crop_size=(height, width), pad=True),
    ]


def merged_ranks(host: Sequence[int], pasted: Sequence[int], rule: str) -> list[int]:
    """Ranks of an image's objects followed by pasted ones; each group keeps its own order.

    Args:
        host: ranks in the image, higher = more salient, -1 = none.
        pasted: ranks that the pasted objects have in the image they come from, as their distance from
            that image's top: 0 = most salient there, 1 = next; -1 = none.
        rule: ``interleave`` (by distance from the top; of two at the same distance the image's own is
            the more salient), ``below`` (all pasted objects below all others), ``none`` (no rank).

    Returns:
        dense ranks, -1 = none.
    """
    ranked = [rank for rank in host if rank >= 0]
    dense = dict(zip(ranked, dense_ranks(ranked), strict=True))
    top = max(dense.values(), default=0)
    keys: list[float | None] = [None if rank < 0 else 2.0 * (top - dense[rank]) for rank in host]
    floor = 2.0 * (top + 1) if rule == "below" else 1.0
    keys += [None if level < 0 or rule == "none" else floor + 2.0 * level for level in pasted]
    order = iter(dense_ranks([-key for key in keys if key is not None]))
    return [UNRANKED if key is None else next(order) for key in keys]


Load = Callable[[dict[str, Any]], tuple[np.ndarray, Instances]]


class CopyPaste:
    """Paste ranked objects of images seen before onto an image.

    Objects of the image that lose too much of themselves leave; the others keep their order, masks
    are cut and boxes tightened.
    """

    def __init__(
        self, probability: float, max_objects: int, rule: str, min_visible: float, memory: int
    ) -> None:
        """
        Args:
            probability: of pasting anything onto an image.
            max_objects: at most so many objects.
            rule: ``interleave``, ``below`` or ``none``, see ``merged_ranks``.
            min_visible: share of an object that must stay visible, else it leaves.
            memory: how many images are remembered to paste from.
        """
        if rule not in PASTE_RANKS:
            expected = ", ".join(PASTE_RANKS)
            raise ValueError(f"INPUT.COPY_PASTE.RANKS: found {rule!r}, expected one of {expected}")
        self.probability = probability
        self.max_objects = max_objects
        self.rule = rule
        self.min_visible = min_visible
        self.recent: deque[dict[str, Any]] = deque(maxlen=memory)

    def __call__(
        self, image: np.ndarray, instances: Instances, sample: dict[str, Any], load: Load
    ) -> tuple[np.ndarray, Instances]:
        """
        Args:
            image: (H, W, C), augmented.
            instances: its targets, with the dataset's own ranks.
            sample: the dict that they come from; remembered for later.
            load: from a dict to an augmented image and its targets.

        Returns:
            image and targets; the masks are bit masks if anything was pasted.
        """
        donors = list(self.recent)
        if any(item.get("gt_rank", UNRANKED) >= 0 for item in sample.get("annotations", ())):
            self.recent.append(sample)
        if not donors or np.random.rand() >= self.probability:
            return image, instances
        other, source = load(donors[np.random.randint(len(donors))])
        return self.paste(image, instances, other, source)

    def paste(
        self, image: np.ndarray, instances: Instances, other: np.ndarray, source: Instances
    ) -> tuple[np.ndarray, Instances]:
        """Paste some ranked objects of ``other`` onto ``image``; see ``__call__``."""
        ranks = source.gt_ranks.tolist()
        candidates = [index for index, rank in enumerate(ranks) if rank >= 0]
        wanted = min(len(candidates), np.random.randint(1, self.max_objects + 1)) if candidates else 0
        chosen = sorted(np.random.permutation(candidates)[:wanted].tolist())
        height, width = image.shape[:2]
        canvas, planes, kept = image.copy(), [], []
        for index, mask in zip(chosen, bit_masks(source)[chosen], strict=True):
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            if not len(rows):
                continue
            window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
            piece = mask[window]
            if piece.shape[0] > 0.8 * height or piece.shape[1] > 0.8 * width:
                continue
            y = np.random.randint(0, height - piece.shape[0] + 1)
            x = np.random.randint(0, width - piece.shape[1] + 1)
            there = slice(y, y + piece.shape[0]), slice(x, x + piece.shape[1])
            canvas[there] = _blend(canvas[there], other[window], piece)
            plane = np.zeros((height, width), bool)
            plane[there] = piece
            planes.append(plane)
            kept.append(index)
        if not kept:
            return image, instances
        return canvas, self._combined(instances, source[kept], np.stack(planes), ranks, kept)

    def _combined(
        self, instances: Instances, pasted: Instances, planes: np.ndarray, ranks: list[int], kept: list[int]
    ) -> Instances:
        """Targets after pasting: later planes cover earlier ones, all cover the image's own objects."""
        masks = np.concatenate([bit_masks(instances), planes])
        before = masks.reshape(len(masks), -1).sum(axis=1)
        count = len(instances)
        for index in range(len(planes)):
            masks[: count + index] &= ~planes[index]
        after = masks.reshape(len(masks), -1).sum(axis=1)

        values = sorted({rank for rank in ranks if rank >= 0}, reverse=True)
        levels = [values.index(ranks[index]) for index in kept]
        merged = merged_ranks(instances.gt_ranks.tolist(), levels, self.rule)
        output = Instances(instances.image_size)
        bits = BitMasks(torch.from_numpy(masks))
        output.gt_boxes = bits.get_bounding_boxes()
        output.gt_boxes.tensor[:count] = _within(instances.gt_boxes, output.gt_boxes[:count], after, before)
        output.gt_classes = torch.cat([instances.gt_classes, pasted.gt_classes])
        output.gt_masks = bits
        output.gt_ranks = torch.tensor(merged, dtype=torch.int64)
        stays = (after > 0) & (after >= self.min_visible * before)
        return output[torch.from_numpy(stays)]


def _within(given: Boxes, tight: Boxes, after: np.ndarray, before: np.ndarray) -> torch.Tensor:
    """Boxes as given where nothing was covered, tight ones elsewhere."""
    count = len(given)
    changed = torch.from_numpy(after[:count] != before[:count])[:, None]
    return torch.where(changed, tight.tensor, given.tensor)


def _blend(below: np.ndarray, above: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """``above`` on ``below`` where ``mask``, with an edge of about one pixel."""
    alpha = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.7)[..., None]
    alpha = np.where(mask[..., None], alpha, 0)
    mixed = below + alpha * (above.astype(np.float32) - below)
    return mixed.round().astype(below.dtype) if below.dtype == np.uint8 else mixed.astype(below.dtype)


def bit_masks(instances: Instances) -> np.ndarray:
    """(N, H, W) bool masks of targets, whatever their kind; a copy."""
    masks = instances.gt_masks
    if isinstance(masks, PolygonMasks):
        masks = BitMasks.from_polygon_masks(masks, *instances.image_size) if len(masks) else None
    if masks is None or not len(masks):
        return np.zeros((0, *instances.image_size), bool)
    return masks.tensor.numpy().astype(bool).copy()
