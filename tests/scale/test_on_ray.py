"""Runs on a small cluster on this machine; ``tools/scale_trials.py`` kills parts of one."""

import json
import os

import numpy as np
import pytest

from sor_ppa.data.synthetic import SyntheticSpec, write_dataset
from sor_ppa.evaluation.command import score_files
from sor_ppa.evaluation.segmentations import encode_masks
from sor_ppa.evaluation.truth_table import write_truth
from sor_ppa.folder_ranking import rank_files
from sor_ppa.table_output import TableOutput, table_file
from tests.fake_model import fake_predictor

pytest.importorskip("ray", reason="needs ray")
parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
import pyarrow as pa  # noqa: E402
import ray  # noqa: E402

from sor_ppa.scale.cluster import joined_cluster  # noqa: E402
from sor_ppa.scale.evaluation import score_parquet  # noqa: E402
from sor_ppa.scale.ranking import rank_on_ray  # noqa: E402
from sor_ppa.scale.sources import find_pieces  # noqa: E402
from sor_ppa.scale.storage import Folder  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def resources():
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(address="local", num_cpus=2, object_store_memory=100 * 2**20, include_dashboard=False)
    yield ray.cluster_resources()
    ray.shutdown()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_dataset(root, SyntheticSpec({"train": 60, "val": 1, "test": 1}, (48, 64, 48, 64)))
    (root / "images/train/broken.jpg").write_text("no picture")
    return root / "images/train"


@pytest.fixture(scope="module")
def expected(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    rank_files(
        fake_predictor(), sorted(photos.iterdir()), TableOutput(folder, "parquet", "fake"), progress=False
    )
    return _rows(folder)


def _rows(folder):
    """Return the objects sorted by image and rank, and the names of all images."""
    tables = [parquet.read_table(file) for file in sorted(folder.glob("predictions*.parquet"))]
    images = [name for table in tables for name in json.loads(table.schema.metadata[b"images"])]
    rows = pa.concat_tables([table.replace_schema_metadata(None) for table in tables])
    return rows.sort_by([("image", "ascending"), ("rank", "ascending")]).to_pylist(), sorted(images)


def _run(photos, folder, resources):
    pieces, _ = find_pieces([str(photos)], 7)
    return rank_on_ray(
        fake_predictor, pieces, Folder(str(folder)), "parquet", resources, model="fake", batch_size=4
    )


def test_the_rows_are_those_of_one_process(photos, tmp_path, resources, expected):
    summary = _run(photos, tmp_path, resources)
    assert _rows(tmp_path) == expected
    assert (summary.images, summary.shards, summary.quarantined) == (60, 9, True)


def test_what_is_done_is_not_done_again(photos, tmp_path, resources, expected):
    _run(photos, tmp_path, resources)
    lost = sorted(tmp_path.glob("predictions*"))[3]
    lost.unlink()
    summary = _run(photos, tmp_path, resources)
    assert (summary.images, summary.shards_before) == (7, 8)
    assert _rows(tmp_path) == expected


def test_a_failure_is_one_line(resources):
    @ray.remote
    def fail():
        raise RuntimeError("no memory")

    found = "^--ray: a task failed: RuntimeError: no memory$"
    with pytest.raises(ValueError, match=found), joined_cluster("local"):
        ray.get(fail.remote())


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Write predictions and truth as JSON and Parquet: ties, missing and extra images, empty ones."""
    folder, generator = tmp_path_factory.mktemp("scores"), np.random.default_rng(0)

    def objects(count):
        masks = np.zeros((count, 24, 32), bool)
        for mask in masks:
            y, x = generator.integers(0, 16, 2)
            mask[y : y + 8, x : x + 12] = True
        return encode_masks(masks)

    images, annotations, found = [], [], {}
    for number in range(50):
        name = f"{number}.jpg"
        images.append({"id": name, "file_name": name, "height": 24, "width": 32})
        for rank, rle in enumerate(objects(number % 4), 1):
            annotations.append({"image_id": name, "segmentation": rle, "rank": min(rank, 2)})
        if number % 10:
            found[name] = [(rle, min(rank, 3)) for rank, rle in enumerate(objects(number % 5), 1)]
    found["extra.jpg"] = []
    (folder / "truth.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    predicted = [
        {"image_id": name, "segmentation": rle, "rank": rank, "score": 0.5}
        for name, entries in found.items()
        for rle, rank in entries
    ]
    content = {"images": list(found), "annotations": predicted}
    (folder / "found.json").write_text(json.dumps(content))
    entries = [
        {
            "file": f"some/folder/{name}",
            "height": 24,
            "width": 32,
            "objects": [
                {
                    "rank": rank,
                    "rank_score": None,
                    "score": 0.5,
                    "class": "0",
                    "box": [0, 0, 1, 1],
                    "area": 96,
                    "segmentation": rle,
                }
                for rle, rank in entries
            ],
        }
        for name, entries in found.items()
    ]
    (folder / "found").mkdir()
    for shard in range(3):
        (folder / "found" / f"{shard}.parquet").write_bytes(table_file("parquet", entries[shard::3]))
    write_truth(str(folder / "truth.json"), folder / "truth.parquet")
    return folder


@pytest.mark.parametrize("missing", ["skip", "empty"])
def test_the_means_are_those_of_one_process(scored, resources, missing):
    one = score_files(scored / "found.json", str(scored / "truth.json"), missing=missing)
    many = score_parquet(str(scored / "found"), str(scored / "truth.parquet"), resources, missing=missing)
    assert many.scorer.result() == one.scorer.result()
    assert many.counts() == one.counts()
    assert (many.images, many.scored) == (50, one.scored)
