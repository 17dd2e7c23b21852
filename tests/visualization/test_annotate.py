import json
import logging

import numpy as np
import pytest
from detectron2.config import get_cfg
from PIL import Image

from sor_ppa import add_sor_config
from sor_ppa.predictor import SORPredictor
from sor_ppa.visualization.annotate import Output, annotate
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
    summary = annotate(predictor, files, Output(tmp_path / "out" / "deep"), batch_size=2, progress=False)
    assert (summary.images, summary.objects, summary.ranked, summary.unreadable) == (5, 15, 10, 0)
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
    annotate(predictor, files, Output(tmp_path / "out"), batch_size=4, progress=False)
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
        summary = annotate(predictor, files, Output(tmp_path / "out"), batch_size=2, progress=False)
    assert (summary.images, summary.unreadable) == (2, 2)
    messages = [r.getMessage() for r in caplog.records]
    assert len(messages) == 2
    assert messages[0].startswith(str(files[1]))
    assert sorted(p.name for p in (tmp_path / "out").glob("*.json")) == ["a.json", "z.json"]


def test_pictures_with_the_same_name_are_all_written(tmp_path, predictor):
    files = [_save(tmp_path / "x" / "cat.png", seed=1), _save(tmp_path / "y" / "cat.png", seed=2)]
    annotate(predictor, files, Output(tmp_path / "out", "png", "polygons", True), progress=False)
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == [f"{d}_cat{e}" for d in "xy" for e in (".json", "_ranked.png", "_saliency.png")]


def test_an_input_is_never_overwritten(tmp_path, predictor):
    files = [_save(tmp_path / "a.png"), _save(tmp_path / "a_saliency.png")]
    with pytest.raises(ValueError, match=r"a_saliency\.png: is an input and would be overwritten"):
        annotate(predictor, files, Output(tmp_path), progress=False)


def test_pictures_too_long_for_jpeg_become_png(tmp_path, predictor):
    file = _save(tmp_path / "long.png", (66000, 2))
    annotate(predictor, [file], Output(tmp_path / "out"), progress=False)
    assert (tmp_path / "out" / "long_ranked.png").is_file()


def test_no_pictures(tmp_path, predictor):
    summary = annotate(predictor, [], Output(tmp_path / "out"), progress=False)
    assert str(summary) == "0 images, 0 objects (0 ranked)"
