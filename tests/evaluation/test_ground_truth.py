"""Ground truth of one image."""

from __future__ import annotations

import math

import pytest

from sor_ppa.evaluation.ground_truth import by_image_id, truth_from_dict

from .scenes import SIZE, dataset


def test_unranked_ground_truth_does_not_rank():
    truth = truth_from_dict(dataset()[4])
    assert truth.ranks.tolist() == [4, 3, 2, -1]
    assert truth.dense_ranks.tolist() == [2, 1, 0]
    assert len(truth.ranked_rles) == 3
    assert truth.crowd.tolist() == [False, False, False, True]


NAN, FAR = [[1, None, 50, 1, 50, 50]], [[0, 0, 170, 0, 10, 10]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"segmentation": NAN},
            "annotation 0: segmentation: expected points in or near the image",
        ),
        (
            {"segmentation": FAR},
            "expected points in or near the image, found 170",
        ),
        ({"segmentation": [[0, 0, 80, 60, 0, 60] * 9000]}, "expected outlines of at most 140000 pixels"),
        ({"bbox": [1, 2, math.nan, 4]}, "annotation 0: bbox: expected 4 numbers"),
        ({"bbox": [1, 2, 1e9, 4]}, "annotation 0: bbox: expected a box in or near the image"),
        (
            {"segmentation": [[1, 1, 2, 2]]},
            "annotation 0: segmentation: expected polygons of at least 3 points",
        ),
        ({"segmentation": []}, "annotation 0: expected a segmentation, found none"),
        (
            {"segmentation": {"size": [1, 2], "counts": "x"}},
            r"annotation 0: segmentation: expected RLE with size",
        ),
        (
            {"segmentation": {"size": list(SIZE), "counts": [4]}},
            "annotation 0: segmentation: expected runs that sum to 4800, found 4",
        ),
        ({"bbox": [1, 2, 3]}, "annotation 0: bbox: expected 4 numbers, found"),
        ({"bbox_mode": 7}, "annotation 0: bbox_mode: expected"),
    ],
)
def test_bad_ground_truth_is_named(change, message):
    record = dataset()[1]
    record["annotations"][0].update(change)
    with pytest.raises(ValueError, match=message):
        truth_from_dict(record)


def test_an_image_id_that_occurs_twice_is_refused_with_both_names():
    records = [{"image_id": 1, "file_name": name} for name in ("a.jpg", "b.jpg")]
    with pytest.raises(ValueError, match="image_id 1: expected once, found for a.jpg and b.jpg"):
        by_image_id(records)
