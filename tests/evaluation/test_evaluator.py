"""The detectron2 evaluators, fed with outputs as models give them."""

from __future__ import annotations

import csv
import json
import logging
import math
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog

from sor_ppa.evaluation import RankingScorer, SOREvaluator
from sor_ppa.evaluation.command import score_files
from sor_ppa.evaluation.evaluator import SODEvaluator
from sor_ppa.evaluation.ground_truth import truth_from_dict

from .scenes import dataset, instances, predictions

NAME = "evaluator_scenes"


@pytest.fixture(autouse=True)
def _registered():
    DatasetCatalog.register(NAME, dataset)
    yield
    DatasetCatalog.remove(NAME)


def evaluate(fake=predictions, records=None, output=None, **options):
    evaluator = SOREvaluator(NAME, **options)
    evaluator.reset()
    for record in dataset() if records is None else records:
        evaluator.process([record], [{"instances": fake(record), **(output(record) if output else {})}])
    return evaluator.evaluate()


def changed(**changes):
    """Predictions with fields computed from them."""

    def fake(record):
        found = predictions(record)
        for name, change in changes.items():
            found.set(name, change(found))
        return found

    return fake


reverse = changed(pred_ranks=lambda found: torch.where(found.pred_ranks >= 0, 9 - found.pred_ranks, -1))


def test_right_order_is_perfect_and_reversed_order_is_not():
    assert evaluate()["sor"]["SA-SOR"] == pytest.approx(1)
    assert evaluate(reverse)["sor"]["SA-SOR"] == pytest.approx(-1)


def test_the_values_are_those_of_the_scorer_on_arrays():
    results = evaluate(iou_types=(), metrics="all")["sor"]
    scorer = RankingScorer("all")
    for record in dataset():
        truth, found = truth_from_dict(record), predictions(record)
        kept = (found.pred_ranks >= 0).numpy()
        masks, scores = found.pred_masks.numpy()[kept], found.pred_ranks.numpy()[kept]
        scorer.add(truth.ranked_masks(), truth.dense_ranks, masks, scores)
    expected = scorer.result()
    assert results["SA-SOR"] == expected["sa_sor"]["irsr"]["value"]
    assert results["SOR"] == expected["sor"]["assr@assr"]["value"]
    assert results["SOR-images"] == expected["sor"]["assr@assr"]["counted"]
    assert results["MAE"] == expected["mae"]["assr@assr"]["value"]
    assert results["nDCG"] == expected["ndcg"]["ijcv_lin@assr_ijcv"]["value"]


@pytest.mark.parametrize("painter", ["assr", "ppa"])
def test_rank_maps_have_the_scores_of_the_instances(tmp_path, painter):
    metrics = [f"sor:assr@{painter}", f"mae:{painter}" if painter == "ppa" else "mae"]
    results = evaluate(output_dir=tmp_path, metrics=metrics, rank_maps=painter, iou_types=())["sor"]
    found = score_files(tmp_path / "rank_maps", NAME).scorer.result()
    assert found["sor"]["assr@map"]["value"] == pytest.approx(
        results["SOR" if painter == "assr" else "SOR[assr@ppa]"]
    )
    mae = results["MAE" if painter == "assr" else "MAE[ppa@ppa]"]
    assert found["mae"]["assr@map"]["value"] == pytest.approx(mae)


def test_average_precision_in_percent_ignores_crowds():
    results = evaluate(lambda record: predictions({**record, "image_id": 0}))  # no false positives
    assert results["bbox"]["AP"] == pytest.approx(100)
    assert results["segm"]["AP50"] == pytest.approx(100)


def test_masks_are_ordered_by_their_own_scores():
    results = evaluate(changed(mask_scores=lambda found: torch.where(found.pred_ranks < 0, 0.99, 0.1)))
    assert results["segm"]["AP50"] < results["bbox"]["AP50"]


def test_other_variants_are_named():
    results = evaluate(metrics=["sa_sor", "sa_sor:seqrank", "sor:psr"], iou_types=())
    assert {"SA-SOR[seqrank]", "SOR[psr@area]", "SOR[psr@area]-images"} <= set(results["sor"])
    assert "MAE" not in results["sor"]


def test_no_predictions_at_all():
    results = evaluate(lambda record: instances([], []))
    assert results["sor"]["SA-SOR"] == 0
    assert math.isnan(results["sor"]["SOR"])
    assert results["sor"]["SOR-images"] == 0
    assert results["bbox"]["AP"] == results["segm"]["AP"] == 0


def test_only_ranked_predictions_count_unless_another_field_orders_them():
    unranked = changed(
        pred_rank_scores=lambda found: torch.arange(len(found), 0, -1).float(),
        pred_ranks=lambda found: torch.full_like(found.pred_ranks, -1),
    )
    assert evaluate(unranked)["sor"]["SA-SOR"] == 0
    assert evaluate(unranked, rank_field="pred_rank_scores")["sor"]["SA-SOR"] == pytest.approx(1)


def test_shuffled_ranks_are_far_from_perfect_and_the_same_every_time():
    first, second = evaluate(iou_types=()), evaluate(iou_types=())
    assert first == second
    assert abs(first["sor"]["SA-SOR-shuffled"]) < 0.7
    assert first["sor"]["SOR-shuffled"] < 1


@pytest.mark.parametrize("count", [0, 3])
def test_a_partial_run_is_announced(caplog, count):
    with caplog.at_level(logging.WARNING):
        evaluate(records=dataset()[:count])
    assert f"only {count} of 7 images were evaluated" in caplog.text


def test_saliency_measures_of_the_painted_or_given_map():
    def union(record):
        found = predictions(record)
        return {"saliency": found.pred_masks[found.pred_ranks >= 0].any(dim=0).float()}

    painted = evaluate(saliency=True, iou_types=())["saliency"]
    assert 0 < painted["mae"] < 0.2
    assert evaluate(saliency=True, iou_types=(), output=union)["saliency"]["mae"] == 0


def test_the_written_files(tmp_path):
    results = evaluate(output_dir=tmp_path)
    content = json.loads((tmp_path / "sor_metrics.json").read_text())
    assert content["results"]["sor"]["SA-SOR"] == results["sor"]["SA-SOR"]
    assert content["variants"]["sor"]["assr@assr"]["counted"] == results["sor"]["SOR-images"]
    rows = list(csv.DictReader((tmp_path / "sor_per_image.csv").open()))
    assert [row["file_name"] for row in rows] == [record["file_name"] for record in dataset()]
    assert rows[0]["sa_sor:irsr status"] == "skipped: no ground truth"
    assert float(rows[3]["sa_sor:irsr"]) == pytest.approx(1)
    found = json.loads((tmp_path / "sor_instances_results.json").read_text())
    third = [entry for entry in found if entry["image_id"] == 3]
    assert [entry["rank"] for entry in third] == [1, 2, 3, None]
    assert third[0]["rank_score"] > third[1]["rank_score"]
    assert [entry["rank_label"] for entry in third] == [4, 3, 2, -1]


def test_the_written_predictions_can_be_scored_by_the_command(tmp_path):
    results = evaluate(output_dir=tmp_path)
    (tmp_path / "truth.json").write_text(json.dumps(dataset()))
    outcome = score_files(tmp_path / "sor_instances_results.json", str(tmp_path / "truth.json"))
    assert outcome.rank_by == "rank"
    again = outcome.scorer.result()
    assert again["sa_sor"]["irsr"]["value"] == results["sor"]["SA-SOR"]
    assert again["mae"]["assr@assr"]["value"] == results["sor"]["MAE"]


def test_the_log_names_the_worst_images_and_the_chance_level(caplog):
    with caplog.at_level(logging.INFO):
        evaluate(reverse)
    assert "Worst images by SA-SOR (irsr):" in caplog.text
    assert "images/003.jpg" in caplog.text
    assert "ranks shuffled (10 times): SA-SOR-shuffled" in caplog.text


def without_ranks(record):
    found = predictions(record)
    found.remove("pred_ranks")
    return found


def small_masks(record):
    found = instances([[1, 1, 5, 5]], [0])
    found.pred_masks = found.pred_masks[:, :30]
    return found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"records": [{"image_id": 99}]}, "image_id: expected one of dataset 'evaluator_scenes', found 99"),
        ({"fake": without_ranks}, "images/000.jpg: expected predictions with the field 'pred_ranks'"),
        ({"fake": small_masks}, r"expected predicted masks of size \(60, 80\), found \(30, 80\)"),
        ({"iou_types": ["box"]}, "iou_types: expected bbox, segm"),
    ],
)
def test_unusable_input_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(**{"fake": lambda record: instances([], []), **options})


def test_maps_of_ppa_are_painted_by_label():
    gaps = changed(
        pred_ranks=lambda found: torch.where(found.pred_ranks == 3, 1, found.pred_ranks),
        pred_rank_scores=lambda found: -found.pred_rank_scores,
    )
    options = {"metrics": ["mae:ppa", "sor:ppa@ppa", "mae"], "iou_types": ()}
    by_label, by_place = evaluate(**options)["sor"], evaluate(gaps, **options)["sor"]
    assert by_label["MAE[ppa@ppa]"] < by_place["MAE[ppa@ppa]"]
    again = evaluate(gaps, **options, rank_field="pred_rank_scores")["sor"]
    assert again["MAE[ppa@ppa]"] == by_place["MAE[ppa@ppa]"]


def test_two_processes_give_the_numbers_of_one(tmp_path):
    def start(rank, world):
        command = [sys.executable, "-m", "tests.evaluation.gather", str(rank), str(world), str(tmp_path)]
        return subprocess.Popen(command, cwd=Path(__file__).resolve().parents[2])

    jobs = [start(0, 1), start(0, 2), start(1, 2)]
    assert [job.wait(timeout=600) for job in jobs] == [0, 0, 0]
    one, two, other = (
        json.loads((tmp_path / f"results-{name}.json").read_text()) for name in ("1-0", "2-0", "2-1")
    )
    assert other == {}
    assert two["sor"] == one["sor"]
    for name in ("bbox", "segm", "saliency"):
        assert np.array_equal(list(two[name].values()), list(one[name].values()), equal_nan=True)
    for file in ("sor_per_image.csv", "sor_instances_results.json"):
        assert (tmp_path / "out1" / file).read_bytes() == (tmp_path / "out2" / file).read_bytes()


@pytest.fixture
def saliency_input(tmp_path):
    """The input of one image whose mask (100, 90) is a disc."""
    y, x = np.mgrid[:100, :90]
    cv2.imwrite(str(tmp_path / "a.png"), np.uint8(255) * ((y - 50) ** 2 + (x - 45) ** 2 < 1600))
    return {"image_id": 0, "file_name": "a.jpg", "mask_file_name": str(tmp_path / "a.png")}


def test_saliency_maps_are_scored_and_written(tmp_path, saliency_input):
    evaluator = SODEvaluator("set", output_dir=tmp_path / "out", distributed=False)
    evaluator.reset()
    mask = cv2.imread(saliency_input["mask_file_name"], cv2.IMREAD_GRAYSCALE)
    evaluator.process([saliency_input], [{"saliency": torch.from_numpy(mask / 255)}])
    values = evaluator.evaluate()["saliency"]
    assert (values["mae"], values["mba"]) == (0, 1)
    assert values["s_measure"] > 0.99
    assert json.loads((tmp_path / "out" / "sod_metrics.json").read_text())["images"] == 1
    assert np.array_equal(cv2.imread(str(tmp_path / "out" / "maps" / "a.png"), cv2.IMREAD_GRAYSCALE), mask)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ({"saliency": torch.zeros(6, 5)}, r"a\.jpg: expected a map of size \(100, 90\), found \(6, 5\)"),
        ({}, r"a\.jpg: expected the output saliency"),
    ],
)
def test_outputs_that_are_no_saliency_map_are_refused(saliency_input, output, message):
    with pytest.raises(ValueError, match=message):
        SODEvaluator("set", distributed=False).process([saliency_input], [output])
