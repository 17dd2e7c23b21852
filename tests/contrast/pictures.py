"""Made-up pictures with known objects."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

HEIGHT, WIDTH = 160, 200


def disc(x: float, y: float, radius: float) -> NDArray[np.bool_]:
    """Return the (160, 200) mask of a disc."""
    rows, columns = np.indices((HEIGHT, WIDTH))
    return np.hypot(columns - x, rows - y) <= radius


def picture(*objects: tuple[NDArray[np.bool_], tuple[int, int, int]], gray: int = 120) -> NDArray[np.uint8]:
    """Return a gray (160, 200, 3) BGR picture with noise and objects, each a mask and a color."""
    image = np.full((HEIGHT, WIDTH, 3), gray, np.float64)
    for mask, color in objects:
        image[mask] = color
    noise = np.random.default_rng(0).normal(0, 2, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def as_input(bgr: NDArray[np.uint8]) -> dict[str, torch.Tensor]:
    """Return detectron2's input dict."""
    return {"image": torch.from_numpy(np.ascontiguousarray(bgr.transpose(2, 0, 1)))}


def mask_iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Return the IoU of two masks."""
    return float((a & b).sum() / (a | b).sum())
