"""Composition of the scenes of the synthetic benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from ..masks import mask_to_polygons, segmentation_mask
from . import paint, rule
from .shapes import draw_shape

MAX_OBJECTS = 8
_ATTEMPTS = 200
_CLEAR = 2.0 / rule.LOOK_UNIT  # contrast above rule.SEEN_FROM that objects that stand out have at least
_JPEG_QUALITY = 92
_TOLERANCE = 0.35  # pixels by which polygons may differ from the masks


@dataclass(frozen=True)
class SceneOptions:
    """How scenes are composed."""

    counts: tuple[float, ...] = (0.08, 0.2, 0.28, 0.26, 0.18)  # probability of 1, 2, ... that stand out
    distractors: tuple[float, ...] = (0.3, 0.35, 0.25, 0.1)  # probability of 0, 1, ... that do not
    margin: float = 0.05  # least difference of salience between neighbors in the ranking
    gap: float = 0.06  # least difference of salience from the threshold of being salient
    strength: tuple[float, float] = (0.55, 1.0)  # mix of the background's color (0) and a vivid one (1)
    clutter: float = 0.7  # 0 (calm backgrounds) to 1
    overlap: float = 0.5  # probability that an object is placed against another
    blur: float = 0.7  # largest, pixels at 240 x 320
    noise: float = 3.0  # largest, gray levels
    weights: rule.RuleWeights = field(default_factory=rule.RuleWeights)  # of the ranking rule


DIFFICULTIES: dict[str, SceneOptions] = {
    "easy": SceneOptions(
        counts=(0.1, 0.35, 0.35, 0.2), distractors=(0.6, 0.4), margin=0.08, gap=0.1, strength=(0.75, 1.0),
        clutter=0.1, overlap=0.25, blur=0.3, noise=1.0,
    ),
    "default": SceneOptions(),
    "hard": SceneOptions(
        counts=(0.05, 0.12, 0.18, 0.2, 0.2, 0.15, 0.1), distractors=(0.1, 0.2, 0.3, 0.4), margin=0.025,
        gap=0.03, strength=(0.4, 1.0), clutter=1.0, overlap=0.7, blur=1.2, noise=6.0,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """A finished scene of N objects."""

    image: np.ndarray  # (H, W, 3) BGR uint8, as decoded from ``jpeg``
    jpeg: bytes  # the image as a file
    masks: np.ndarray  # (N, H, W) bool, visible parts, disjoint
    polygons: list[list[list[float]]]  # COCO polygons of the visible parts, to a third of a pixel
    salience: np.ndarray  # (N,) by the rule, measured on ``image`` and ``polygons``, as the files hold them
    values: list[float]  # N rank values of ASSR (1.0 for the most salient; at most 0.5: not salient)


def rank_values(scores: np.ndarray) -> list[float]:
    """Return ASSR rank values for salience (N,): 1.0 to 0.6 for salient objects, then 0.5, 0.4, ..."""
    salient = min(int((scores > rule.SALIENT_FROM).sum()), rule.MAX_SALIENT)
    tenths = [*range(10, 10 - salient, -1), *range(5, 5 - len(scores) + salient, -1)]
    places = np.argsort(np.argsort(-scores, kind="stable"))
    return [tenths[place] / 10 for place in places]


def noisy_rank_values(salience: np.ndarray, noise: float, rng: np.random.Generator) -> list[float]:
    """Return ASSR rank values from an annotator who confuses salient objects of similar salience.

    The order is drawn from a Plackett-Luce model whose utilities are salience / noise, so the probability of
    every order is known.

    Args:
        salience: (N,) by the rule.
        noise: above 0.
        rng: of the draw.
    """
    seen, salient = salience.copy(), salience > rule.SALIENT_FROM
    drawn = salience[salient] / noise + rng.gumbel(size=int(salient.sum()))
    seen[salient] = np.sort(salience[salient])[np.argsort(np.argsort(drawn))]
    return rank_values(seen)


def _vivid_colors(
    rng: np.random.Generator, count: int, background: np.ndarray, strength: tuple[float, float]
) -> np.ndarray:
    """Return pairs of BGR colors (count, 2, 3) unlike the background; some share a hue."""
    group = background[2] + rng.uniform(0.6, 2 * np.pi - 0.6)
    alone = int(rng.choice([1, 2, count], p=[0.6, 0.2, 0.2])) if count > 2 else count
    lonely = rng.permutation(count) < alone
    own_hue = group + rng.uniform(0.7, 2 * np.pi - 0.7, count)
    hue = np.where(lonely, own_hue, group + rng.normal(0, 0.1, count))
    light = rng.uniform(30, 85) + rng.normal(0, 5, count)
    light = np.where(lonely, rng.uniform(20, 90, count), light)
    near = np.abs(light - background[0]) < 12
    light = np.where(near, background[0] + np.where(background[0] > 55, -25, 25), light).clip(15, 95)
    first = np.stack([light, rng.uniform(35, 75, count), hue], axis=1)
    step = rng.uniform(12, 28, count) * np.where(light > 55, -1, 1)
    second = first + np.stack([step, rng.uniform(-25, 5, count), rng.normal(0, 0.35, count)], axis=1)
    second[:, 1] = second[:, 1].clip(5)
    pair = paint.lch_to_bgr(np.stack([first, second], axis=1).reshape(-1, 3)).reshape(count, 2, 3)
    share = rng.uniform(*strength, count)[:, None, None]
    return paint.lch_to_bgr(background) + share * (pair - paint.lch_to_bgr(background))


class _Layout:
    """Places objects so that enough of each stays visible."""

    def __init__(self, height: int, width: int, total: int) -> None:
        self.height, self.width = height, width
        self.labels = np.zeros((height, width), np.uint8)
        self.items: list[paint.Item] = []
        self.pixels = np.zeros(total + 1)
        self.visible = np.zeros(total + 1)

    def _fits(self, item: paint.Item) -> bool:
        """Add an object at its place unless too little of it, or of those it covers, is visible."""
        window = paint.window_of(item, self.height, self.width)
        if window is None:
            return False
        there, here = window
        inside = item.coverage[here] > 127
        full, own = float((item.coverage > 127).sum()), float(inside.sum())
        if own < 0.72 * full or own < 0.004 * self.height * self.width:
            return False
        covered = np.bincount(self.labels[there][inside], minlength=len(self.visible))
        covered[0] = 0
        remaining = self.visible - covered
        if (remaining < 0.55 * self.pixels).any():
            return False
        index = len(self.items) + 1
        self.visible = remaining
        self.visible[index] = self.pixels[index] = own
        self.labels[there][inside] = index
        self.items.append(item)
        return True

    def place(self, item: paint.Item, rng: np.random.Generator, overlap: float) -> bool:
        """Find a place for an object; return False if there is none."""
        for _ in range(10):
            edge = 0.75 * item.radius
            item.x = rng.uniform(min(edge, self.width / 2), max(self.width - edge, self.width / 2))
            item.y = rng.uniform(min(edge, self.height / 2), max(self.height - edge, self.height / 2))
            partners = [other for other in self.items if other.salient] if item.salient else []
            if partners and rng.random() < overlap:
                other = partners[int(rng.integers(len(partners)))]
                turn, away = rng.uniform(0, 2 * np.pi), rng.uniform(0.55, 0.85) * (item.radius + other.radius)
                item.x, item.y = other.x + away * np.cos(turn), other.y + away * np.sin(turn)
            if self._fits(item):
                return True
        return False


def _arrange(
    rng: np.random.Generator, shape: tuple[int, int], salient: int, others: int, overlap: float
) -> _Layout:
    """Choose and place distractors (below) and objects (large ones first), without colors yet."""
    unit = min(shape)
    layout = _Layout(*shape, salient + others)
    for _ in range(others):
        radius = unit * rng.uniform(0.1, 0.22)
        strength = rng.uniform(0.05, 0.1) * rng.choice([-1, 1])
        layout.place(paint.Item(*draw_shape(rng, radius), radius, False, strength=strength), rng, 0.0)
    radii = unit * np.exp(rng.uniform(np.log(0.11), np.log(0.42 - 0.025 * salient), salient))
    for index in np.argsort(-radii * rng.uniform(0.7, 1.3, salient)):
        radius = float(radii[index])
        coverage, middle = draw_shape(rng, radius)
        kind = list(paint.TEXTURES)[int(rng.integers(len(paint.TEXTURES)))]
        layout.place(paint.Item(coverage, middle, radius, True, kind=kind), rng, overlap)
    return layout


def _color(rng: np.random.Generator, layout: _Layout, background: np.ndarray, options: SceneOptions) -> bool:
    """Color the objects so that their ranking, by flat colors, has margins; return False if it fails."""
    items = [item for item in layout.items if item.salient]
    count, extra = len(items), len(layout.items) - len(items)
    below = cv2.cvtColor(paint.lch_to_bgr(background)[None] / np.float32(255), cv2.COLOR_BGR2Lab)[0]
    around = np.concatenate([below[0], [4.0]])[None]
    area = [layout.visible[i + 1] for i, item in enumerate(layout.items) if item.salient] + [1.0] * extra
    place = [(item.x, item.y) for item in items] + [(0.0, 0.0)] * extra
    share = np.array([paint.TEXTURES[item.kind] for item in items])[:, None]
    for _ in range(12):
        colors = _vivid_colors(rng, count, background, options.strength)
        mean = 0.97 * (colors[:, 0] + share * (colors[:, 1] - colors[:, 0]))
        lab = cv2.cvtColor((mean[None] / 255).astype(np.float32), cv2.COLOR_BGR2Lab)[0]
        look = np.concatenate([lab, np.full((count, 1), 9.0)], axis=1)
        look = np.concatenate([look, np.repeat(around, extra, axis=0)])
        shape = layout.height, layout.width
        surroundings = np.repeat(around, len(look), axis=0)
        cues = rule.combine(np.array(area), np.array(place), look, surroundings, shape)
        ordered = np.sort(rule.salience(cues, options.weights)[:count])[::-1]
        gap = float(np.min(ordered[:-1] - ordered[1:], initial=1.0))
        if gap >= 0.8 * options.margin and ordered[-1] > rule.SALIENT_FROM + options.gap:
            for item, pair in zip(items, colors, strict=True):
                item.colors = pair
            return True
    return False


def _develop(rng: np.random.Generator, canvas: np.ndarray, options: SceneOptions) -> np.ndarray:
    """Apply vignette, blur and noise; return the float image as uint8."""
    height, width = canvas.shape[:2]
    y, x = np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32)
    falloff = np.float32(rng.uniform(0, 0.14))
    canvas = canvas * (1 - falloff * (y[:, None] ** 2 + x[None] ** 2) / 2)[..., None]
    sigma = rng.uniform(0, options.blur) * min(height, width) / 240
    if sigma > 0.2:
        canvas = cv2.GaussianBlur(canvas, (0, 0), sigma)
    noise = rng.standard_normal((height, width), dtype=np.float32)[..., None]
    canvas = canvas + np.float32(rng.uniform(0, options.noise)) * noise
    return canvas.clip(0, 255).round().astype(np.uint8)


def _decidable(cues: rule.Cues, meant: np.ndarray, options: SceneOptions) -> bool:
    """Return whether contrast, threshold and ranking of a scene keep the margins of the options."""
    scores = rule.salience(cues, options.weights)
    ordered = np.sort(scores[meant])[::-1]
    return bool(
        (cues.contrast[meant] >= rule.SEEN_FROM + _CLEAR).all()
        and (scores[meant] >= rule.SALIENT_FROM + options.gap).all()
        and (scores[~meant] <= rule.SALIENT_FROM - options.gap).all()
        and (ordered[:-1] - ordered[1:] >= options.margin).all()
    )


def _finish(image: np.ndarray, masks: np.ndarray, meant: np.ndarray, options: SceneOptions) -> Scene | None:
    """Encode a scene and measure it again as its files hold it; return None if a margin is lost."""
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None
    polygons = [
        [[round(number, 2) for number in polygon] for polygon in mask_to_polygons(mask, _TOLERANCE)]
        for mask in masks
    ]
    drawn = [segmentation_mask(polygon, *image.shape[:2]) for polygon in polygons]
    cues = rule.measure_cues(decoded, np.array(drawn))
    if not _decidable(cues, meant, options):
        return None
    scores = rule.salience(cues, options.weights)
    return Scene(decoded, data.tobytes(), masks, polygons, scores, rank_values(scores))


def draw_scene(seed: Sequence[int], height: int, width: int, options: SceneOptions | None = None) -> Scene:
    """Draw the scene of a seed; the same arguments always give the same scene.

    Args:
        seed: integers of at least 0, such as (seed, split, index).
        height, width: size in pixels, at least 48.
        options: composition and ranking rule.

    Raises:
        RuntimeError: no scene with the margins was found (they are too wide for the weights).
    """
    assert min(height, width) >= 48, (height, width)
    options = options or SceneOptions()
    rng = np.random.default_rng([*seed, 0])
    salient = 1 + int(rng.choice(len(options.counts), p=options.counts))
    others = int(rng.choice(len(options.distractors), p=options.distractors))
    empty, background = paint.paint_background(rng, height, width, options.clutter)
    turn = rng.uniform(0, 2 * np.pi)
    light = paint.Lighting(float(np.cos(turn)), float(-abs(np.sin(turn))), rng.uniform(0.25, 0.5))
    for attempt in range(_ATTEMPTS):
        rng = np.random.default_rng([*seed, 1 + attempt])
        wanted = max(1, salient - attempt // 40)
        layout = _arrange(rng, (height, width), wanted, min(others, MAX_OBJECTS - wanted), options.overlap)
        meant = np.array([item.salient for item in layout.items], dtype=bool)
        if meant.sum() < wanted or not _color(rng, layout, background, options):
            continue
        canvas = empty.copy()
        for item in layout.items:
            if item.salient:
                paint.paint_object(canvas, item, light, rng)
            else:
                paint.paint_distractor(canvas, item, rng)
        image = _develop(rng, canvas, options)
        masks = layout.labels[None] == np.arange(1, len(meant) + 1, dtype=np.uint8)[:, None, None]
        if _decidable(rule.measure_cues(image, masks), meant, options):
            order = rng.permutation(len(meant))
            scene = _finish(image, masks[order], meant[order], options)
            if scene is not None:
                return scene
    raise RuntimeError(
        f"seed {list(seed)}: expected a scene of {height}x{width} with clear ranks, found none"
    )
