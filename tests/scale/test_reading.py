import pytest

from sor_ppa.visualization.files import read_image

pytest.importorskip("ray", reason="needs ray")
pa = pytest.importorskip("pyarrow", reason="needs pyarrow")
from pyarrow import parquet  # noqa: E402

from sor_ppa.scale.sources import find_pieces  # noqa: E402

from .photos import encoded, rows_of, write_photos, write_tar  # noqa: E402


def test_a_file_is_read_as_by_one_process(tmp_path):
    photos = write_photos(tmp_path, 1)
    (photos / "q.png").write_text("no picture")
    (piece,), _ = find_pieces([str(photos)], 9)
    good, bad = rows_of(piece)
    expected = read_image(photos / "p0.png")
    assert (good["height"], good["width"], good["pixels"]) == (6, 8, expected.tobytes())
    assert (bad["pixels"], bad["reason"]) == (None, "not a picture in a known format")
    assert [(row["shard"], row["place"], row["last"]) for row in (good, bad)] == [(3, 0, False), (3, 1, True)]


def test_relative_paths_refer_to_the_folder_of_the_command(tmp_path, monkeypatch):
    write_photos(tmp_path / "photos", 1)
    monkeypatch.chdir(tmp_path)
    (piece,), _ = find_pieces(["photos"], 9)
    monkeypatch.chdir("/")
    (row,) = rows_of(piece, tmp_path)
    assert (row["image"], row["reason"]) == ("photos/p0.png", None)


def test_parquet_holds_bytes(tmp_path):
    contents = [encoded(0), None, b"no picture"]
    parquet.write_table(pa.table({"bytes": pa.array(contents, pa.binary())}), tmp_path / "x.parquet")
    pieces, faults = find_pieces([str(tmp_path / "x.parquet")], 2)
    rows = [row for piece in pieces for row in rows_of(piece)]
    assert faults == []
    assert [row["image"] for row in rows] == [f"{tmp_path}/x.parquet#{i}" for i in range(3)]
    reasons = [None, "neither bytes nor a path", "not a picture in a known format"]
    assert [row["reason"] for row in rows] == reasons


def test_parquet_holds_paths_beside_it_and_structs(tmp_path):
    write_photos(tmp_path, 2)
    cells = [{"path": "p0.png", "bytes": None}, {"path": "p1.png", "bytes": encoded(7)}]
    parquet.write_table(pa.table({"image": cells}), tmp_path / "x.parquet")
    (piece,), _ = find_pieces([str(tmp_path / "x.parquet")], 9)
    rows = rows_of(piece)
    assert [(row["image"], row["reason"]) for row in rows] == [("p0.png", None), ("p1.png", None)]


def test_the_pictures_of_a_tar_file_are_read(tmp_path):
    tar = write_tar(tmp_path / "x.tar", {"a/0.png": encoded(), "a/0.json": b"{}", "a/1.jpg": b"broken"})
    (piece,), _ = find_pieces([str(tar)], 1)
    rows = rows_of(piece)
    assert [row["image"] for row in rows] == [f"{tar}/a/0.png", f"{tar}/a/1.jpg"]
    assert [row["reason"] is None for row in rows] == [True, False]


def test_names_that_are_not_utf8_are_escaped(tmp_path):
    tar = write_tar(tmp_path / "x.tar", {"caf\udce9.png": encoded()})
    (piece,), _ = find_pieces([str(tar)], 1)
    (row,) = rows_of(piece)
    assert (row["image"], row["reason"]) == (f"{tar}/caf\\udce9.png", None)


@pytest.mark.parametrize("content", [b"", b"no tar file", None], ids=["empty", "other", "cut"])
def test_a_bad_tar_file_gives_a_reason(tmp_path, content):
    tar = write_tar(tmp_path / "x.tar", {"0.png": encoded(), "1.png": encoded(1) * 50})
    tar.write_bytes(tar.read_bytes()[:2000] if content is None else content)
    (piece,), _ = find_pieces([str(tar)], 9)
    last = rows_of(piece)[-1]
    assert last["last"]
    assert last["image"] == str(tar)
    assert "tar file" in last["reason"]
