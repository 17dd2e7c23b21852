"""Outlines of the objects of the synthetic benchmark.

A shape is a list of parts ``(adds, points)``: points (N, 2) of a closed outline in a frame where the
object fits into the unit circle (y down), painted in order; a part with ``adds`` false cuts.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

Shape = list[tuple[bool, np.ndarray]]
_Rng = np.random.Generator
_STEPS = np.linspace(0, 2 * np.pi, 64, endpoint=False)


def _ellipse(x: float, y: float, rx: float, ry: float, turn: float = 0.0) -> np.ndarray:
    points = np.stack([rx * np.cos(_STEPS), ry * np.sin(_STEPS)], axis=1)
    cos, sin = np.cos(turn), np.sin(turn)
    return points @ np.array([[cos, sin], [-sin, cos]]) + (x, y)


def _capsule(
    x1: float, y1: float, x2: float, y2: float, radius: float, end: float | None = None
) -> np.ndarray:
    """A limb from one point to another, ``radius`` thick at its start and ``end`` at its end."""
    turn = np.arctan2(y2 - y1, x2 - x1)
    arc = np.linspace(np.pi / 2, 3 * np.pi / 2, 12) + turn
    last = radius if end is None else end
    start = np.stack([x1 + radius * np.cos(arc), y1 + radius * np.sin(arc)], axis=1)
    stop = np.stack([x2 - last * np.cos(arc), y2 - last * np.sin(arc)], axis=1)
    return np.concatenate([start, stop])


def _spline(control: list[tuple[float, float]], steps: int = 8) -> np.ndarray:
    """Closed Catmull-Rom curve through control points."""
    p1 = np.asarray(control, dtype=np.float64)
    p0, p2, p3 = np.roll(p1, 1, 0), np.roll(p1, -1, 0), np.roll(p1, -2, 0)
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    p0, p1, p2, p3 = (p[:, None] for p in (p0, p1, p2, p3))
    curve = p1 + 0.5 * t * (p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0)))
    return curve.reshape(-1, 2)


def _mirrored(profile: list[tuple[float, float]], steps: int = 8) -> np.ndarray:
    """Turned body from its right-hand profile, top to bottom."""
    return _spline(profile + [(-x, y) for x, y in reversed(profile)], steps)


def _polar(radii: np.ndarray) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, len(radii), endpoint=False)
    return np.stack([radii * np.cos(angle), radii * np.sin(angle)], axis=1)


def ellipse(rng: _Rng) -> Shape:
    return [(True, _ellipse(0, 0, 0.95, rng.uniform(0.5, 0.95)))]


def box(rng: _Rng) -> Shape:
    aspect, power = rng.uniform(0.5, 1.0), rng.uniform(0.2, 0.6)
    cos, sin = np.cos(_STEPS), np.sin(_STEPS)
    points = np.stack([np.sign(cos) * np.abs(cos) ** power, np.sign(sin) * np.abs(sin) ** power], axis=1)
    return [(True, points * (0.8, 0.8 * aspect))]


def blob(rng: _Rng) -> Shape:
    angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    radii = np.full(96, 0.75)
    for order in range(2, 6):
        radii += rng.uniform(0.02, 0.28 / order) * np.cos(order * angle + rng.uniform(0, 2 * np.pi))
    return [(True, _polar(radii))]


def polygon(rng: _Rng) -> Shape:
    count = int(rng.integers(3, 8))
    angle = (np.arange(count) + rng.uniform(-0.25, 0.25, count)) * 2 * np.pi / count
    radii = rng.uniform(0.75, 1.0, count)
    return [(True, np.stack([radii * np.cos(angle), radii * np.sin(angle)], axis=1))]


def star(rng: _Rng) -> Shape:
    arms = int(rng.integers(5, 9))
    radii = np.tile([1.0, rng.uniform(0.4, 0.65)], arms)
    return [(True, _polar(radii))]


def flower(rng: _Rng) -> Shape:
    petals = int(rng.integers(5, 9))
    angle = np.linspace(0, 2 * np.pi, 160, endpoint=False)
    return [(True, _polar(0.72 + rng.uniform(0.15, 0.26) * np.cos(petals * angle)))]


def ring(rng: _Rng) -> Shape:
    aspect, inner = rng.uniform(0.75, 1.0), rng.uniform(0.4, 0.58)
    return [(True, _ellipse(0, 0, 0.95, 0.95 * aspect)), (False, _ellipse(0, 0, inner, inner * aspect))]


def crescent(rng: _Rng) -> Shape:
    shift = rng.uniform(0.35, 0.5)
    return [(True, _ellipse(0, 0, 0.95, 0.95)), (False, _ellipse(shift, 0, 0.72, 0.75))]


def leaf(rng: _Rng) -> Shape:
    t = np.linspace(0, 1, 32)
    width = rng.uniform(0.4, 0.6) * np.sin(np.pi * t) ** rng.uniform(0.7, 1.1)
    bend = rng.uniform(-0.2, 0.2) * np.sin(np.pi * t)
    upper = np.stack([1.8 * t - 0.9, bend - width], axis=1)
    lower = np.stack([1.8 * t - 0.9, bend + width], axis=1)
    return [(True, np.concatenate([upper, lower[::-1]])), (True, _capsule(0.85, 0, 1.05, 0.06, 0.05, 0.04))]


def heart(rng: _Rng) -> Shape:
    x = 16 * np.sin(_STEPS) ** 3
    y = -(13 * np.cos(_STEPS) - 5 * np.cos(2 * _STEPS) - 2 * np.cos(3 * _STEPS) - np.cos(4 * _STEPS))
    return [(True, np.stack([x / 17.5 * rng.uniform(0.85, 1.0), y / 17.5], axis=1))]


def bottle(rng: _Rng) -> Shape:
    neck, body = rng.uniform(0.11, 0.17), rng.uniform(0.3, 0.42)
    shoulder = rng.uniform(-0.35, -0.1)
    profile = [(neck, -0.98), (neck, -0.9), (neck, shoulder - 0.2), (body, shoulder + 0.15), (body, 0.5)]
    return [(True, _mirrored([*profile, (body, 0.88), (body * 0.85, 0.97)]))]


def vase(rng: _Rng) -> Shape:
    lip, waist, belly = rng.uniform(0.25, 0.42), rng.uniform(0.13, 0.25), rng.uniform(0.5, 0.65)
    profile = [(lip, -0.9), (waist, -0.6), (belly, 0.05), (belly * 0.75, 0.55), (0.28, 0.85), (0.32, 0.92)]
    return [(True, _mirrored(profile))]


def mug(rng: _Rng) -> Shape:
    width, height = rng.uniform(0.45, 0.55), rng.uniform(0.55, 0.75)
    side = width + 0.02
    foot = width * 0.94
    body = np.array([[-width, -height], [width, -height], [foot, height], [-foot, height]]) - [0.2, 0]
    handle = _ellipse(side - 0.2, 0, 0.42, height * 0.62)
    hole = _ellipse(side - 0.2, 0, 0.25, height * 0.38)
    return [(True, handle), (False, hole), (True, body)]


def pear(rng: _Rng) -> Shape:
    neck, belly = rng.uniform(0.2, 0.3), rng.uniform(0.55, 0.68)
    profile = [(neck * 0.5, -0.78), (neck, -0.6), (belly * 0.7, -0.05), (belly, 0.4), (belly * 0.6, 0.82)]
    return [(True, _mirrored(profile)), (True, _capsule(0, -0.75, 0.1, -1.0, 0.05, 0.04))]


def mushroom(rng: _Rng) -> Shape:
    cap, stem = rng.uniform(0.75, 0.95), rng.uniform(0.2, 0.3)
    hood = _spline([(0, -0.9), (cap * 0.8, -0.5), (cap, 0.05), (0, 0.16), (-cap, 0.05), (-cap * 0.8, -0.5)])
    return [(True, _capsule(0, 0.0, 0, 0.7, stem, stem * 1.2)), (True, hood)]


def fish(rng: _Rng) -> Shape:
    t = np.linspace(0, np.pi, 32)
    deep = rng.uniform(0.38, 0.5)
    body = np.concatenate([np.stack([-0.15 - 0.75 * np.cos(t), -deep * np.sin(t)], 1)])
    body = np.concatenate([body, np.stack([-0.15 + 0.75 * np.cos(t), deep * np.sin(t)], 1)])
    tail = np.array([[0.42, 0.0], [0.98, -0.42], [0.84, 0.0], [0.98, 0.42]])
    fin = np.array([[-0.3, -deep * 0.9], [0.05, -deep - 0.25], [0.3, -deep * 0.7]])
    return [(True, tail), (True, fin), (True, body)]


def bird(rng: _Rng) -> Shape:
    lift = rng.uniform(-0.15, 0.1)
    body = _ellipse(0.05, 0.15, 0.6, 0.38, rng.uniform(-0.25, 0.05))
    beak = np.array([[-0.72, -0.4 + lift], [-1.0, -0.28 + lift], [-0.7, -0.22 + lift]])
    tail = np.array([[0.45, 0.05], [1.0, -0.18], [1.0, 0.1], [0.5, 0.3]])
    legs = [_capsule(-0.05, 0.45, -0.08, 0.9, 0.045), _capsule(0.15, 0.45, 0.14, 0.9, 0.045)]
    parts = [tail, beak, *legs, body, _ellipse(-0.48, -0.32 + lift, 0.29, 0.27)]
    return [(True, part) for part in [*parts, _capsule(-0.3, 0.1, -0.45, -0.2 + lift, 0.24, 0.2)]]


def quadruped(rng: _Rng) -> Shape:
    long, thick = rng.uniform(0.48, 0.6), rng.uniform(0.24, 0.34)
    leg, limb = rng.uniform(0.6, 0.8), rng.uniform(0.075, 0.11)
    parts = [_capsule(-long * 0.75, 0, long * 0.75, 0, thick, thick * 0.95)]
    for x in (-0.8, -0.5, 0.5, 0.8):
        parts.append(_capsule(x * long, 0.1, x * long + rng.uniform(-0.06, 0.06), leg, limb))
    head = (-long - rng.uniform(0.08, 0.2), -rng.uniform(0.3, 0.5))
    parts.append(_capsule(-long * 0.7, -0.05, *head, thick * 0.6, 0.16))
    parts.append(_ellipse(*head, 0.24, 0.19, 0.3))
    ear = np.array(
        [[head[0], head[1] - 0.1], [head[0] + 0.05, head[1] - 0.4], [head[0] + 0.18, head[1] - 0.08]]
    )
    tail = _capsule(long * 0.8, -0.1, long + 0.28, rng.uniform(-0.6, 0.1), 0.06, 0.04)
    return [(True, part) for part in [*parts, ear, tail]]


def cat(rng: _Rng) -> Shape:
    wide = rng.uniform(0.38, 0.46)
    body = _mirrored([(0.12, -0.4), (wide * 0.75, 0.0), (wide, 0.55), (wide * 0.95, 0.88), (0.2, 0.95)])
    head = _ellipse(0, -0.5, 0.34, 0.29)
    ears = [np.array([[s * 0.31, -0.55], [s * 0.3, -0.98], [s * 0.06, -0.72]]) for s in (-1, 1)]
    tail = _spline([(0.3, 0.92), (0.72, 0.85), (0.82, 0.4), (0.7, 0.3), (0.66, 0.62), (0.35, 0.72)])
    return [(True, part) for part in (body, tail, head, *ears)]


def person(rng: _Rng) -> Shape:
    spread = rng.uniform(0.15, 0.3)
    arm = rng.uniform(-0.35, 0.3)
    parts = [_ellipse(0, -0.78, 0.17, 0.2), _capsule(0, -0.42, 0, 0.1, 0.24, 0.18)]
    parts += [_capsule(s * 0.1, 0.1, s * spread, 0.92, 0.11, 0.08) for s in (-1, 1)]
    parts += [_capsule(s * 0.2, -0.45, s * 0.52, arm * s, 0.08, 0.065) for s in (-1, 1)]
    return [(True, part) for part in parts]


def tree(rng: _Rng) -> Shape:
    parts = [_capsule(0, 0.95, 0, 0.0, 0.11, 0.08)]
    for x, y, r in ((0, -0.5, 0.45), (-0.4, -0.15, 0.36), (0.4, -0.15, 0.36), (0, -0.05, 0.4)):
        parts.append(_ellipse(x + rng.uniform(-0.06, 0.06), y, r, r * 0.9))
    return [(True, part) for part in parts]


def car(rng: _Rng) -> Shape:
    roof = rng.uniform(0.35, 0.5)
    cabin = _spline([(-0.5, -0.1), (-0.32, -roof), (0.3, -roof), (0.58, -0.1), (0.3, 0.1), (-0.3, 0.1)])
    hull = np.array([[-0.95, -0.08], [0.92, -0.08], [0.97, 0.28], [-0.97, 0.28]])
    wheels = [_ellipse(x, 0.3, 0.2, 0.2) for x in (-0.55, 0.55)]
    return [(True, part) for part in (cabin, hull, *wheels)]


SHAPES: dict[str, tuple[Callable[[_Rng], Shape], float]] = {
    **{f.__name__: (f, np.pi) for f in (ellipse, box, blob, polygon, star, flower, ring, crescent, leaf)},
    **{f.__name__: (f, 0.35) for f in (heart, pear, mushroom, fish, bird, cat, person, tree)},
    **{f.__name__: (f, 0.2) for f in (bottle, vase, mug, quadruped, car)},
}
"""Name -> (maker, largest turn from upright in radians)."""


def random_shape(rng: _Rng) -> Shape:
    """A shape of random kind, turned, mirrored and stretched a little."""
    maker, turn = SHAPES[list(SHAPES)[int(rng.integers(len(SHAPES)))]]
    angle = rng.uniform(-turn, turn)
    flip = 1.0 if rng.random() < 0.5 else -1.0
    stretch = rng.uniform(0.88, 1.14)
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = np.diag([flip * stretch, 1 / stretch]) @ np.array([[cos, sin], [-sin, cos]])
    return [(adds, points @ matrix) for adds, points in maker(rng)]


def draw_shape(shape: Shape, radius: float) -> tuple[np.ndarray, float]:
    """Coverage of a shape on a square raster.

    Args:
        shape: in its unit frame.
        radius: pixels that the unit has.

    Returns:
        (S, S) uint8 coverage (255 inside, antialiased) and the pixel coordinate of the center in it.
    """
    reach = max(float(np.abs(points).max()) for adds, points in shape if adds)
    center = float(np.ceil(radius * reach)) + 2.0
    size = int(2 * center)
    canvas = np.zeros((size, size), np.uint8)
    for adds, points in shape:
        corners = np.round((points * radius + center - 0.5) * 16).astype(np.int32)
        cv2.fillPoly(canvas, [corners], 255 if adds else 0, cv2.LINE_AA, 4)
    return canvas, center
