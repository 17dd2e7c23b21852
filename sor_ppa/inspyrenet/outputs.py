"""Pictures made from a photograph and its saliency map, as in transparent-background."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from .foreground import estimate_foreground

__all__ = ["KINDS", "compose", "cut_out", "parse_color"]

KINDS = ("map", "rgba", "green", "white", "blur", "overlay")
"""Names of outputs; a color "r,g,b" or a background picture are outputs, too."""

GREEN = (120, 255, 155)
BLUR_SIGMA = 15

Image = NDArray[np.uint8]


def parse_color(text: str) -> tuple[int, int, int]:
    """Return a color from "r,g,b" or "[r, g, b]".

    Raises:
        ValueError: it is not a color, or a value exceeds 255.
    """
    match = re.fullmatch(r"\s*\[?\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*\]?\s*", text)
    values = tuple(map(int, match.groups())) if match else ()
    if len(values) != 3 or max(values) > 255:
        expected = f"one of {', '.join(KINDS)}, a color such as 255,0,0 or a background picture"
        raise ValueError(f"type: expected {expected}, found {text!r}")
    return values[0], values[1], values[2]


def _over(image: NDArray[Any], alpha: NDArray[np.floating], back: NDArray[Any] | Sequence[int]) -> Image:
    """Draw the foreground of a picture (H, W, 3) over another picture or one color."""
    # colors in double precision, as published
    background = back if isinstance(back, np.ndarray) else np.array(back, np.float64)
    share = alpha[..., None]
    return (image * share + background * (1 - share)).astype(np.uint8)


def cut_out(image: Image, alpha: NDArray[np.floating], *, clean: bool = True) -> Image:
    """Return the foreground with a transparent background.

    Args:
        image: (H, W, 3) uint8 RGB.
        alpha: (H, W) in [0, 1].
        clean: remove the old background from the colors of half-transparent pixels.

    Returns:
        (H, W, 4) uint8 RGBA.
    """
    if clean:
        colors = torch.from_numpy(image).permute(2, 0, 1).float() / 255
        front = estimate_foreground(colors, torch.from_numpy(np.asarray(alpha, np.float32)))
        image = (front.permute(1, 2, 0).numpy() * 255 + 0.5).astype(np.uint8)
    return np.dstack([image, (alpha * 255).astype(np.uint8)])


def compose(
    image: Image,
    saliency: NDArray[np.floating],
    kind: str = "rgba",
    *,
    background: Image | None = None,
    threshold: float | None = None,
    reverse: bool = False,
) -> Image:
    """Make one output.

    Args:
        image: (H, W, 3) uint8 RGB.
        saliency: (H, W) in [0, 1].
        kind: one of ``KINDS``, "background" or a color "r,g,b".
        background: (h, w, 3) uint8 RGB for "background"; resized to the image.
        threshold: use a hard mask of the pixels above it instead of soft edges.
        reverse: keep the background, remove the salient objects.

    Returns:
        (H, W, 3) uint8 RGB; (H, W, 4) for "rgba".

    Raises:
        ValueError: an unknown kind.
    """
    assert saliency.shape == image.shape[:2]
    alpha = saliency if threshold is None else (saliency > threshold).astype(np.float64)
    alpha = 1 - alpha if reverse else alpha
    if kind == "map":
        return np.repeat((alpha * 255).astype(np.uint8)[..., None], 3, axis=2)
    if kind == "rgba":
        return cut_out(image, alpha, clean=threshold is None)
    if kind == "overlay":
        mixed = _over((np.array(GREEN, np.float64) + image) // 2, alpha, image)
        edges = cv2.Canny((alpha > 0.5).astype(np.uint8) * np.uint8(255), 50, 100)
        mixed[edges != 0] = GREEN
        return mixed
    if kind == "blur":
        return _over(image, alpha, cv2.GaussianBlur(image, (0, 0), BLUR_SIGMA))
    if kind == "background" and background is not None:
        return _over(image, alpha, cv2.resize(background, (image.shape[1], image.shape[0])))
    colors = {"green": GREEN, "white": (255, 255, 255)}
    return _over(image, alpha, colors.get(kind) or parse_color(kind))
