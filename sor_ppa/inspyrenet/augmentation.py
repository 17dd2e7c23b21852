"""The published training augmentation of InSPyReNet, on Pillow images.

Everything works on an image (RGB) and its mask (grey) together. Random numbers come from the generator
given, so that a seed repeats a sample.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

__all__ = ["Pair", "augment", "enhance", "flip", "resize_pair", "rotate", "scale_and_crop"]

Pair = tuple[Image.Image, Image.Image]


def resize_pair(pair: Pair, size: int) -> Pair:
    """To ``size`` squared: the image bilinear with antialiasing, the mask by nearest neighbour."""
    image, mask = pair
    return (
        image.resize((size, size), Image.Resampling.BILINEAR),
        mask.resize((size, size), Image.Resampling.NEAREST),
    )


def scale_and_crop(pair: Pair, scale: float) -> Pair:
    """Scale (bicubic, the mask as well, which softens it), then crop the centre or add a black border."""

    def one(image: Image.Image) -> Image.Image:
        width, height = image.size
        scaled = image.resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
        left, top = (scaled.width - width) // 2, (scaled.height - height) // 2
        right, bottom = (scaled.width + width) // 2, (scaled.height + height) // 2
        border = -min(0, left, top)
        scaled = ImageOps.expand(scaled, border=border)
        return scaled.crop((left + border, top + border, right + border, bottom + border))

    return one(pair[0]), one(pair[1])


def flip(pair: Pair) -> Pair:
    """Mirror left and right."""
    return ImageOps.mirror(pair[0]), ImageOps.mirror(pair[1])


def rotate(pair: Pair, degrees: int) -> Pair:
    """Rotate about the centre by nearest neighbour, keep the size, fill with black."""

    def one(image: Image.Image) -> Image.Image:
        width, height = image.size
        turned = image.rotate(degrees % 360, expand=True)
        left, top = (turned.width - width) // 2, (turned.height - height) // 2
        right, bottom = (turned.width + width) // 2, (turned.height + height) // 2
        return turned.crop((left, top, right, bottom))

    return one(pair[0]), one(pair[1])


def enhance(image: Image.Image, generator: np.random.RandomState) -> Image.Image:
    """Contrast, brightness and sharpness in random order, each half the time, by 1 to 1.1."""
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
    """Resize, then scale, flip and rotate, each half the time, then enhance the image.

    Args:
        pair: image (RGB) and mask (grey) of one size.
        size: side in pixels of the result.
        generator: source of random numbers.
        scale_range: smallest and largest scale.
        rotation_range: whole degrees, the end excluded.

    Returns:
        Image and mask, ``size`` squared.
    """
    pair = resize_pair(pair, size)
    scale = scale_range[0] + generator.random_sample() * (scale_range[1] - scale_range[0])
    if generator.random_sample() < 0.5:
        pair = scale_and_crop(pair, scale)
    if generator.random_sample() < 0.5:
        pair = flip(pair)
    degrees = int(generator.randint(*rotation_range))
    if generator.random_sample() < 0.5:
        pair = rotate(pair, degrees)
    return enhance(pair[0], generator), pair[1]
