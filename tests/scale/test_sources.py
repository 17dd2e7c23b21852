import fsspec
import pytest

pytest.importorskip("ray", reason="needs ray")
pa = pytest.importorskip("pyarrow", reason="needs pyarrow")
from pyarrow import parquet  # noqa: E402

from sor_ppa.scale.sources import find_pieces  # noqa: E402

from .photos import encoded, rows_of, write_photos  # noqa: E402


def test_each_image_is_in_one_piece_in_order(tmp_path):
    photos = write_photos(tmp_path / "photos", 5)
    pieces, faults = find_pieces([str(photos), str(photos / "p1.png")], 2)
    names = [name for piece in pieces for name in piece.files]
    assert (names, faults) == ([str(photos / f"p{i}.png") for i in range(5)], [])
    assert [len(piece.files) for piece in pieces] == [2, 2, 1]


def test_folders_hold_tar_and_parquet_files(tmp_path):
    for name in ("a.tar", "b.tar.gz", "c.TGZ", "d.png", "e.txt"):
        (tmp_path / name).touch()
    parquet.write_table(pa.table({"path": ["d.png"]}), tmp_path / "f.parquet")
    pieces, faults = find_pieces([str(tmp_path)], 9)
    assert ([len(piece.files) for piece in pieces], faults) == ([1] * 5, [])
    names = [piece.files[0].removeprefix(f"{tmp_path}/") for piece in pieces]
    assert names == ["a.tar", "b.tar.gz", "c.TGZ", "d.png", "f.parquet"]


def test_urls_are_folders_globs_and_lists():
    fs = fsspec.filesystem("memory")
    for name in ("a.png", "b.png", "notes.md"):
        fs.pipe(f"/photos/{name}", encoded())
    fs.pipe("/list.txt", b"# two\nmemory://photos/b.png\nmemory://photos/a.png\n")
    a, b = "memory:///photos/a.png", "memory:///photos/b.png"
    assert [p.files for p in find_pieces(["memory://photos"], 9)[0]] == [[a, b]]
    assert [p.files for p in find_pieces(["memory://photos/b*"], 9)[0]] == [[b]]
    (listed,), faults = find_pieces(["memory://list.txt"], 9)
    assert faults == []
    assert [row["reason"] for row in rows_of(listed)] == [None, None]


def test_a_url_without_images_is_a_fault():
    pieces, faults = find_pieces(["memory://nowhere"], 9)
    assert pieces == []
    assert [fault.name for fault in faults] == ["memory://nowhere"]


def test_parquet_of_other_columns_is_a_fault(tmp_path):
    parquet.write_table(pa.table({"path": [1, 2]}), tmp_path / "x.parquet")
    pieces, (fault,) = find_pieces([str(tmp_path / "x.parquet")], 9)
    assert pieces == []
    assert str(fault).endswith("expected a column bytes (binary) or path (string), found path (int64)")
