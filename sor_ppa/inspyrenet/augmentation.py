"""The published training augmentation of InSPyReNet, on pairs of Pillow images: RGB image and gray mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

__all__ = ["Pair", "augment"]

Pair = tuple[Image.Image, Image.Image]


def scale_and_crop(pair: Pair, scale: float) -> Pair:
    """Scale both (bicubic, which softens the mask), then crop the center or add a black border."""
    width, height = pair[0].size
    size = (round(width * scale), round(height * scale))
    return _centered([image.resize(size, Image.Resampling.BICUBIC) for image in pair], width, height)


def _centered(pair: Sequence[Image.Image], width: int, height: int) -> Pair:
    """Crop the center of both images; a black border fills what is missing."""
    left, top = (pair[0].width - width) // 2, (pair[0].height - height) // 2
    right, bottom = (pair[0].width + width) // 2, (pair[0].height + height) // 2
    image, mask = (image.crop((left, top, right, bottom)) for image in pair)
    return image, mask


def rotate(pair: Pair, degrees: int) -> Pair:
    """Rotate both about the center by nearest neighbor, keep the size, fill with black."""
    return _centered([image.rotate(degrees % 360, expand=True) for image in pair], *pair[0].size)


def enhance(image: Image.Image, generator: np.random.RandomState) -> Image.Image:
    """Change contrast, brightness and sharpness in random order, each with probability 0.5, by 1 to 1.1."""
    methods = [ImageEnhance.Contrast, ImageEnhance.Brightness, ImageEnhance.Sharpness]
    for index in generator.permutation(len(methods)):
        if generator.random_sample() > 0.5:
            image = methods[index](image).enhance(1 + generator.random_sample() / 10)
    return image


def augment(
    pair: Pair,
    size: int,
    generator: np.random.RandomState,
    *,
    scale_range: Sequence[float] = (0.75, 1.25),
    rotation_range: Sequence[int] = (-10, 10),
) -> Pair:
    """Resize, then scale, flip and rotate, each with probability 0.5, then enhance the image.

    The image is resized bilinearly with antialiasing, the mask by nearest neighbor.

    Args:
        pair: image (RGB) and mask (gray) of one size.
        size: side of the result in pixels.
        generator: source of random numbers.
        scale_range: smallest and largest scale.
        rotation_range: in whole degrees, the end excluded.

    Returns:
        Image and mask, ``size`` squared.
    """
    image, mask = pair
    square = (size, size)
    pair = image.resize(square, Image.Resampling.BILINEAR), mask.resize(square, Image.Resampling.NEAREST)
    scale = scale_range[0] + generator.random_sample() * (scale_range[1] - scale_range[0])
    if generator.random_sample() < 0.5:
        pair = scale_and_crop(pair, scale)
    if generator.random_sample() < 0.5:
        pair = ImageOps.mirror(pair[0]), ImageOps.mirror(pair[1])
    degrees = int(generator.randint(*rotation_range))
    if generator.random_sample() < 0.5:
        pair = rotate(pair, degrees)
    return enhance(pair[0], generator), pair[1]
