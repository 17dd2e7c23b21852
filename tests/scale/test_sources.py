import io
import tarfile

import fsspec
import numpy as np
import pytest
from PIL import Image

from sor_ppa.visualization.files import read_image

pytest.importorskip("ray", reason="needs ray")
pa = pytest.importorskip("pyarrow", reason="needs pyarrow")
from pyarrow import parquet  # noqa: E402

from sor_ppa.scale.reading import read_piece
from sor_ppa.scale.sources import find_pieces  # noqa: E402


def _encoded(seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def _photos(folder, count):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        (folder / f"p{i}.png").write_bytes(_encoded(i))
    return folder


def _rows(piece, folder="/"):
    fields = {"files": piece.files, "start": piece.start, "stop": piece.stop, "shard": 3}
    return list(read_piece(fields, str(folder)))


def _tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def test_each_image_is_in_one_piece_in_order(tmp_path):
    photos = _photos(tmp_path / "photos", 5)
    pieces, faults = find_pieces([str(photos), str(photos / "p1.png")], 2)
    names = [name for piece in pieces for name in piece.files]
    assert (names, faults) == ([str(photos / f"p{i}.png") for i in range(5)], [])
    assert [len(piece.files) for piece in pieces] == [2, 2, 1]


def test_urls_are_folders_globs_and_lists():
    fs = fsspec.filesystem("memory")
    for name in ("a.png", "b.png", "notes.md"):
        fs.pipe(f"/photos/{name}", _encoded())
    fs.pipe("/list.txt", b"# two\nmemory://photos/b.png\nmemory://photos/a.png\n")
    a, b = "memory:///photos/a.png", "memory:///photos/b.png"
    assert [p.files for p in find_pieces(["memory://photos"], 9)[0]] == [[a, b]]
    assert [p.files for p in find_pieces(["memory://photos/b*"], 9)[0]] == [[b]]
    (listed,), faults = find_pieces(["memory://list.txt"], 9)
    assert faults == []
    assert [row["reason"] for row in _rows(listed)] == [None, None]


def test_a_url_without_images_is_a_fault():
    pieces, faults = find_pieces(["memory://nowhere"], 9)
    assert pieces == []
    assert [fault.name for fault in faults] == ["memory://nowhere"]


def test_a_file_is_read_as_by_one_process(tmp_path):
    photos = _photos(tmp_path, 1)
    (photos / "q.png").write_text("no picture")
    (piece,), _ = find_pieces([str(photos)], 9)
    good, bad = _rows(piece)
    expected = read_image(photos / "p0.png")
    assert (good["height"], good["width"], good["pixels"]) == (6, 8, expected.tobytes())
    assert (bad["pixels"], bad["reason"]) == (None, "not a picture in a known format")
    assert [(row["shard"], row["place"], row["last"]) for row in (good, bad)] == [(3, 0, False), (3, 1, True)]


def test_relative_paths_refer_to_the_folder_of_the_command(tmp_path, monkeypatch):
    _photos(tmp_path / "photos", 1)
    monkeypatch.chdir(tmp_path)
    (piece,), _ = find_pieces(["photos"], 9)
    monkeypatch.chdir("/")
    (row,) = _rows(piece, tmp_path)
    assert (row["image"], row["reason"]) == ("photos/p0.png", None)


def test_parquet_holds_bytes(tmp_path):
    contents = [_encoded(0), None, b"no picture"]
    parquet.write_table(pa.table({"bytes": pa.array(contents, pa.binary())}), tmp_path / "x.parquet")
    pieces, faults = find_pieces([str(tmp_path / "x.parquet")], 2)
    rows = [row for piece in pieces for row in _rows(piece)]
    assert faults == []
    assert [row["image"] for row in rows] == [f"{tmp_path}/x.parquet#{i}" for i in range(3)]
    reasons = [None, "neither bytes nor a path", "not a picture in a known format"]
    assert [row["reason"] for row in rows] == reasons


def test_parquet_holds_paths_beside_it_and_structs(tmp_path):
    _photos(tmp_path, 2)
    cells = [{"path": "p0.png", "bytes": None}, {"path": "p1.png", "bytes": _encoded(7)}]
    parquet.write_table(pa.table({"image": cells}), tmp_path / "x.parquet")
    (piece,), _ = find_pieces([str(tmp_path / "x.parquet")], 9)
    rows = _rows(piece)
    assert [(row["image"], row["reason"]) for row in rows] == [("p0.png", None), ("p1.png", None)]


def test_parquet_of_other_columns_is_a_fault(tmp_path):
    parquet.write_table(pa.table({"path": [1, 2]}), tmp_path / "x.parquet")
    pieces, (fault,) = find_pieces([str(tmp_path / "x.parquet")], 9)
    assert pieces == []
    assert str(fault).endswith("expected a column bytes (binary) or path (string), found path (int64)")


def test_the_pictures_of_a_tar_file_are_read(tmp_path):
    tar = _tar(tmp_path / "x.tar", {"a/0.png": _encoded(), "a/0.json": b"{}", "a/1.jpg": b"broken"})
    (piece,), _ = find_pieces([str(tar)], 1)
    rows = _rows(piece)
    assert [row["image"] for row in rows] == [f"{tar}/a/0.png", f"{tar}/a/1.jpg"]
    assert [row["reason"] is None for row in rows] == [True, False]


@pytest.mark.parametrize("content", [b"", b"no tar file", None], ids=["empty", "other", "cut"])
def test_a_bad_tar_file_gives_a_reason(tmp_path, content):
    tar = _tar(tmp_path / "x.tar", {"0.png": _encoded(), "1.png": _encoded(1) * 50})
    tar.write_bytes(tar.read_bytes()[:2000] if content is None else content)
    (piece,), _ = find_pieces([str(tar)], 9)
    last = _rows(piece)[-1]
    assert last["last"]
    assert last["image"] == str(tar)
    assert "tar file" in last["reason"]
