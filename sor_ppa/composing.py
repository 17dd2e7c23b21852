"""Training scenes whose outlines are known, made of objects that were cut out of photos.

A ranker without training merges objects that touch, and a network that learns from its labels learns to
merge. Here, objects that look single are cut out and pasted onto photos without objects (Dwibedi et al., Cut,
Paste and Learn, ICCV 2017); the teacher only says their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as mask_util

from .contrast import ContrastRanker
from .data.augment import blend
from .data.masks import encode_mask, mask_box
from .data.record import ImageRecord, dense_ranks, object_of_mask
from .labeling import LabeledPhoto
from .predictor import SORPredictor
from .visualization.files import read_image, write_image

__all__ = ["SceneMaterial", "Scores", "scene_scores"]

Scores = Callable[[NDArray[np.uint8], NDArray[np.bool_]], NDArray[np.floating]]

_AGREEMENT = 0.85  # least IoU of the two views of an object
_AREA = 0.004, 0.15  # of the photo
_SOLIDITY = 0.85  # least share of the convex hull
_HUE_CHANGE = 10.0  # CIELAB units; how much the hue of a single object changes from place to place
_MOST_COVERED = 0.45  # of a background, by objects
_NUMBER = 3, 7  # objects that are tried in a scene
_ATTEMPTS = 100  # to compose a scene that shows an object
_SCALE = 0.6, 1.4
_LARGEST = 0.8  # side of an object as a share of that of the scene
_VISIBLE = 0.6  # least share of an object in front of which another is put
_LEAST_PIXELS = 30
_GRAIN = 3.0  # gray levels; noise of photos, for filled regions


@dataclass(frozen=True, eq=False)
class _CutOut:
    image: NDArray[np.uint8]  # (h, w, 3) BGR
    mask: NDArray[np.bool_]  # (h, w)


@dataclass
class SceneMaterial:
    """Objects and backgrounds from labeled photos, and scenes made of them.

    Attributes:
        objects: what was cut out.
        backgrounds: photos with run lengths of all that may be an object in them.
    """

    objects: list[_CutOut] = field(default_factory=list)
    backgrounds: list[tuple[Path, dict]] = field(default_factory=list)

    def add(self, photo: LabeledPhoto) -> None:
        """Take the single objects of a photo, and the photo without its objects as a background."""
        if photo.covered.mean() < _MOST_COVERED:
            self.backgrounds.append((Path(photo.record.file_name), encode_mask(photo.covered)))
        for item, overlap in zip(photo.record.objects, photo.overlaps, strict=True):
            mask = mask_util.decode(item.segmentation).astype(bool)
            box = mask_box(mask)
            if overlap >= _AGREEMENT and box is not None and _looks_single(photo.picture, mask):
                window = slice(box[1], box[3]), slice(box[0], box[2])
                self.objects.append(_CutOut(photo.picture[window].copy(), mask[window].copy()))

    def scenes(self, number: int, folder: Path, score: Scores, seed: int = 0) -> Iterator[ImageRecord]:
        """Write scenes as ``NNNNN.jpg`` and yield their records.

        Args:
            number: of scenes.
            folder: for the pictures.
            score: see :func:`scene_scores`.
            seed: a scene depends on the material, the seed and its number alone.

        Raises:
            ValueError: no object or no background was found, or no object fits.
        """
        for name, found in (("single objects", self.objects), ("backgrounds", self.backgrounds)):
            if not found:
                raise ValueError(f"scenes: expected {name} in the photos, found none")
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(number):
            generator = np.random.default_rng([seed, index])
            drafts = (self._compose(generator) for _ in range(_ATTEMPTS))
            scene = next((draft for draft in drafts if len(draft[1])), None)
            if scene is None:
                raise ValueError("scenes: expected objects that fit into the backgrounds, found none")
            image, masks = scene
            file = folder / f"{index:05d}.jpg"
            write_image(file, image[:, :, ::-1])
            ranks = dense_ranks(score(image, masks).tolist())
            objects = tuple(object_of_mask(mask, rank) for mask, rank in zip(masks, ranks, strict=True))
            height, width = image.shape[:2]
            yield ImageRecord(str(file), height, width, objects, index + 1)

    def _compose(self, generator: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        file, covered = self.backgrounds[generator.integers(len(self.backgrounds))]
        image = _without_objects(read_image(file), mask_util.decode(covered), generator)
        masks: list[NDArray[np.bool_]] = []
        for _ in range(generator.integers(*_NUMBER, endpoint=True)):
            piece = _varied(self.objects[generator.integers(len(self.objects))], generator)
            image, masks = _paste(image, masks, piece, generator)
        kept = [mask for mask in masks if mask.sum() >= _LEAST_PIXELS]
        return image, np.array(kept, bool).reshape(-1, *image.shape[:2])


def scene_scores(teacher: SORPredictor) -> Scores:
    """Return the function by which a teacher orders the objects of a scene.

    It takes a picture (H, W, 3) BGR and masks (N, H, W) and returns rank scores (N,), higher = more salient.

    Raises:
        ValueError: the teacher cannot order given objects; `contrast` can.
    """
    model = teacher.model
    if not isinstance(model, ContrastRanker):
        raise ValueError(f"scenes: expected contrast as teacher, found {type(model).__name__}")

    def score(image: NDArray[np.uint8], masks: NDArray[np.bool_]) -> NDArray[np.float64]:
        pixels = image[:, :, ::-1] if model.rgb else image
        return model.score_masks(torch.from_numpy(pixels.transpose(2, 0, 1).copy()), masks)

    return score


def _looks_single(picture: NDArray[np.uint8], mask: NDArray[np.bool_]) -> bool:
    """Return whether a mask has a simple outline and one hue; groups have notches and change their hue."""
    if not _AREA[0] < mask.mean() < _AREA[1]:
        return False
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    hull = cv2.contourArea(cv2.convexHull(np.concatenate(outlines)))
    if mask.sum() < _SOLIDITY * hull:
        return False
    lab = cv2.cvtColor(picture.astype(np.float32) / np.float32(255), cv2.COLOR_BGR2Lab)
    y, x = ((v - v.mean()) / (v.std() + 1e-6) for v in np.nonzero(mask))
    places = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)
    hue = lab[mask][:, 1:].astype(np.float64)
    smooth = places @ np.linalg.lstsq(places, hue, rcond=None)[0]
    return bool(np.sqrt(smooth.var(axis=0).sum()) < _HUE_CHANGE)


def _without_objects(
    picture: NDArray[np.uint8], covered: NDArray[np.uint8], generator: np.random.Generator
) -> NDArray[np.uint8]:
    """Return a picture whose covered region is filled from around it."""
    hole = cv2.dilate(covered, np.ones((5, 5), np.uint8))
    filled = cv2.inpaint(picture, hole, 3, cv2.INPAINT_TELEA)
    grainy = np.clip(filled + generator.normal(0, _GRAIN, filled.shape), 0, 255).astype(np.uint8)
    return np.where(hole[..., None] > 0, grainy, filled)


def _varied(piece: _CutOut, generator: np.random.Generator) -> _CutOut:
    """Return an object in another size, mirrored or not."""
    scale = np.exp(generator.uniform(*np.log(_SCALE)))
    height, width = (max(int(side * scale), 4) for side in piece.mask.shape)
    image = cv2.resize(piece.image, (width, height), interpolation=cv2.INTER_LINEAR)
    mask = cv2.resize(piece.mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
    step = generator.choice([-1, 1])
    return _CutOut(np.asarray(image[:, ::step], np.uint8), mask[:, ::step])


def _paste(
    image: NDArray[np.uint8],
    masks: list[NDArray[np.bool_]],
    piece: _CutOut,
    generator: np.random.Generator,
) -> tuple[NDArray[np.uint8], list[NDArray[np.bool_]]]:
    """Return a picture with an object at a random place, and all visible masks.

    The object may reach out of the picture a little. Nothing changes if it is too large or would cover
    another one too much.
    """
    shape, size = image.shape[:2], piece.mask.shape
    if any(side > _LARGEST * whole for side, whole in zip(size, shape, strict=True)):
        return image, masks
    y, x = (
        int(generator.integers(-side // 8, whole - side + side // 8 + 1))
        for side, whole in zip(size, shape, strict=True)
    )
    there = slice(max(y, 0), min(y + size[0], shape[0])), slice(max(x, 0), min(x + size[1], shape[1]))
    inside = slice(there[0].start - y, there[0].stop - y), slice(there[1].start - x, there[1].stop - x)
    plane = np.zeros(shape, bool)
    plane[there] = piece.mask[inside]
    visible = [mask & ~plane for mask in masks]
    if not plane.any() or any(
        seen.sum() < _VISIBLE * mask.sum() for seen, mask in zip(visible, masks, strict=True)
    ):
        return image, masks
    image = image.copy()
    image[there] = blend(image[there], piece.image[inside], piece.mask[inside])
    return image, [*visible, plane]
