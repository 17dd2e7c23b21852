"""Painting of objects onto an image."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from .textures import smooth_noise, texture


@dataclass
class Item:
    """One object of a scene.

    Attributes:
        coverage: (S, S) uint8 raster of the shape.
        middle: pixel coordinate of the shape's center in ``coverage``.
        radius: pixels.
        salient: whether it should stand out.
        x, y: center in the image.
        colors: (2, 3) BGR.
        strength: relative difference of a distractor from the image below it.
        kind: texture.
    """

    coverage: np.ndarray
    middle: float
    radius: float
    salient: bool
    x: float = 0.0
    y: float = 0.0
    colors: np.ndarray | None = None
    strength: float = 0.0
    kind: str = "plain"


@dataclass(frozen=True)
class Lighting:
    """Light of a scene: direction (unit vector towards the light, y down) and depth of shadows."""

    dx: float
    dy: float
    shadow: float


def window_of(item: Item, height: int, width: int) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
    """Return slices (rows, columns) of image and coverage where they meet; None if they do not."""
    size = item.coverage.shape[0]
    left, top = round(item.x - item.middle), round(item.y - item.middle)
    x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + size, width), min(top + size, height)
    if x2 <= x1 or y2 <= y1:
        return None
    return (slice(y1, y2), slice(x1, x2)), (slice(y1 - top, y2 - top), slice(x1 - left, x2 - left))


def _cast_shadow(canvas: np.ndarray, item: Item, light: Lighting) -> None:
    reach = 0.16 * item.radius
    pad = int(np.ceil(0.3 * item.radius)) + 1
    soft = cv2.copyMakeBorder(item.coverage, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=0)
    soft = cv2.GaussianBlur(soft, (0, 0), max(0.8, 0.1 * item.radius))
    x, y = item.x - light.dx * reach, item.y - light.dy * reach
    window = window_of(replace(item, coverage=soft, middle=item.middle + pad, x=x, y=y), *canvas.shape[:2])
    if window is not None:
        there, here = window
        canvas[there] *= 1 - soft[here][..., None].astype(np.float32) * np.float32(light.shadow / 255)


def _relief(coverage: np.ndarray, light: Lighting) -> np.ndarray:
    """Return the brightness factor (S, S) of a body that bulges towards the viewer."""
    inside = (coverage > 127).astype(np.uint8)
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, 3)
    top = max(float(depth.max()), 1.0)
    height = 1 - np.square(1 - np.minimum(depth / (0.7 * top), 1))
    height = cv2.GaussianBlur(height, (0, 0), max(0.6, 0.12 * top))
    slope_x, slope_y = cv2.Sobel(height, cv2.CV_32F, 1, 0), cv2.Sobel(height, cv2.CV_32F, 0, 1)
    lit = -(light.dx * slope_x + light.dy * slope_y) * (top / 8)
    return 0.86 + 0.14 * height + 0.3 * np.clip(lit, -0.8, 0.8)


def paint_object(canvas: np.ndarray, item: Item, light: Lighting, rng: np.random.Generator) -> None:
    """Paint a textured, shaded object with a soft shadow onto a canvas (H, W, 3), float32, in place."""
    assert item.colors is not None
    _cast_shadow(canvas, item, light)
    size = item.coverage.shape[0]
    axis = ((np.arange(size) + 0.5 - item.middle) / item.radius).astype(np.float32)
    u, v = np.meshgrid(axis, axis)
    surface = texture(item.kind, rng, u, v, item.radius, item.colors)
    surface *= _relief(item.coverage, light)[..., None]
    window = window_of(item, *canvas.shape[:2])
    if window is not None:
        there, here = window
        alpha = item.coverage[here][..., None].astype(np.float32) / 255
        canvas[there] += alpha * (surface[here] - canvas[there])


def paint_distractor(canvas: np.ndarray, item: Item, rng: np.random.Generator) -> None:
    """Paint a shape that differs little from the canvas (H, W, 3), float32, below it, in place."""
    window = window_of(item, *canvas.shape[:2])
    if window is None:
        return
    there, here = window
    below = cv2.GaussianBlur(canvas[there], (0, 0), max(1.0, 0.1 * item.radius))
    grain = smooth_noise(rng, below.shape[0], below.shape[1], 9)[..., None]
    surface = 0.5 * (below + canvas[there]) * (1 + item.strength + 0.03 * grain)
    alpha = cv2.GaussianBlur(item.coverage, (0, 0), 0.8)[here][..., None].astype(np.float32) / 255
    canvas[there] += alpha * (surface - canvas[there])
