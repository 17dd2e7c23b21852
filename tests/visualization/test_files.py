import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from sor_ppa.visualization.files import ImageReadError, expand_inputs, read_image, result_names, write_image


def _touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3)).save(path)


def _gradient(mode):
    values = np.tile(np.arange(0, 250, 10, dtype=np.uint8), (8, 1))
    return Image.fromarray(values).convert(mode)


FILES = ["L.png", "RGB.bmp", "RGBA.png", "LA.png", "P.gif", "P.png", "CMYK.tif", "RGB.webp", "1.png"]


@pytest.mark.parametrize("name", FILES)
def test_every_mode_is_read_as_bgr(tmp_path, name):
    picture = _gradient(name.partition(".")[0])
    picture.save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
    image = read_image(tmp_path / name)
    assert image.shape == (8, 25, 3)
    assert image.dtype == np.uint8
    expected = np.asarray(picture.convert("RGB"))[:, :, ::-1]
    np.testing.assert_allclose(image.astype(int), expected, atol=1)


def test_colors_transparency_and_floats(tmp_path):
    for picture, bgr in (
        (Image.new("RGB", (6, 4), (250, 100, 5)), [5, 100, 250]),
        (Image.new("RGBA", (6, 4), (0, 0, 0, 0)), [255, 255, 255]),
        (Image.fromarray(np.full((4, 4), 0.5, np.float32)), [128, 128, 128]),
    ):
        picture.save(tmp_path / "a.tif")
        assert (read_image(tmp_path / "a.tif") == bgr).all()


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bit_grays_keep_their_upper_bits(tmp_path, name):
    cv2.imwrite(str(tmp_path / name), np.arange(256, dtype=np.uint16)[None] * 257)
    np.testing.assert_array_equal(read_image(tmp_path / name)[0, :, 0], np.arange(256))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    _gradient("RGB").save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape[:2] == ((25, 8) if orientation > 4 else (8, 25))


@pytest.mark.parametrize(
    "content", [b"", b"text", b"\x89PNG\r\n\x1a\nrubbish", b"\xff\xd8\xff\xe0rubbish", None]
)
def test_a_file_that_is_not_a_whole_picture_is_named_in_one_line(tmp_path, content):
    file = tmp_path / "a.png"
    Image.effect_noise((64, 64), 50).save(file)
    file.write_bytes(file.read_bytes()[:2000] if content is None else content)
    with pytest.raises(ImageReadError, match=r"a\.png: [^\n]*$"):
        read_image(file)


def test_pipes_and_dead_links_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to("nowhere.png")
    with pytest.raises(ImageReadError, match=r"pipe\.png: not a regular file"):
        read_image(tmp_path / "pipe.png")
    with pytest.raises(ImageReadError, match=r"link\.png: no such file"):
        read_image(tmp_path / "link.png")
    for inputs in ([tmp_path], [tmp_path / "pipe.png", tmp_path / "link.png"]):
        files, faults = expand_inputs(inputs)
        assert files == []
        assert sorted(Path(fault.name).name for fault in faults) == ["link.png", "pipe.png"]


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (5, 7, 4)])
def test_written_pictures_are_read_back(tmp_path, shape):
    image = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    write_image(tmp_path / "a.png", image)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), image)


def test_files_folders_globs_and_lists_mix(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _touch(*(tmp_path / n for n in ("one.jpg", "dir/b.png", "dir/a.JPG", "dir/sub/c.png", "more/d1.png")))
    (tmp_path / "dir" / "notes.md").write_text("no picture")
    (tmp_path / "lists").mkdir()
    lines = "\ufeff../more/d1.png\r\n\n# comment\ndir/sub/c.png\n"
    (tmp_path / "lists" / "all.txt").write_text(lines, encoding="utf-8")
    files, faults = expand_inputs(["one.jpg", "dir", "mor*/*.png", "lists/all.txt"])
    assert [f.name for f in files] == ["one.jpg", "a.JPG", "b.png", "d1.png", "c.png"]
    assert faults == []


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        (["**"], ["a.png", "a[1].png", "b.png", "c.png"]),  # includes subfolders
        (["b.png", ".", "*.png"], ["b.png", "a.png", "a[1].png"]),  # each file once
        (["a[1].png"], ["a[1].png"]),  # an existing file is not a pattern
    ],
)
def test_globs(tmp_path, monkeypatch, inputs, names):
    monkeypatch.chdir(tmp_path)
    _touch(*(tmp_path / name for name in ("a.png", "a[1].png", "b.png", "x/y/c.png")))
    (tmp_path / "x" / "readme.txt").write_text("")
    files, faults = expand_inputs(inputs)
    assert [f.name for f in files] == names
    assert faults == []


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ("nowhere.jpg", "no such file or folder"),
        ("*.jpg", "no picture matches"),
        ("empty", "no pictures in this folder"),
        ("empty.txt", "names no picture"),
    ],
)
def test_unusable_inputs_are_faults(tmp_path, monkeypatch, item, reason):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.txt").write_text("# nothing\n")
    files, faults = expand_inputs([item])
    assert files == []
    assert [f.name for f in faults] == [item]
    assert reason in str(faults[0])


def test_faults_in_a_list_name_the_list(tmp_path):
    _touch(tmp_path / "a.png")
    (tmp_path / "inner.txt").write_text("a.png\n")
    (tmp_path / "l.txt").write_text("a.png\nb.png\ninner.txt\n")
    files, faults = expand_inputs([tmp_path / "l.txt"])
    assert [f.name for f in files] == ["a.png"]
    assert [str(f) for f in faults] == [
        f"{tmp_path / 'l.txt'}: b.png: no such file or folder",
        f"{tmp_path / 'l.txt'}: inner.txt: a list inside a list",
    ]


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["x/cat.jpg", "x/dog.jpg"], ["cat", "dog"]),
        (["x/cat.jpg", "y/cat.jpg", "y/dog.jpg"], ["x_cat", "y_cat", "dog"]),
        (["1/x/cat.jpg", "2/x/cat.jpg"], ["1_x_cat", "2_x_cat"]),
        (["x/cat.jpg", "x/cat.png"], ["cat_jpg", "cat_png"]),
        (["x/cat.jpg", "x/CAT.png"], ["cat_jpg", "CAT_png"]),
        (["x/cat.jpg", "x/cat.png", "y/cat.jpg"], ["x_cat_jpg", "x_cat_png", "y_cat"]),
        (["x/cat.jpg", "y/cat.jpg", "x_cat.jpg"], ["x_cat_2", "y_cat", "x_cat"]),
        ([], []),
    ],
)
def test_results_never_share_a_name(files, names):
    assert result_names([Path("/root") / file for file in files]) == names


def test_a_placeholder_of_one_pixel_is_refused(tmp_path):
    Image.new("RGB", (1, 1)).save(tmp_path / "a.png")
    with pytest.raises(ImageReadError, match=r"a\.png: expected at least 16 pixels, found 1 x 1$"):
        read_image(tmp_path / "a.png")
