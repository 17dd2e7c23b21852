from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from detectron2.data.detection_utils import read_image
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sor_ppa.data.images import image_size, image_sizes


def picture(mode: str = "RGB", size: tuple[int, int] = (53, 31)) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "gif", "webp", "tiff", "ppm"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_size_by_format(tmp_path: Path, suffix: str, mode: str) -> None:
    path = tmp_path / f"a.{suffix}"
    picture(mode).save(path)
    assert image_size(path) == (31, 53)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_exif_orientation_agrees_with_decoding(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    picture().save(path, exif=exif)
    assert image_size(path) == read_image(str(path), "BGR").shape[:2]


@pytest.mark.parametrize("orientation", [1, 6])
def test_xmp_orientation_agrees_with_decoding(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "a.jpg"
    picture().save(path, xmp=f'<x tiff:Orientation="{orientation}"/>'.encode())
    assert image_size(path) == read_image(str(path), "BGR").shape[:2]


def test_png_text_does_not_disturb(tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text("Comment", "x" * 5000)
    path = tmp_path / "a.png"
    picture().save(path, pnginfo=info)
    assert image_size(path) == (31, 53)


def test_long_headers_are_walked(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    picture().save(path, progressive=True, icc_profile=bytes(150_000), comment="c" * 60_000)
    assert image_size(path) == (31, 53)


def test_fill_bytes_before_a_marker(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    picture().save(path)
    data = path.read_bytes()
    path.write_bytes(data[:2] + b"\xff\xff\xff" + data[2:])
    assert image_size(path) == (31, 53)


def test_broken_exif_agrees_with_decoding(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    picture().save(path)
    data = path.read_bytes()
    body = b"Exif\0\0" + b"II*\0" + struct.pack("<I", 9999)
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:])
    assert image_size(path) == read_image(str(path), "BGR").shape[:2]


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"text", bytes(100)])
def test_what_is_no_image_raises(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(OSError):  # noqa: PT011  any OSError will do
        image_size(path)


def test_many_keep_their_order_and_errors(tmp_path: Path) -> None:
    paths = []
    for index in range(100):
        path = tmp_path / f"{index}.png"
        picture(size=(index + 1, 7)).save(path)
        paths.append(str(path))
    paths[40] = str(tmp_path / "absent.png")
    found = image_sizes(paths, workers=4)
    assert isinstance(found[40], FileNotFoundError)
    assert [size for i, size in enumerate(found) if i != 40] == [(7, i + 1) for i in range(100) if i != 40]
