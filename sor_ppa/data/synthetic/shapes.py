"""Outlines of the objects of the synthetic benchmark.

A shape is a list of parts, painted in order: points (N, 2) of closed outlines in a frame where the object
fits into the unit circle (y down). The second part of a shape in ``_CUT`` is cut out.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

Shape = list[np.ndarray]
_Rng = np.random.Generator
_STEPS = np.linspace(0, 2 * np.pi, 64, endpoint=False)


def _points(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.stack([x, y], axis=1)


def _turn(angle: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, sin], [-sin, cos]])


def _ellipse(x: float, y: float, rx: float, ry: float, turn: float = 0.0) -> np.ndarray:
    return _points(rx * np.cos(_STEPS), ry * np.sin(_STEPS)) @ _turn(turn) + (x, y)


def _capsule(
    x1: float, y1: float, x2: float, y2: float, radius: float, end: float | None = None
) -> np.ndarray:
    """Return a limb between two points, ``radius`` thick at its start and ``end`` at its end."""
    arc = np.linspace(np.pi / 2, 3 * np.pi / 2, 12) + np.arctan2(y2 - y1, x2 - x1)
    last = radius if end is None else end
    start = _points(x1 + radius * np.cos(arc), y1 + radius * np.sin(arc))
    return np.concatenate([start, _points(x2 - last * np.cos(arc), y2 - last * np.sin(arc))])


def _spline(control: list[tuple[float, float]]) -> np.ndarray:
    """Return a closed Catmull-Rom curve through control points."""
    p1 = np.asarray(control, dtype=np.float64)
    p0, p2, p3 = np.roll(p1, 1, 0), np.roll(p1, -1, 0), np.roll(p1, -2, 0)
    t = np.linspace(0, 1, 8, endpoint=False)[None, :, None]
    p0, p1, p2, p3 = (p[:, None] for p in (p0, p1, p2, p3))
    curve = p1 + 0.5 * t * (p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0)))
    return curve.reshape(-1, 2)


def _symmetric(profile: list[tuple[float, float]]) -> np.ndarray:
    """Return the outline of a symmetric body from its right-hand profile, top to bottom."""
    return _spline(profile + [(-x, y) for x, y in reversed(profile)])


def _polar(radii: np.ndarray) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, len(radii), endpoint=False)
    return _points(radii * np.cos(angle), radii * np.sin(angle))


def ellipse(rng: _Rng) -> Shape:
    return [_ellipse(0, 0, 0.95, rng.uniform(0.5, 0.95))]


def box(rng: _Rng) -> Shape:
    aspect, power = rng.uniform(0.5, 1.0), rng.uniform(0.2, 0.6)
    sides = [np.sign(wave) * np.abs(wave) ** power for wave in (np.cos(_STEPS), np.sin(_STEPS))]
    return [_points(*sides) * (0.8, 0.8 * aspect)]


def blob(rng: _Rng) -> Shape:
    angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    radii = np.full(96, 0.75)
    for order in range(2, 6):
        radii += rng.uniform(0.02, 0.28 / order) * np.cos(order * angle + rng.uniform(0, 2 * np.pi))
    return [_polar(radii)]


def polygon(rng: _Rng) -> Shape:
    count = int(rng.integers(3, 8))
    angle = (np.arange(count) + rng.uniform(-0.25, 0.25, count)) * 2 * np.pi / count
    radii = rng.uniform(0.75, 1.0, count)
    return [_points(radii * np.cos(angle), radii * np.sin(angle))]


def star(rng: _Rng) -> Shape:
    arms = int(rng.integers(5, 9))
    return [_polar(np.tile([1.0, rng.uniform(0.4, 0.65)], arms))]


def flower(rng: _Rng) -> Shape:
    petals = int(rng.integers(5, 9))
    angle = np.linspace(0, 2 * np.pi, 160, endpoint=False)
    return [_polar(0.72 + rng.uniform(0.15, 0.26) * np.cos(petals * angle))]


def ring(rng: _Rng) -> Shape:
    aspect, inner = rng.uniform(0.75, 1.0), rng.uniform(0.4, 0.58)
    return [_ellipse(0, 0, 0.95, 0.95 * aspect), _ellipse(0, 0, inner, inner * aspect)]


def crescent(rng: _Rng) -> Shape:
    return [_ellipse(0, 0, 0.95, 0.95), _ellipse(rng.uniform(0.35, 0.5), 0, 0.72, 0.75)]


def leaf(rng: _Rng) -> Shape:
    t = np.linspace(0, 1, 32)
    width = rng.uniform(0.4, 0.6) * np.sin(np.pi * t) ** rng.uniform(0.7, 1.1)
    bend = rng.uniform(-0.2, 0.2) * np.sin(np.pi * t)
    x = 1.8 * t - 0.9
    blade = np.concatenate([_points(x, bend - width), _points(x, bend + width)[::-1]])
    return [blade, _capsule(0.85, 0, 1.05, 0.06, 0.05, 0.04)]


def heart(rng: _Rng) -> Shape:
    x = 16 * np.sin(_STEPS) ** 3
    y = -(13 * np.cos(_STEPS) - 5 * np.cos(2 * _STEPS) - 2 * np.cos(3 * _STEPS) - np.cos(4 * _STEPS))
    return [_points(x / 17.5 * rng.uniform(0.85, 1.0), y / 17.5)]


def bottle(rng: _Rng) -> Shape:
    neck, body = rng.uniform(0.11, 0.17), rng.uniform(0.3, 0.42)
    shoulder = rng.uniform(-0.35, -0.1)
    profile = [(neck, -0.98), (neck, -0.9), (neck, shoulder - 0.2), (body, shoulder + 0.15), (body, 0.5)]
    return [_symmetric([*profile, (body, 0.88), (body * 0.85, 0.97)])]


def vase(rng: _Rng) -> Shape:
    lip, waist, belly = rng.uniform(0.25, 0.42), rng.uniform(0.13, 0.25), rng.uniform(0.5, 0.65)
    profile = [(lip, -0.9), (waist, -0.6), (belly, 0.05), (belly * 0.75, 0.55), (0.28, 0.85), (0.32, 0.92)]
    return [_symmetric(profile)]


def mug(rng: _Rng) -> Shape:
    width, height = rng.uniform(0.45, 0.55), rng.uniform(0.55, 0.75)
    side, foot = width + 0.02, width * 0.94
    body = np.array([[-width, -height], [width, -height], [foot, height], [-foot, height]]) - [0.2, 0]
    handle, hole = ((0.42, height * 0.62), (0.25, height * 0.38))
    return [_ellipse(side - 0.2, 0, *handle), _ellipse(side - 0.2, 0, *hole), body]


def pear(rng: _Rng) -> Shape:
    neck, belly = rng.uniform(0.2, 0.3), rng.uniform(0.55, 0.68)
    profile = [(neck * 0.5, -0.78), (neck, -0.6), (belly * 0.7, -0.05), (belly, 0.4), (belly * 0.6, 0.82)]
    return [_symmetric(profile), _capsule(0, -0.75, 0.1, -1.0, 0.05, 0.04)]


def mushroom(rng: _Rng) -> Shape:
    cap, stem = rng.uniform(0.75, 0.95), rng.uniform(0.2, 0.3)
    hood = _spline([(0, -0.9), (cap * 0.8, -0.5), (cap, 0.05), (0, 0.16), (-cap, 0.05), (-cap * 0.8, -0.5)])
    return [_capsule(0, 0.0, 0, 0.7, stem, stem * 1.2), hood]


def fish(rng: _Rng) -> Shape:
    t, deep = np.linspace(0, np.pi, 32), rng.uniform(0.38, 0.5)
    halves = [_points(-0.15 + s * 0.75 * np.cos(t), s * deep * np.sin(t)) for s in (-1, 1)]
    tail = np.array([[0.42, 0.0], [0.98, -0.42], [0.84, 0.0], [0.98, 0.42]])
    fin = np.array([[-0.3, -deep * 0.9], [0.05, -deep - 0.25], [0.3, -deep * 0.7]])
    return [tail, fin, np.concatenate(halves)]


def bird(rng: _Rng) -> Shape:
    lift = rng.uniform(-0.15, 0.1)
    body = _ellipse(0.05, 0.15, 0.6, 0.38, rng.uniform(-0.25, 0.05))
    beak = np.array([[-0.72, -0.4 + lift], [-1.0, -0.28 + lift], [-0.7, -0.22 + lift]])
    tail = np.array([[0.45, 0.05], [1.0, -0.18], [1.0, 0.1], [0.5, 0.3]])
    legs = [_capsule(-0.05, 0.45, -0.08, 0.9, 0.045), _capsule(0.15, 0.45, 0.14, 0.9, 0.045)]
    head, neck = _ellipse(-0.48, -0.32 + lift, 0.29, 0.27), _capsule(-0.3, 0.1, -0.45, -0.2 + lift, 0.24, 0.2)
    return [tail, beak, *legs, body, head, neck]


def quadruped(rng: _Rng) -> Shape:
    long, thick = rng.uniform(0.48, 0.6), rng.uniform(0.24, 0.34)
    leg, limb = rng.uniform(0.6, 0.8), rng.uniform(0.075, 0.11)
    parts = [_capsule(-long * 0.75, 0, long * 0.75, 0, thick, thick * 0.95)]
    for x in (-0.8, -0.5, 0.5, 0.8):
        parts.append(_capsule(x * long, 0.1, x * long + rng.uniform(-0.06, 0.06), leg, limb))
    x, y = -long - rng.uniform(0.08, 0.2), -rng.uniform(0.3, 0.5)
    parts += [_capsule(-long * 0.7, -0.05, x, y, thick * 0.6, 0.16), _ellipse(x, y, 0.24, 0.19, 0.3)]
    ear = np.array([[x, y - 0.1], [x + 0.05, y - 0.4], [x + 0.18, y - 0.08]])
    return [*parts, ear, _capsule(long * 0.8, -0.1, long + 0.28, rng.uniform(-0.6, 0.1), 0.06, 0.04)]


def cat(rng: _Rng) -> Shape:
    wide = rng.uniform(0.38, 0.46)
    body = _symmetric([(0.12, -0.4), (wide * 0.75, 0.0), (wide, 0.55), (wide * 0.95, 0.88), (0.2, 0.95)])
    ears = [np.array([[s * 0.31, -0.55], [s * 0.3, -0.98], [s * 0.06, -0.72]]) for s in (-1, 1)]
    tail = _spline([(0.3, 0.92), (0.72, 0.85), (0.82, 0.4), (0.7, 0.3), (0.66, 0.62), (0.35, 0.72)])
    return [body, tail, _ellipse(0, -0.5, 0.34, 0.29), *ears]


def person(rng: _Rng) -> Shape:
    spread, arm = rng.uniform(0.15, 0.3), rng.uniform(-0.35, 0.3)
    parts = [_ellipse(0, -0.78, 0.17, 0.2), _capsule(0, -0.42, 0, 0.1, 0.24, 0.18)]
    parts += [_capsule(s * 0.1, 0.1, s * spread, 0.92, 0.11, 0.08) for s in (-1, 1)]
    return parts + [_capsule(s * 0.2, -0.45, s * 0.52, arm * s, 0.08, 0.065) for s in (-1, 1)]


def tree(rng: _Rng) -> Shape:
    parts = [_capsule(0, 0.95, 0, 0.0, 0.11, 0.08)]
    for x, y, r in ((0, -0.5, 0.45), (-0.4, -0.15, 0.36), (0.4, -0.15, 0.36), (0, -0.05, 0.4)):
        parts.append(_ellipse(x + rng.uniform(-0.06, 0.06), y, r, r * 0.9))
    return parts


def car(rng: _Rng) -> Shape:
    roof = rng.uniform(0.35, 0.5)
    cabin = _spline([(-0.5, -0.1), (-0.32, -roof), (0.3, -roof), (0.58, -0.1), (0.3, 0.1), (-0.3, 0.1)])
    hull = np.array([[-0.95, -0.08], [0.92, -0.08], [0.97, 0.28], [-0.97, 0.28]])
    return [cabin, hull, *(_ellipse(x, 0.3, 0.2, 0.2) for x in (-0.55, 0.55))]


_CUT = (ring, crescent, mug)
_SHAPES: tuple[tuple[float, tuple[Callable[[_Rng], Shape], ...]], ...] = (
    (np.pi, (ellipse, box, blob, polygon, star, flower, ring, crescent, leaf)),
    (0.35, (heart, pear, mushroom, fish, bird, cat, person, tree)),
    (0.2, (bottle, vase, mug, quadruped, car)),
)
SHAPES = [(maker, turn) for turn, makers in _SHAPES for maker in makers]
"""Makers, each with the largest turn from upright in radians."""


def draw_shape(rng: _Rng, radius: float) -> tuple[np.ndarray, float]:
    """Draw a shape of random kind, turned, mirrored and stretched a little; ``radius`` is in pixels.

    Returns:
        (S, S) uint8 coverage (255 inside, antialiased) and the pixel coordinate of the center in it.
    """
    maker, turn = SHAPES[int(rng.integers(len(SHAPES)))]
    angle = rng.uniform(-turn, turn)
    flip = 1.0 if rng.random() < 0.5 else -1.0
    stretch = rng.uniform(0.88, 1.14)
    matrix = np.diag([flip * stretch, 1 / stretch]) @ _turn(angle)
    parts = [points @ matrix for points in maker(rng)]
    adds = [not (index == 1 and maker in _CUT) for index in range(len(parts))]
    reach = max(float(np.abs(part).max()) for part, add in zip(parts, adds, strict=True) if add)
    center = float(np.ceil(radius * reach)) + 2.0
    canvas = np.zeros((int(2 * center), int(2 * center)), np.uint8)
    for part, add in zip(parts, adds, strict=True):
        corners = np.round((part * radius + center - 0.5) * 16).astype(np.int32)
        cv2.fillPoly(canvas, [corners], 255 if add else 0, cv2.LINE_AA, 4)
    return canvas, center
