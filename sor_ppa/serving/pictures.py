"""Pictures that clients send: checked by their headers before they are decoded."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..data.images import upright_size
from ..visualization.files import ImageReadError, decode_image
from .errors import RequestRefused

__all__ = ["FORMATS", "SUFFIXES", "check_picture", "decode_picture", "encode_picture"]

# Formats whose decoders take time and memory in proportion to the pixels, with the suffixes of their files.
SUFFIXES = {
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "AVIF": (".avif",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm"),
}
Image.init()
FORMATS = tuple(name for name in SUFFIXES if name in Image.OPEN)  # AVIF depends on how Pillow was built


def check_picture(source: bytes | Path, most_pixels: int) -> tuple[str, int, int]:
    """Return the format, height and width of a picture, from its header alone.

    Raises:
        RequestRefused: it is no picture of a known format (415), or has too many pixels (413).
    """
    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
            form, (height, width) = image.format or "", upright_size(image)
    except Image.DecompressionBombError:
        raise RequestRefused(413, f"picture: expected at most {most_pixels} pixels, found more") from None
    except Exception:  # Pillow raises many kinds on broken files
        raise RequestRefused(415, f"picture: expected {', '.join(FORMATS)}, found something else") from None
    if height * width > most_pixels:
        found = f"{width} x {height} = {width * height}"
        raise RequestRefused(413, f"picture: expected at most {most_pixels} pixels, found {found}")
    return form, height, width


def decode_picture(data: bytes) -> NDArray[np.uint8]:
    """Return a checked picture as (H, W, 3) uint8 BGR.

    Raises:
        RequestRefused: it is damaged.
    """
    try:
        return decode_image(BytesIO(data), "picture", FORMATS)
    except ImageReadError as error:
        raise RequestRefused(422, str(error)) from None


def encode_picture(suffix: str, image: NDArray[np.uint8]) -> bytes:
    """Return the file of a gray map (H, W) or a picture (H, W, 3), uint8 BGR.

    Raises:
        RequestRefused: the format of the suffix cannot hold it (JPEG: sides beyond 65,500 pixels).
    """
    try:
        return cv2.imencode(suffix, image)[1].tobytes()
    except cv2.error:
        raise RequestRefused(
            422, f"picture: expected sides that {suffix} can hold, found {image.shape}"
        ) from None
