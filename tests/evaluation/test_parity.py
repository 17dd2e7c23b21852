"""The numbers of the published implementations: every image and every aggregate of every variant."""

from __future__ import annotations

import json
import zlib

import numpy as np
import pytest

from sor_ppa.evaluation import ImageScores, RankingScorer, find_variant, paint
from tests.parity import originals_dir

from .cases import FOLDER, cases, reference

VARIANTS = [(metric, name) for metric, names in reference()["variants"].items() for name in names]
PREDICTION_PAINTERS = ("assr", "assr_ijcv", "qagnet10", "qagnet_n", "area")


@pytest.fixture(scope="module")
def images():
    return {case_id: case.image() for case_id, case in cases().items()}


@pytest.mark.parametrize(("metric", "name"), VARIANTS)
def test_every_image_equals_the_published_number(images, metric, name):
    variant = find_variant(metric, name)
    for case in cases().values():
        if metric == "sa_sor" and "iou_tie" in case.tags:
            continue
        score = variant.score(images[case.id])
        value, status = case.values[metric][name]
        if status == "error":
            assert score.status == "skipped", case.id
            assert score.reason, case.id
        else:
            assert score.status == status, case.id
            assert score.value == (None if value is None else pytest.approx(value, abs=1e-6)), case.id


@pytest.mark.parametrize("part", ["all", "core"])
def test_aggregates_equal_the_published_ones(images, part):
    scorer = RankingScorer(variants=reference()["variants"])
    for case in cases().values():
        if part == "all" or case.core:
            scorer.add_image(images[case.id])
    result = scorer.result()
    for metric, names in reference()["aggregate"][part].items():
        for name, (value, used) in names.items():
            entry = result[metric][name]
            assert entry["counted"] + entry["nan_as_0"] == used, (metric, name)
            if metric != "sa_sor" or part == "core":  # "all" contains images whose IoUs tie
                assert entry["value"] == pytest.approx(value, abs=1e-6), (metric, name)


@pytest.mark.parametrize("painter", [*PREDICTION_PAINTERS, "gt10", "gtn"])
def test_painted_maps_are_exactly_the_published_ones(painter):
    for case in cases().values():
        gt = painter.startswith("gt")
        painted = paint(case.gt if gt else case.pred, case.gt_rank if gt else case.pred_score, painter)
        assert painted.dtype == np.uint8
        assert zlib.crc32(painted.tobytes()) == case.map_crc32[painter], case.id


@pytest.mark.parametrize("painter", PREDICTION_PAINTERS)
def test_a_painted_map_scores_like_the_instances_it_was_painted_from(images, painter):
    given = "map_n" if painter == "qagnet_n" else "map"
    for case in cases().values():
        gray = paint(case.pred, case.pred_score, painter)
        on_map = ImageScores.from_map(case.gt, case.gt_rank, gray)
        for metric, rule in (("sor", "assr"), ("sor", "ijcv"), ("sa_sor", "sr_old"), ("mae", "assr")):
            expected = find_variant(metric, f"{rule}@{painter}").score(images[case.id])
            assert find_variant(metric, f"{rule}@{given}").score(on_map) == expected, case.id


def test_the_copy_in_the_project_is_the_fixture():
    folder = originals_dir("metrics")
    assert (folder / "cases.npz").read_bytes() == (FOLDER / "cases.npz").read_bytes()
    published = json.loads((folder / "reference_values.json").read_text())
    for case in cases().values():
        for metric, names in published["per_image"][case.id].items():
            for name, (value, status) in names.items():
                ours = case.values[metric][name]
                assert ours[1] == status
                assert status != "counted" or ours[0] == pytest.approx(value, abs=1e-9)
