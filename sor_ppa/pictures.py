"""Turning what users call a picture into one array."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Literal

import cv2
import numpy as np
import torch
from detectron2.data import transforms as T
from numpy.typing import NDArray
from PIL import Image

from .visualization.files import read_image, to_rgb

__all__ = ["ChannelOrder", "Picture", "is_picture", "resize_shortest_edge", "to_bgr"]

ChannelOrder = Literal["bgr", "rgb"]
Picture = str | os.PathLike[str] | Image.Image | NDArray[np.uint8] | torch.Tensor


def is_picture(value: Any) -> bool:
    """Return whether a value is one picture, not several."""
    if isinstance(value, (np.ndarray, torch.Tensor)):
        return value.ndim <= 3
    return isinstance(value, (str, os.PathLike)) or not isinstance(value, Iterable)


def to_bgr(picture: Any, channel_order: ChannelOrder = "bgr", name: str = "picture") -> NDArray[np.uint8]:
    """Return a picture as an array.

    Args:
        picture: a path; a PIL image of any mode; or uint8 as an array (H, W, 3) or a tensor (3, H, W) or
            (H, W, 3). A tensor of shape (3, H, 3) is taken as (3, H, W).
        channel_order: of arrays and tensors.
        name: of the picture, for errors.

    Returns:
        (H, W, 3) uint8 BGR.

    Raises:
        ImageReadError: the file cannot be read.
        ValueError: something that is no picture.
    """
    if isinstance(picture, (str, os.PathLike)):
        return read_image(picture)
    if isinstance(picture, Image.Image):
        array, channel_order = to_rgb(picture), "rgb"
    else:
        array = np.asarray(picture.detach().cpu() if isinstance(picture, torch.Tensor) else picture)
    if isinstance(picture, torch.Tensor) and array.ndim == 3 and array.shape[0] == 3:
        array = array.transpose(1, 2, 0)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        kinds = "a path, a PIL image, a uint8 array (H, W, 3) or a uint8 tensor (3, H, W)"
        raise ValueError(
            f"{name}: expected {kinds}, found {type(picture).__name__} {array.dtype} {array.shape}"
        )
    return array if channel_order == "bgr" else np.asarray(cv2.cvtColor(array, cv2.COLOR_RGB2BGR), np.uint8)


def resize_shortest_edge(image: NDArray[np.uint8], short_side: int, max_side: int) -> NDArray[np.uint8]:
    """Resize (H, W, 3) as detectron2's loaders do; extreme aspect ratios keep a side of 1 pixel.

    Args:
        image: uint8.
        short_side: in pixels; 0 keeps the size.
        max_side: limit of the long side in pixels.
    """
    transform = T.ResizeShortestEdge([short_side] * 2, max_side).get_transform(image)
    if isinstance(transform, T.ResizeTransform):
        size = max(transform.new_h, 1), max(transform.new_w, 1)
        transform = T.ResizeTransform(*image.shape[:2], *size, transform.interp)
    return np.asarray(transform.apply_image(np.ascontiguousarray(image)))
