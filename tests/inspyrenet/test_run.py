"""Files through the saliency runner."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from sor_ppa.inspyrenet.run import SaliencyOutput, find_media, run_saliency
from sor_ppa.visualization.video_files import VideoReader


def brightness(image: np.ndarray) -> np.ndarray:
    """Compute a made-up saliency map."""
    return image.mean(2).astype(np.float32) / 255


def write_picture(path: Path, height: int = 30, width: int = 40) -> Path:
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8))
    return path


def write_video(path: Path, frames: int = 5) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (64, 48))
    for index in range(frames):
        writer.write(np.full((48, 64, 3), 40 * index, np.uint8))
    writer.release()
    return path


def test_every_kind_of_a_picture_is_written(tmp_path: Path) -> None:
    picture = write_picture(tmp_path / "cat.jpg")
    background = write_picture(tmp_path / "beach.png", 10, 10)
    kinds = ("map", "rgba", "green", "white", "blur", "overlay", "255,0,0", str(background))
    output = SaliencyOutput(tmp_path / "out", kinds, extension="jpg")
    summary = run_saliency(brightness, [picture], [], output, progress=False)
    assert (summary.images, summary.unreadable) == (1, 0)
    found = sorted(path.name.removeprefix("cat_") for path in (tmp_path / "out").iterdir())
    assert found[:4] == ["255-0-0.jpg", "beach.jpg", "blur.jpg", "green.jpg"]
    assert found[4:] == ["map.png", "overlay.jpg", "rgba.png", "white.jpg"]
    for kind, shape in (("rgba", (30, 40, 4)), ("map", (30, 40))):
        written = cv2.imread(str(tmp_path / "out" / f"cat_{kind}.png"), cv2.IMREAD_UNCHANGED)
        assert written.shape == shape


@pytest.mark.parametrize(
    ("name", "written"), [("a.JPEG", "a_green.jpg"), ("a.webp", "a_green.webp"), ("a.bmp", "a_green.png")]
)
def test_without_a_format_that_of_the_photo_is_kept(tmp_path: Path, name: str, written: str) -> None:
    picture = write_picture(tmp_path / "a.png").rename(tmp_path / name)
    run_saliency(brightness, [picture], [], SaliencyOutput(tmp_path / "out", ("green",)), progress=False)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [written]


def test_a_video_keeps_its_frames_and_size(tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.mp4")
    output = SaliencyOutput(tmp_path / "out", ("green",))
    summary = run_saliency(brightness, [], [video], output, progress=False)
    assert (summary.videos, summary.frames) == (1, 5)
    capture = cv2.VideoCapture(str(tmp_path / "out" / "clip_green.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 5
    assert capture.get(cv2.CAP_PROP_FRAME_WIDTH) == 64


def test_pictures_and_videos_are_found_in_a_folder(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.jpg")
    write_video(tmp_path / "b.mp4")
    pictures, videos, faults = find_media([str(tmp_path), str(tmp_path / "missing.jpg")])
    assert [path.name for path in pictures] == ["a.jpg"]
    assert [path.name for path in videos] == ["b.mp4"]
    assert len(faults) == 1


def test_an_unreadable_file_is_skipped(tmp_path: Path) -> None:
    bad, broken = tmp_path / "bad.jpg", tmp_path / "broken.mp4"
    bad.write_bytes(b"nothing")
    broken.write_bytes(b"nothing")
    good, output = write_picture(tmp_path / "good.jpg"), SaliencyOutput(tmp_path / "out")
    summary = run_saliency(brightness, [bad, good], [broken], output, progress=False)
    assert (summary.images, summary.unreadable) == (1, 2)


def test_a_cut_out_of_a_video_is_transparent(tmp_path: Path) -> None:
    output = SaliencyOutput(tmp_path / "out", ("rgba", "map"))
    run_saliency(brightness, [], [write_video(tmp_path / "clip.mp4")], output, progress=False)
    assert sorted(path.name for path in output.folder.iterdir()) == ["clip_map.mp4", "clip_rgba.webm"]
    with VideoReader(output.folder / "clip_rgba.webm") as video:
        assert video.video.codec_context.name == "vp9"
        assert len(list(video.frames())) == 5


def test_a_broken_video_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"no video")
    output = SaliencyOutput(tmp_path / "out")
    assert run_saliency(brightness, [], [tmp_path / "clip.mp4"], output, progress=False).unreadable == 1
    assert not list(output.folder.iterdir())


def test_an_input_is_not_overwritten(tmp_path: Path) -> None:
    picture = write_picture(tmp_path / "a.png")
    clash = write_picture(tmp_path / "a_map.png")
    with pytest.raises(ValueError, match="is an input and would be overwritten"):
        run_saliency(brightness, [picture, clash], [], SaliencyOutput(tmp_path), progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": ("pink",)}, "type: expected one of map, rgba"),
        ({"kinds": ("beach.png",)}, r"beach\.png: no such file"),
        ({"threshold": 2.0}, "threshold: expected 0 to 1, found 2.0"),
        ({"extension": "gif"}, "format: expected one of jpg, png, webp, found 'gif'"),
    ],
)
def test_invalid_choices_are_named(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SaliencyOutput(tmp_path, **options)
