import numpy as np
import pytest

pytest.importorskip("ray", reason="needs ray")
pa = pytest.importorskip("pyarrow", reason="needs pyarrow")
from pyarrow import parquet  # noqa: E402

from sor_ppa.evaluation.checks import InputError  # noqa: E402
from sor_ppa.evaluation.segmentations import encode_masks  # noqa: E402
from sor_ppa.scale.evaluation import _files, _read_objects, score_parquet  # noqa: E402

COUNTS = encode_masks(np.ones((1, 4, 6), bool))[0]["counts"]
FOUND = {"image": ["a/1.jpg", "1.png"], "height": [4, 4], "width": [6, 6], "segmentation": [COUNTS] * 2}


def read(path, columns, metadata=None):
    """Return the rows that are distributed, of a file with these columns."""
    parquet.write_table(pa.table(columns).replace_schema_metadata(metadata), path)
    sources = pa.Table.from_pylist([{"path": str(path), "truth": False, "file": 7}])
    return pa.concat_tables(_read_objects(sources)).to_pylist()


def test_rows_of_one_image_have_one_key(tmp_path):
    rows = read(tmp_path / "x.parquet", FOUND)
    assert [(row["key"], row["image"], row["file"], row["place"]) for row in rows] == [
        ("1", "a/1.jpg", 7, 0),
        ("1", "1.png", 7, 1),
    ]


def test_folders_and_globs_name_files(tmp_path):
    folder = tmp_path / "run[1]"
    folder.mkdir()
    for name in ("b.parquet", "a.parquet", "run.json"):
        (folder / name).touch()
    expected = [str(folder / name) for name in ("a.parquet", "b.parquet")]
    assert _files(str(folder)) == _files(str(tmp_path / "run*" / "*.parquet")) == expected
    assert _files(expected[0]) == expected[:1]
    with pytest.raises(InputError, match="nowhere: expected a Parquet file or a folder of them, found none"):
        _files(str(tmp_path / "nowhere"))


def test_images_without_objects_have_a_row(tmp_path):
    rows = read(tmp_path / "x.parquet", FOUND, {"images": '["2.jpg", "1.png", "a/1.jpg"]'})
    assert [(row["key"], row["segmentation"]) for row in rows] == [("1", COUNTS), ("1", COUNTS), ("2", None)]


def test_types_of_other_programs_are_taken(tmp_path):
    images = pa.array(FOUND["image"]).dictionary_encode()
    others = {
        "image": images,
        "rank": pa.array([1.0, None]),
        "height": pa.array([4, 4], pa.uint16()),
        "more": [0, 0],
    }
    rows = read(tmp_path / "x.parquet", FOUND | others)
    assert [(row["image"], row["height"], row["rank"], row["score"]) for row in rows] == [
        ("a/1.jpg", 4, 1, None),
        ("1.png", 4, None, None),
    ]


@pytest.mark.parametrize(
    ("columns", "found"),
    [({"rank": [1.5, 2.5]}, "found .*1.5"), ({"segmentation": [{"size": 4}] * 2}, "found .*struct")],
    ids=["rank", "segmentation"],
)
def test_other_types_are_refused(tmp_path, columns, found):
    with pytest.raises(InputError, match=rf"x.parquet: column {next(iter(columns))}: expected .*{found}"):
        read(tmp_path / "x.parquet", FOUND | columns)


def test_an_image_needs_a_name(tmp_path):
    with pytest.raises(InputError, match="x.parquet: column image: expected a name in each row, found null"):
        read(tmp_path / "x.parquet", FOUND | {"image": [None, "1.png"]})


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (FOUND, r"x.parquet: expected the columns .*'rank_score'.*, found no \['rank_score'\]"),
        (
            FOUND | {"rank": [1, 2]},
            r"truth.parquet: expected the columns .*, found no \['crowd', 'gt_rank'\]",
        ),
        (None, "x.parquet: expected a Parquet file, found"),
    ],
    ids=["predictions", "truth", "text"],
)
def test_unusable_files_are_named_before_anything_is_read(tmp_path, columns, expected):
    if columns is None:
        (tmp_path / "x.parquet").write_text("no Parquet")
    else:
        parquet.write_table(pa.table(columns), tmp_path / "x.parquet")
    parquet.write_table(pa.table(FOUND), tmp_path / "truth.parquet")
    with pytest.raises(InputError, match=expected):
        score_parquet(str(tmp_path / "x.parquet"), str(tmp_path / "truth.parquet"), {"CPU": 2})
