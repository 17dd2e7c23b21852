from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from detectron2.data.detection_utils import read_image
from PIL import Image

from sor_ppa.data.images import image_finder, image_size, image_sizes


def picture(mode: str = "RGB", size: tuple[int, int] = (53, 31)) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 8])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_exif_orientation_agrees_with_decoding(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    picture().save(path, exif=exif)
    assert image_size(path) == read_image(str(path), "BGR").shape[:2]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_agrees_with_decoding(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    picture().save(path)
    data = path.read_bytes()
    body = b"Exif\0\0" + b"II*\0" + struct.pack("<I", 9999)
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:])
    assert image_size(path) == read_image(str(path), "BGR").shape[:2]


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_image_raises(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(OSError):  # noqa: PT011  any OSError will do
        image_size(path)


def test_sizes_keep_their_order_and_errors(tmp_path: Path) -> None:
    paths = []
    for index in range(30):
        paths.append(tmp_path / f"{index}.png")
        picture(size=(index + 1, 7)).save(paths[-1])
    paths[10] = tmp_path / "absent.png"
    found = image_sizes(paths)
    assert isinstance(found[10], FileNotFoundError)
    assert [size for i, size in enumerate(found) if i != 10] == [(7, i + 1) for i in range(30) if i != 10]


def test_images_with_another_suffix_are_found(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.JPG", "c.png", "d.jpeg"):
        (tmp_path / name).touch()
    find = image_finder(tmp_path)
    assert [Path(find(n)).name for n in "abcd"] == ["a.jpg", "b.JPG", "c.png", "d.jpeg"]
    assert Path(find("b.JPG")).name == "b.JPG"
    assert Path(find("absent")).name == "absent.jpg"
