import json

import pytest

pytest.importorskip("ray", reason="needs ray")
pa = pytest.importorskip("pyarrow", reason="needs pyarrow")
from pyarrow import parquet  # noqa: E402

from sor_ppa.scale.ranking import RayOutput, RaySummary, _fitting_actors, _Gatherer  # noqa: E402
from sor_ppa.scale.storage import Folder  # noqa: E402

RUN = {"model": "m", "shards": 2}


@pytest.fixture
def output(tmp_path):
    return RayOutput(Folder(str(tmp_path)), "parquet", 2)


def _image(name):
    entry = {"file": name, "model": "m", "height": 1, "width": 1, "objects": []}
    return {"image": name, "reason": None, "entry": entry}


def _row(shard, place, last=False, reason=None):
    text = None if reason else json.dumps(_image(f"{place}.png")["entry"])
    return {
        "shard": shard,
        "place": place,
        "last": last,
        "image": f"{place}.png",
        "reason": reason,
        "entry": text,
    }


def _images(path):
    return json.loads(parquet.read_schema(path).metadata[b"images"])


def test_a_shard_is_written_once_all_its_images_are_there(tmp_path, output):
    gatherer = _Gatherer(output, RaySummary())
    for row in (_row(1, 2, last=True), _row(0, 0), _row(1, 0)):
        gatherer.add(row)
    assert output.folder.names() == []
    gatherer.add(_row(1, 1))
    assert output.folder.names() == [output.name(1)]
    assert _images(tmp_path / output.name(1)) == ["0.png", "1.png", "2.png"]


def test_names_that_are_not_utf8_are_written(tmp_path, output):
    output.write(0, [_image("caf\udce9.png")])
    assert _images(tmp_path / output.name(0)) == ["caf\\udce9.png"]


def test_a_row_that_comes_twice_counts_once(output):
    summary = RaySummary()
    gatherer = _Gatherer(output, summary)
    for row in (_row(0, 0), _row(0, 0), _row(0, 1, last=True)):
        gatherer.add(row)
    assert summary.images == 2


def test_unreadable_images_are_in_a_table_of_their_own(tmp_path, output, caplog):
    summary = RaySummary()
    gatherer = _Gatherer(output, summary)
    gatherer.add(_row(0, 0, reason="broken"))
    gatherer.add(_row(0, 1, last=True))
    assert parquet.read_table(tmp_path / "unreadable").to_pylist() == [{"image": "0.png", "reason": "broken"}]
    assert _images(tmp_path / output.name(0)) == ["1.png"]
    assert summary.unreadable == [("0.png", "broken")]
    assert caplog.messages == ["0.png: broken"]


def test_a_run_continues_with_the_shards_that_are_missing(output):
    assert output.begin(RUN, overwrite=False) == [0, 1]
    output.write(1, [_image("0.png")])
    assert output.begin(RUN, overwrite=False) == [0]
    assert output.begin(RUN, overwrite=True) == [0, 1]


def test_a_run_does_not_continue_one_of_another_model(output):
    output.begin(RUN, overwrite=False)
    with pytest.raises(ValueError, match=r"run.json: model: expected 'n', found a run with 'm'"):
        output.begin(RUN | {"model": "n"}, overwrite=False)
    assert output.begin(RUN | {"model": "n"}, overwrite=True) == [0, 1]


def test_predictions_of_another_program_are_not_continued(tmp_path, output):
    (tmp_path / "predictions.parquet").touch()
    with pytest.raises(ValueError, match=r"run.json: expected beside predictions.parquet, found none"):
        output.begin(RUN, overwrite=False)
    assert output.begin(RUN, overwrite=True) == [0, 1]
    assert output.folder.names() == ["run.json"]


def test_ids_of_coco_shards_are_unique(tmp_path):
    output = RayOutput(Folder(str(tmp_path)), "coco", 2)
    for shard in range(2):
        output.write(shard, [_image("0.png"), _image("1.png")])
    contents = [json.loads((tmp_path / output.name(shard)).read_text()) for shard in range(2)]
    assert [image["id"] for content in contents for image in content["images"]] == [
        1,
        2,
        1_000_001,
        1_000_002,
    ]


@pytest.mark.parametrize(
    ("actors", "gpus", "resources", "expected"),
    [
        (None, None, {"CPU": 8}, (4, 0)),
        (None, None, {"CPU": 8, "GPU": 2}, (2, 1)),
        (None, 0.5, {"CPU": 8, "GPU": 1}, (2, 0.5)),
        (7, None, {"CPU": 8}, (7, 0)),
    ],
)
def test_actors_leave_a_cpu_for_decoding(actors, gpus, resources, expected):
    assert _fitting_actors(actors, gpus, resources) == expected


@pytest.mark.parametrize(("actors", "resources"), [(8, {"CPU": 8}), (0, {"CPU": 8}), (None, {"CPU": 1})])
def test_actors_that_do_not_fit_are_refused(actors, resources):
    with pytest.raises(ValueError, match="expected"):
        _fitting_actors(actors, None, resources)
