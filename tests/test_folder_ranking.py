import json
import logging
import os

import numpy as np
import pytest
from detectron2.config import get_cfg
from PIL import Image

from sor_ppa import add_sor_config
from sor_ppa.folder_ranking import FileOutput, rank_files, watch_folder
from sor_ppa.predictor import SORPredictor
from sor_ppa.table_output import TableOutput
from tests.fake_model import FakeModel


@pytest.fixture
def predictor():
    cfg = get_cfg()
    add_sor_config(cfg)
    cfg.INPUT.MIN_SIZE_TEST = 32
    return SORPredictor(cfg, model=FakeModel())


def _save(path, size=(48, 36), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    pixels = np.random.default_rng(seed).integers(100, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_each_picture_gets_three_files(tmp_path, predictor):
    files = [_save(tmp_path / f"p{i}.png", (40 + 7 * i, 30), i) for i in range(5)]
    summary = rank_files(predictor, files, FileOutput(tmp_path / "out" / "deep"), progress=False)
    assert (summary.images, summary.objects, summary.ranked, summary.unreadable) == (5, 15, 10, [])
    for i, file in enumerate(files):
        size = (40 + 7 * i, 30)
        folder = tmp_path / "out" / "deep"
        with (
            Image.open(folder / f"p{i}_ranked.jpg") as drawn,
            Image.open(folder / f"p{i}_saliency.png") as gray,
        ):
            assert drawn.size == gray.size == size
            assert gray.mode == "L"
        content = json.loads((folder / f"p{i}.json").read_text())
        assert content["file"] == str(file)
        assert [o["rank"] for o in content["objects"]] == [1, 2, None]


def test_results_belong_to_their_pictures(tmp_path, predictor):
    files = [_save(tmp_path / f"p{i}.png", ((48, 36), (36, 48))[i % 2], i) for i in range(4)]
    rank_files(predictor, files, FileOutput(tmp_path / "out"), progress=False)
    for file in files:
        (alone,) = predictor([file])
        content = json.loads((tmp_path / "out" / f"{file.stem}.json").read_text())
        assert content["objects"] == alone.to_json()["objects"]


def test_unreadable_files_are_logged_and_the_rest_goes_on(tmp_path, predictor, caplog):
    files = [
        _save(tmp_path / "a.png"),
        tmp_path / "bad.png",
        tmp_path / "worse.png",
        _save(tmp_path / "z.png"),
    ]
    files[1].write_bytes(b"no picture")
    with caplog.at_level(logging.ERROR):
        summary = rank_files(predictor, files, FileOutput(tmp_path / "out"), progress=False)
    assert (summary.images, len(summary.unreadable)) == (2, 2)
    messages = [r.getMessage() for r in caplog.records]
    assert len(messages) == 2
    assert messages[0].startswith(str(files[1]))
    assert sorted(p.name for p in (tmp_path / "out").glob("*.jpg")) == ["a_ranked.jpg", "z_ranked.jpg"]


def test_pictures_with_the_same_name_are_all_written(tmp_path, predictor):
    files = [_save(tmp_path / "x" / "cat.png", seed=1), _save(tmp_path / "y" / "cat.png", seed=2)]
    rank_files(predictor, files, FileOutput(tmp_path / "out", None, "png", "polygons", True), progress=False)
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == [f"{d}_cat{e}" for d in "xy" for e in (".json", "_ranked.png", "_saliency.png")]


def test_an_input_is_never_overwritten(tmp_path, predictor):
    files = [_save(tmp_path / "a.png"), _save(tmp_path / "a_saliency.png")]
    with pytest.raises(ValueError, match=r"a_saliency\.png: is an input and would be overwritten"):
        rank_files(predictor, files, FileOutput(tmp_path), progress=False)


def test_pictures_too_long_for_jpeg_become_png(tmp_path, predictor):
    file = _save(tmp_path / "long.png", (66000, 2))
    rank_files(predictor, [file], FileOutput(tmp_path / "out"), progress=False)
    assert (tmp_path / "out" / "long_ranked.png").is_file()


def test_no_pictures(tmp_path, predictor):
    summary = rank_files(predictor, [], FileOutput(tmp_path / "out"), progress=False)
    assert str(summary) == "0 images, 0 objects (0 ranked)"


def test_what_is_done_is_skipped_until_the_model_or_the_picture_changes(tmp_path, predictor):
    files = [_save(tmp_path / "a.png"), _save(tmp_path / "b.png")]
    output = FileOutput(tmp_path / "out", "one")
    assert rank_files(predictor, files, output, progress=False).images == 2
    assert rank_files(predictor, files, output, progress=False).skipped == 2
    assert rank_files(predictor, files, output, overwrite=True, progress=False).images == 2
    assert rank_files(predictor, files, FileOutput(tmp_path / "out", "two"), progress=False).images == 2
    changed = FileOutput(tmp_path / "out", "two", settings={"opts": ["A", "1"]})
    assert rank_files(predictor, files, changed, progress=False).images == 2
    assert rank_files(predictor, files, FileOutput(tmp_path / "out", "two"), progress=False).images == 2
    later = (tmp_path / "out" / "a.json").stat().st_mtime + 10
    os.utime(files[0], (later, later))
    assert rank_files(predictor, files, FileOutput(tmp_path / "out", "two"), progress=False).images == 1


def test_unreadable_files_are_reported_until_they_are_gone(tmp_path, predictor):
    good, bad = _save(tmp_path / "a.png"), tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    output = FileOutput(tmp_path / "out")
    rank_files(predictor, [good, bad], output, progress=False)
    (entry,) = json.loads((tmp_path / "out" / "unreadable.json").read_text())
    assert entry == {"file": str(bad), "reason": "not a picture in a known format"}
    rank_files(predictor, [good], output, progress=False)
    assert not (tmp_path / "out" / "unreadable.json").exists()


def test_coco_file_can_be_scored_and_continues_a_killed_run(tmp_path, predictor):
    files = [_save(tmp_path / f"{name}.png", seed=i) for i, name in enumerate("ab")]
    output = TableOutput(tmp_path / "out", "coco", "m")
    rank_files(predictor, files[1:], output, progress=False)
    with (tmp_path / "out" / "predictions.json.journal").open("a") as journal:
        journal.write('\n{"file": "cut')  # as a killed process leaves it
    again = TableOutput(tmp_path / "out", "coco", "m")
    assert rank_files(predictor, files, again, progress=False).skipped == 1
    content = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["a.png", "b.png"]
    expected = predictor(files[1]).to_json()["objects"]
    found = [entry for entry in content["annotations"] if entry["image_id"] == 2]
    assert [e["segmentation"] for e in found] == [e["segmentation"] for e in expected]
    assert [e["rank"] for e in found] == [1, 2, None]
    left, top, right, bottom = expected[0]["box"]
    assert found[0]["bbox"] == [left, top, right - left, bottom - top]


def test_one_file_has_the_results_of_one_model_and_setting(tmp_path, predictor):
    files = [_save(tmp_path / "a.png"), _save(tmp_path / "b.png")]

    def rank(files, settings):
        output = TableOutput(tmp_path / "out", "coco", "m", settings)
        summary = rank_files(predictor, files, output, progress=False)
        return summary.images, len(json.loads(output.file.read_text())["images"])

    assert rank(files, {"opts": []}) == (2, 2)
    assert rank(files[:1], {"opts": ["A", "1"]}) == (1, 1)
    assert rank(files, {"opts": []}) == (0, 2)
    os.utime(files[0], (1, 1))
    assert rank(files, {"opts": []}) == (1, 2)


def test_parquet_has_a_row_for_each_object_and_names_every_image(tmp_path, predictor):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    file = _save(tmp_path / "a.png")
    rank_files(predictor, [file], TableOutput(tmp_path / "out", "parquet"), progress=False)
    table = parquet.read_table(tmp_path / "out" / "predictions.parquet")
    assert table.column("rank").to_pylist() == [1, 2, None]
    assert json.loads(table.schema.metadata[b"images"]) == [str(file)]
    counts = table.column("segmentation").to_pylist()
    assert counts == [o.to_json()["segmentation"]["counts"] for o in predictor(file).objects]


def test_watched_folder_ranks_complete_files_once(tmp_path, predictor):
    folder = tmp_path / "in"
    _save(folder / "a.png")
    (folder / "growing.png").write_bytes(b"")
    output = FileOutput(tmp_path / "out")
    watch_folder(predictor, folder, output, suffixes=(".png",), interval=0, rounds=3)
    assert sorted(p.name for p in (tmp_path / "out").glob("*.json")) == ["a_png.json"]
