"""Videos in and out."""

from __future__ import annotations

import io
import json
import os
import resource
from fractions import Fraction
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from sor_ppa.video import VideoError, cut_out_video, key_frames, rank_frames, rank_video, read_frames
from tests.ranked import BrightSquares

av = pytest.importorskip("av", reason="needs PyAV")
SIZE = (96, 128)


def frames(count: int, swap_at: int | None = None):
    """Two squares on dark ground; the brighter one leaves at ``swap_at``."""
    for index in range(count):
        picture = np.full((*SIZE, 3), 20, np.uint8)
        if swap_at is None or index < swap_at:
            picture[20:50, 10 + index % 40 : 40 + index % 40] = 250
        picture[55:85, 80:110] = 200
        yield index / 25, picture


def make_clip(path: Path, times: list[int]) -> Path:
    """Write frames that are shown from ``times`` (milliseconds) on, with half a second of sound."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25)
        video.height, video.width = SIZE
        video.pix_fmt = "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        sound = out.add_stream("aac", rate=44100, layout="mono")
        for time, (_, picture) in zip(times, frames(len(times)), strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        tone = np.sin(np.arange(22050) / 20).astype(np.float32)[None]
        frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
        frame.sample_rate, frame.time_base = 44100, Fraction(1, 44100)
        out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """Half a second of video with sound."""
    return make_clip(tmp_path_factory.mktemp("video") / "clip.mp4", list(range(0, 480, 40)))


def streams(path: Path) -> dict:
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        sounds = [s.codec_context.name for s in container.streams.audio]
        count = sum(1 for _ in container.decode(video))
        size = (video.height, video.width)
        return {"frames": count, "size": size, "rate": video.average_rate, "sound": sounds}


def test_ranked_video_keeps_size_rate_and_sound(clip: Path, tmp_path: Path):
    output = tmp_path / "out.mp4"
    assert rank_video(clip, output, BrightSquares()) == 12
    assert streams(output) == streams(clip) == {"frames": 12, "size": SIZE, "rate": 25, "sound": ["aac"]}
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(12))
    assert {tuple(o["track"] for o in line["objects"]) for line in lines} == {(1, 2)}
    assert (tmp_path / "out.attention.png").stat().st_size > 1000
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.attention.png", "out.jsonl", "out.mp4"]


@pytest.mark.parametrize("suffix", [".webm", ".mkv", ".avi", ".mov"])
def test_other_containers(clip: Path, tmp_path: Path, suffix: str):
    rank_video(clip, tmp_path / f"out{suffix}", BrightSquares(), plot=False)
    assert streams(tmp_path / f"out{suffix}")["frames"] == 12


@pytest.mark.parametrize("start", [0, 300])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_variable_frame_rate_is_kept_in_step_with_the_sound(tmp_path: Path, suffix: str, start: int):
    times = [start + time for time in (0, 40, 55, 200, 210, 380, 400, 470)]
    rank_video(make_clip(tmp_path / f"clip{suffix}", times), tmp_path / f"out{suffix}", BrightSquares())
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        sound = [float(p.pts * p.time_base) for p in container.demux(audio=0) if p.dts is not None]
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        shown = [frame.time - sound[0] for frame in container.decode(video=0)]
    assert shown == pytest.approx([time / 1000 for time in times], abs=0.001)
    assert np.diff(sound) == pytest.approx(np.full(22, 1024 / 44100), abs=0.001)


class Interrupted(BrightSquares):
    """A ranker during whose third batch the user types Ctrl-C."""

    calls = 0

    def __call__(self, pictures, **options):
        self.calls += 1
        if self.calls == 3:
            raise KeyboardInterrupt
        return super().__call__(pictures, **options)


def test_camera_is_recorded_until_the_user_stops(tmp_path: Path):
    ranker = Interrupted()
    count = rank_video("lavfi:testsrc=rate=10:size=128x96", tmp_path / "seen.mkv", ranker, plot=False)
    assert count == 2 * ranker.batch_size
    seconds = [s for s, _ in read_frames(tmp_path / "seen.mkv")]
    assert seconds == pytest.approx(np.arange(count) / 10)
    assert len((tmp_path / "seen.jsonl").read_text().splitlines()) == count


def test_pipe_is_read_once(tmp_path: Path):
    pipe, buffer = tmp_path / "camera", io.BytesIO()
    os.mkfifo(pipe)
    with av.open(buffer, "w", format="mpjpeg") as out:
        video = out.add_stream("mjpeg", rate=25)
        video.height, video.width = SIZE
        video.pix_fmt = "yuvj420p"
        for _, picture in frames(6):
            out.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(video.encode(None))
    camera = Thread(target=pipe.write_bytes, args=(buffer.getvalue(),))
    camera.start()
    assert rank_video(pipe, tmp_path / "seen.mp4", BrightSquares(), plot=False) == 6
    camera.join()


@pytest.mark.parametrize("suffix", [".webm", ".mov", ".mkv"])
def test_cut_out_video_has_the_map_as_transparency(clip: Path, tmp_path: Path, suffix: str):
    def saliency(picture):
        return (picture.mean(axis=2) > 128).astype(np.float32)

    assert cut_out_video(clip, tmp_path / f"cut{suffix}", saliency) == 12
    with av.open(str(tmp_path / f"cut{suffix}")) as container:
        stream = container.streams.video[0]
        if suffix == ".webm":  # FFmpeg's own VP9 decoder drops transparency
            assert stream.metadata.get("alpha_mode") == "1"
            return
        alpha = next(container.decode(stream)).to_ndarray(format="rgba")[:, :, 3]
    assert alpha[35, 25] == 255
    assert alpha[5, 5] == 0


def test_container_without_transparency_is_one_line(clip: Path, tmp_path: Path):
    with pytest.raises(VideoError, match=r"\.mp4: expected \.webm, \.mov, \.mkv for transparent video"):
        cut_out_video(clip, tmp_path / "cut.mp4", lambda picture: picture[:, :, 0] / 255)


def test_what_is_no_video_is_one_line_and_leaves_nothing(tmp_path: Path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(VideoError, match=r"bad\.mp4: expected a video"):
        rank_video(tmp_path / "bad.mp4", tmp_path / "out.mp4", BrightSquares())
    assert [p.name for p in tmp_path.iterdir()] == ["bad.mp4"]


def test_unknown_container_is_one_line(clip: Path, tmp_path: Path):
    with pytest.raises(VideoError, match=r"\.txt: expected a video container"):
        rank_video(clip, tmp_path / "out.txt", BrightSquares())
    assert not list(tmp_path.iterdir())


def test_truncated_video_gives_the_frames_that_it_has(clip: Path, tmp_path: Path):
    container = tmp_path / "cut.mkv"
    rank_video(clip, container, BrightSquares(), plot=False)
    data = container.read_bytes()
    container.write_bytes(data[: len(data) * 2 // 3])
    assert 0 < sum(1 for _ in read_frames(container)) <= 12


def test_key_frames_are_where_the_leader_changes():
    ranked = rank_frames(frames(30, swap_at=15), BrightSquares())
    assert [frame.index for frame in key_frames(ranked, hold=3)] == [0, 15]


@pytest.mark.slow
def test_memory_stays_flat_over_ten_thousand_frames():
    ranked = rank_frames(frames(10_000), BrightSquares())
    for index, _ in enumerate(ranked):
        if index == 1000:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KB
