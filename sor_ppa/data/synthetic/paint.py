"""Colors, textures, backgrounds and objects of the synthetic benchmark, painted.

All images are float32 BGR, 0 to 255.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

_Rng = np.random.Generator


def lch_to_bgr(lch: np.ndarray) -> np.ndarray:
    """Return BGR (N, 3), 0 to 255, clipped, of CIE LCh (N, 3): lightness 0-100, chroma, hue in radians."""
    lch = np.asarray(lch, dtype=np.float32).reshape(-1, 3)
    lab = np.stack([lch[:, 0], lch[:, 1] * np.cos(lch[:, 2]), lch[:, 1] * np.sin(lch[:, 2])], axis=1)
    return cv2.cvtColor(lab[None].astype(np.float32), cv2.COLOR_Lab2BGR)[0].clip(0, 1) * np.float32(255)


def smooth_noise(rng: _Rng, height: int, width: int, cells: float) -> np.ndarray:
    """Return smooth noise (height, width) in about -1 to 1 with ``cells`` cells along the longer side."""
    scale = cells / max(height, width)
    shape = (max(2, round(height * scale)), max(2, round(width * scale)))
    grid = rng.uniform(-1, 1, shape).astype(np.float32)
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)


def _soft_step(x: np.ndarray, sharpness: float) -> np.ndarray:
    return np.clip(x * sharpness + 0.5, 0, 1)


def _pattern(kind: str, rng: _Rng, u: np.ndarray, v: np.ndarray, radius: float) -> np.ndarray:
    """Return the share (H, W) of the second color at object coordinates u, v (unit = object's radius)."""
    height, width = u.shape
    turn = rng.uniform(0, np.pi)
    a, b = np.cos(turn) * u + np.sin(turn) * v, np.cos(turn) * v - np.sin(turn) * u
    finest = max(1.5, min(6.0, radius / 7.0))  # periods in an object that pixels can show
    waves = rng.uniform(1.5, finest) if finest > 1.5 else 1.5
    sharp = radius / waves / 6.0
    if kind == "plain":
        return 0.15 + 0.1 * smooth_noise(rng, height, width, 6)
    if kind == "stripes":
        return 0.85 * _soft_step(np.cos(2 * np.pi * waves * a) - 0.25, sharp)
    if kind == "wavy":
        return 0.4 + 0.4 * np.sin(2 * np.pi * waves * (a + 0.12 * np.sin(5 * b)))
    if kind == "dots":
        return 0.9 * _soft_step(np.cos(np.pi * waves * 2 * a) * np.cos(np.pi * waves * 2 * b) - 0.45, sharp)
    if kind == "checker":
        return 0.45 + 0.4 * np.sign(np.sin(np.pi * waves * a) * np.sin(np.pi * waves * b))
    if kind == "marble":
        field = smooth_noise(rng, height, width, 5) + 0.5 * smooth_noise(rng, height, width, 11)
        return 0.8 * np.exp(-((2.5 * field) ** 2))
    if kind == "spots":
        return 0.85 * _soft_step(smooth_noise(rng, height, width, 8) - 0.3, radius / 12.0)
    if kind == "rings":
        distance = np.sqrt((u - rng.uniform(-0.4, 0.4)) ** 2 + (v - rng.uniform(-0.4, 0.4)) ** 2)
        return 0.8 * _soft_step(np.cos(2 * np.pi * waves * distance) - 0.2, sharp)
    assert kind == "gradient", kind
    return np.clip(0.5 + 0.5 * a, 0, 1) * 0.9


TEXTURES = {
    "plain": 0.15, "stripes": 0.35, "wavy": 0.4, "dots": 0.2, "checker": 0.45, "marble": 0.33,
    "spots": 0.26, "rings": 0.35, "gradient": 0.45,
}  # fmt: skip
"""Kind of texture -> share of the second color in its mean."""


def texture(
    kind: str, rng: _Rng, u: np.ndarray, v: np.ndarray, radius: float, colors: np.ndarray
) -> np.ndarray:
    """Return a textured surface (H, W, 3), float32, of two colors (2, 3), BGR.

    ``u`` and ``v`` (H, W) are object coordinates, 1 at the object's radius of ``radius`` pixels.
    """
    share = _pattern(kind, rng, u, v, radius).astype(np.float32)[..., None]
    grain = 1 + 0.05 * smooth_noise(rng, u.shape[0], u.shape[1], max(8.0, radius / 2))[..., None]
    first, second = colors.astype(np.float32)
    return (first + share * (second - first)) * grain


def _base_layer(rng: _Rng, height: int, width: int) -> np.ndarray:
    """Return the blend (H, W) in 0 to 1 between two background colors."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = x / width - 0.5, y / height - 0.5
    kind = int(rng.integers(6))
    turn = rng.uniform(0, np.pi)
    a = np.cos(turn) * x + np.sin(turn) * y
    if kind == 0:
        layer = 0.5 + a
    elif kind == 1:
        layer = 1.3 * np.sqrt((x - rng.uniform(-0.4, 0.4)) ** 2 + (y - rng.uniform(-0.4, 0.4)) ** 2)
    elif kind == 2:  # ground and wall
        edge = y - rng.uniform(-0.15, 0.2) + 0.06 * x * rng.uniform(-1, 1)
        layer = _soft_step(edge, 60) * 0.75 + 0.25 * (y + 0.5)
    elif kind == 3:
        layer = 0.5 + 0.35 * np.sin(2 * np.pi * rng.uniform(3, 9) * a)
    elif kind == 4:
        b = np.cos(turn) * y - np.sin(turn) * x
        tiles = rng.uniform(3, 8)
        layer = 0.5 + 0.3 * np.sign(np.sin(np.pi * tiles * a) * np.sin(np.pi * tiles * b))
    else:
        layer = 0.5 + 0.5 * smooth_noise(rng, height, width, rng.uniform(3, 6))
    clouds = 0.18 * smooth_noise(rng, height, width, 7) + 0.12 * smooth_noise(rng, height, width, 19)
    return np.clip(layer + clouds, 0, 1).astype(np.float32)


def paint_background(rng: _Rng, height: int, width: int, clutter: float) -> tuple[np.ndarray, np.ndarray]:
    """Return a background (H, W, 3), float32, from calm (0) to busy (1), and its mean color in LCh (3,)."""
    mean = np.array([rng.uniform(35, 78), rng.uniform(2, 24), rng.uniform(0, 2 * np.pi)])
    step = rng.uniform(8, 16) * rng.choice([-1, 1]), rng.uniform(-4, 8), rng.uniform(-0.5, 0.5)
    other = mean + np.array(step)
    other[1] = max(other[1], 0)
    pair = lch_to_bgr(np.stack([mean, other]))
    layer = _base_layer(rng, height, width)[..., None]
    picture = pair[0] + layer * (pair[1] - pair[0])

    pieces = int(rng.integers(10, 26) * (0.3 + clutter))
    unit = min(height, width)
    tones = np.stack([mean + (mean - other) * rng.uniform(-1.2, 0.6) for _ in range(4)])
    tones[:, 1] = tones[:, 1].clip(0)
    colors = lch_to_bgr(tones)
    overlay = picture.copy()
    for _ in range(pieces):
        center = rng.uniform(0, 1, 2) * (width, height)
        count = int(rng.integers(3, 9))
        angle = np.sort(rng.uniform(0, 2 * np.pi, count))
        radius = unit * rng.uniform(0.02, 0.11) * (0.6 + 0.8 * rng.random(count))
        points = center + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        color = colors[int(rng.integers(4))] * rng.uniform(0.9, 1.1)
        corners = np.round(points * 16).astype(np.int32)
        cv2.fillPoly(overlay, [corners], color.tolist(), cv2.LINE_AA, 4)
    if pieces:
        picture += 0.55 * (overlay - picture)
    grain = smooth_noise(rng, height, width, max(height, width) / 3)[..., None]
    picture += (1.5 + 3.0 * clutter) * grain
    return picture, mean


@dataclass
class Item:
    """One object of a scene."""

    coverage: np.ndarray  # (S, S) uint8 raster of the shape
    middle: float  # pixel coordinate of the shape's center in ``coverage``
    radius: float  # pixels
    salient: bool  # whether it should stand out
    x: float = 0.0  # center in the image
    y: float = 0.0
    colors: np.ndarray | None = None  # (2, 3) BGR
    strength: float = 0.0  # relative difference of a distractor from the image below it
    kind: str = "plain"  # texture


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


def paint_object(canvas: np.ndarray, item: Item, light: Lighting, rng: _Rng) -> None:
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


def paint_distractor(canvas: np.ndarray, item: Item, rng: _Rng) -> None:
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
