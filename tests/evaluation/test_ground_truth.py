"""Ground truth of one image."""

from __future__ import annotations

import math

import pytest

from sor_ppa.data.builtin import FORMATS
from sor_ppa.data.export import write_records
from sor_ppa.data.record import to_detectron2
from sor_ppa.evaluation.ground_truth import by_image_id, read_truth, truth_from_dict
from tests.data.folders import edit, make_assr_folder, make_irsr_folder

from .scenes import dataset


def test_unranked_ground_truth_does_not_rank():
    truth = truth_from_dict(dataset()[4])
    assert truth.ranks.tolist() == [4, 3, 2, -1]
    assert truth.dense_ranks.tolist() == [2, 1, 0]
    assert len(truth.ranked_rles) == 3
    assert truth.crowd.tolist() == [False, False, False, True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segmentation": [[1, None, 50, 1, 50, 50]]}, r"segmentation\[0\]: expected finite numbers"),
        ({"segmentation": []}, "segmentation: expected a usable polygon, found none"),
        ({"segmentation": {"size": [1, 2], "counts": "x"}}, "expected the size of the image, 60 x 80"),
        ({"segmentation": {"size": [60, 80], "counts": [4]}}, "found runs over 4"),
        ({"bbox": [1, 2, math.nan, 4]}, "bbox: expected 4 numbers"),
        ({"bbox_mode": 7}, "bbox: expected 4 numbers with bbox_mode XYXY_ABS"),
    ],
)
def test_bad_ground_truth_is_named(change, message):
    record = dataset()[1]
    record["annotations"][0].update(change)
    with pytest.raises(ValueError, match=rf"images/001.jpg: annotation 0: .*{message}"):
        truth_from_dict(record)


def test_an_image_id_that_occurs_twice_is_refused_with_both_names():
    records = [{"image_id": 1, "file_name": name} for name in ("a.jpg", "b.jpg")]
    with pytest.raises(ValueError, match="image_id 1: expected once, found for a.jpg and b.jpg"):
        by_image_id(records)


def lower_first(content):
    """Write the ranks of a COCO file from 1 = most salient."""
    content["info"]["rank_order"] = "lower is more salient"
    for item in content["annotations"]:
        item["rank"] = 9 - item["rank"]


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize(("kind", "make"), [("assr", make_assr_folder), ("irsr", make_irsr_folder)])
def test_a_converted_dataset_has_the_same_ranks_as_a_file_and_as_a_dataset(tmp_path, kind, make, lower):
    write_records(FORMATS[kind].read(make(tmp_path / "here"), "train"), tmp_path, "coco", "train")
    file = tmp_path / "annotations" / "rank_train.json"
    if lower:
        edit(file, lower_first)
    by_name = [to_detectron2(record) for record in FORMATS["coco"].read(tmp_path, "train")]
    truths = [list(map(truth_from_dict, records)) for records in (read_truth(str(file)), by_name)]
    for one, other in zip(*truths, strict=True):
        assert one.dense_ranks.tolist() == other.dense_ranks.tolist()
        assert lower or one.ranks.tolist() == other.ranks.tolist()


def test_an_unknown_rank_order_is_named(tmp_path):
    (tmp_path / "a.json").write_text('{"info": {"rank_order": "up"}, "images": [], "annotations": []}')
    with pytest.raises(ValueError, match=r"a\.json: field info\.rank_order: expected .*, found 'up'"):
        read_truth(str(tmp_path / "a.json"))
