"""The published training augmentation of InSPyReNet, on pairs of Pillow images: RGB image and gray mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

__all__ = ["Pair", "augment"]

Pair = tuple[Image.Image, Image.Image]


def _centered(images: Sequence[Image.Image], side: int) -> Pair:
    """Crop the center of both images to ``side`` squared; a black border fills what is missing."""
    width, height = images[0].size
    box = (width - side) // 2, (height - side) // 2, (width + side) // 2, (height + side) // 2
    return images[0].crop(box), images[1].crop(box)


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

    The image is resized bilinearly with antialiasing, the mask by nearest neighbor; scaling is bicubic.

    Args:
        pair: image (RGB) and mask (gray) of one size.
        size: side of the result in pixels.
        generator: source of random numbers.
        scale_range: smallest and largest scale.
        rotation_range: in whole degrees, the end excluded.
    """
    image, mask = pair
    square = (size, size)
    pair = image.resize(square, Image.Resampling.BILINEAR), mask.resize(square, Image.Resampling.NEAREST)
    scale = scale_range[0] + generator.random_sample() * (scale_range[1] - scale_range[0])
    if generator.random_sample() < 0.5:
        scaled = (round(size * scale), round(size * scale))
        pair = _centered([one.resize(scaled, Image.Resampling.BICUBIC) for one in pair], size)
    if generator.random_sample() < 0.5:
        pair = ImageOps.mirror(pair[0]), ImageOps.mirror(pair[1])
    degrees = int(generator.randint(*rotation_range))
    if generator.random_sample() < 0.5:
        pair = _centered([one.rotate(degrees % 360, expand=True) for one in pair], size)
    return enhance(pair[0], generator), pair[1]
