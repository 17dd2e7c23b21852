"""Pictures made from a photograph and its saliency map, as users of transparent-background know them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .foreground import estimate_foreground

__all__ = ["KINDS", "compose", "cut_out", "is_color", "over", "parse_color", "soften"]

KINDS = ("map", "rgba", "green", "white", "blur", "overlay")
"""Outputs by name; a colour "r,g,b" or a background picture also make one."""

GREEN = (120, 255, 155)
WHITE = (255, 255, 255)
BLUR_SIGMA = 15

Image = NDArray[np.uint8]
_COLOR = re.compile(r"\s*\[?\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*\]?\s*")


def is_color(text: str) -> bool:
    """Whether a text is meant as a colour, such as "255,0,0" or "[255, 0, 0]"."""
    return bool(_COLOR.fullmatch(text))


def parse_color(text: str) -> tuple[int, int, int]:
    """A colour from "r,g,b" or "[r, g, b]".

    Raises:
        ValueError: it is none, or a value exceeds 255.
    """
    match = _COLOR.fullmatch(text)
    values = tuple(int(value) for value in match.groups()) if match else ()
    if len(values) != 3 or max(values) > 255:
        raise ValueError(f"color: expected three numbers 0 to 255 such as 255,0,0, found {text!r}")
    return values[0], values[1], values[2]


def soften(
    saliency: NDArray[np.floating], *, threshold: float | None = None, reverse: bool = False
) -> NDArray[np.floating]:
    """The opacity of the foreground: the map itself, or hard above a threshold, or inverted.

    Args:
        saliency: (H, W) in [0, 1].
        threshold: 1 above it, 0 below.
        reverse: one minus the result.
    """
    alpha = saliency if threshold is None else (saliency > threshold).astype(np.float64)
    return 1 - alpha if reverse else alpha


def _colors(background: NDArray[Any] | Sequence[int]) -> NDArray[Any]:
    """One colour in double precision, as published; a picture as it is."""
    return background if isinstance(background, np.ndarray) else np.array(background, np.float64)


def over(image: Image, alpha: NDArray[np.floating], background: NDArray[Any] | Sequence[int]) -> Image:
    """The foreground of a picture over another.

    Args:
        image: (H, W, 3) uint8.
        alpha: (H, W) in [0, 1].
        background: (H, W, 3), or one colour.

    Returns:
        (H, W, 3) uint8.
    """
    share = alpha[..., None]
    return (image * share + _colors(background) * (1 - share)).astype(np.uint8)


def cut_out(image: Image, alpha: NDArray[np.floating], *, clean: bool = True) -> Image:
    """The foreground on nothing.

    Args:
        image: (H, W, 3) uint8 RGB.
        alpha: (H, W) in [0, 1].
        clean: take the old background out of the colours of half-transparent pixels.

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
    """One output.

    Args:
        image: (H, W, 3) uint8 RGB.
        saliency: (H, W) in [0, 1].
        kind: "map" (grey, three channels), "rgba" (cut-out), "green", "white", "blur", "overlay",
            "background" or a colour "r,g,b".
        background: (h, w, 3) uint8 RGB for "background"; resized to the image.
        threshold: a hard mask instead of soft edges.
        reverse: keep the background, drop the salient objects.

    Returns:
        (H, W, 3) uint8 RGB; (H, W, 4) for "rgba".

    Raises:
        ValueError: unknown kind, or arrays that do not fit.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"image: expected uint8 (H, W, 3), found {image.dtype} {image.shape}")
    if saliency.shape != image.shape[:2]:
        raise ValueError(f"saliency: expected shape {image.shape[:2]}, found {saliency.shape}")
    alpha = soften(saliency, threshold=threshold, reverse=reverse)
    if kind == "map":
        return np.repeat((alpha * 255).astype(np.uint8)[..., None], 3, axis=2)
    if kind == "rgba":
        return cut_out(image, alpha, clean=threshold is None)
    if kind == "green":
        return over(image, alpha, GREEN)
    if kind == "white":
        return over(image, alpha, WHITE)
    if is_color(kind):
        return over(image, alpha, parse_color(kind))

    import cv2

    if kind == "blur":
        return over(image, alpha, cv2.GaussianBlur(image, (0, 0), BLUR_SIGMA))
    if kind == "overlay":
        tinted = (_colors(GREEN) + image) // 2
        mixed = (tinted * alpha[..., None] + image * (1 - alpha[..., None])).astype(np.uint8)
        edges = cv2.Canny((alpha > 0.5).astype(np.uint8) * np.uint8(255), 50, 100)
        mixed[edges != 0] = GREEN
        return mixed
    if kind == "background":
        if background is None:
            raise ValueError("background: found none, expected a picture (H, W, 3)")
        return over(image, alpha, cv2.resize(background, (image.shape[1], image.shape[0])))
    names = ", ".join((*KINDS, "background"))
    raise ValueError(f"kind: expected one of {names} or a colour such as 255,0,0, found {kind!r}")
