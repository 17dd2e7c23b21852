"""The detectron2 evaluator, fed with instances as models give them."""

from __future__ import annotations

import csv
import json
import logging
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog

from sor_ppa.evaluation import RankingScorer, SOREvaluator
from sor_ppa.evaluation.ground_truth import truth_from_dict

from .scenes import SIZE, dataset, instances, predictions

NAME = "evaluator_scenes"


@pytest.fixture(autouse=True)
def _registered():
    DatasetCatalog.register(NAME, dataset)
    yield
    DatasetCatalog.remove(NAME)


def evaluate(fake=predictions, records=None, **options):
    evaluator = SOREvaluator(NAME, **options)
    evaluator.reset()
    for record in dataset() if records is None else records:
        evaluator.process([record], [{"instances": fake(record)}])
    return evaluator.evaluate()


def nothing(record):
    return instances([], [])


def reversed_order(record):
    found = predictions(record)
    ranked = found.pred_ranks >= 0
    found.pred_ranks = torch.where(ranked, 9 - found.pred_ranks, -1)
    found.pred_rank_scores = -found.pred_rank_scores
    return found


def test_right_order_is_perfect_and_reversed_order_is_not():
    assert evaluate()["sor"]["SA-SOR"] == pytest.approx(1)
    assert evaluate(reversed_order)["sor"]["SA-SOR"] == pytest.approx(-1)


def test_the_values_are_those_of_the_scorer_on_arrays():
    results = evaluate(iou_types=(), metrics="all")
    scorer = RankingScorer("all")
    for record in dataset():
        truth, found = truth_from_dict(record), predictions(record)
        kept = (found.pred_ranks >= 0).numpy()
        masks, scores = found.pred_masks.numpy()[kept], found.pred_ranks.numpy()[kept]
        scorer.add(truth.ranked_masks(), truth.dense_ranks, masks, scores)
    expected = scorer.result()
    assert results["sor"]["SA-SOR"] == expected["sa_sor"]["irsr"]["value"]
    assert results["sor"]["SOR"] == expected["sor"]["assr@assr"]["value"]
    assert results["sor"]["SOR-images"] == expected["sor"]["assr@assr"]["counted"]
    assert results["sor"]["MAE"] == expected["mae"]["assr@assr"]["value"]
    assert results["sor"]["nDCG"] == expected["ndcg"]["ijcv_lin@assr_ijcv"]["value"]


def test_average_precision_in_percent_ignores_crowds():
    results = evaluate(lambda record: predictions({**record, "image_id": 0}))  # no false positives
    assert results["bbox"]["AP"] == pytest.approx(100)
    assert results["segm"]["AP50"] == pytest.approx(100)


def test_masks_are_ordered_by_their_own_scores():
    def doubtful(record):
        found = predictions(record)
        false = found.pred_ranks < 0
        found.mask_scores = torch.where(false, 0.99, 0.1)
        return found

    results = evaluate(doubtful)
    assert results["segm"]["AP50"] < results["bbox"]["AP50"]


def test_other_variants_are_named():
    results = evaluate(metrics=["sa_sor", "sa_sor:seqrank", "sor:psr"], iou_types=())
    assert {"SA-SOR[seqrank]", "SOR[psr@area]", "SOR[psr@area]-images"} <= set(results["sor"])
    assert "MAE" not in results["sor"]


def test_no_predictions_at_all():
    results = evaluate(nothing)
    assert results["sor"]["SA-SOR"] == 0
    assert math.isnan(results["sor"]["SOR"])
    assert results["sor"]["SOR-images"] == 0
    assert results["bbox"]["AP"] == results["segm"]["AP"] == 0


def test_only_ranked_predictions_count_unless_another_field_orders_them():
    def unranked(record):
        found = predictions(record, ranked=False)
        found.pred_rank_scores = torch.arange(len(found), 0, -1).float()
        return found

    assert evaluate(unranked)["sor"]["SA-SOR"] == 0
    assert evaluate(unranked, rank_field="pred_rank_scores")["sor"]["SA-SOR"] == pytest.approx(1)


def test_shuffled_ranks_are_far_from_perfect_and_the_same_every_time():
    first, second = evaluate(iou_types=()), evaluate(iou_types=())
    assert first == second
    assert abs(first["sor"]["SA-SOR-shuffled"]) < 0.7
    assert first["sor"]["SOR-shuffled"] < 1


def test_an_image_that_comes_twice_counts_once():
    once, twice = evaluate(records=dataset()), evaluate(records=dataset() * 2)
    for task, values in once.items():
        assert twice[task] == pytest.approx(values, nan_ok=True)


@pytest.mark.parametrize(("count", "message"), [(0, "no image was"), (3, "only 3 of 7 images were")])
def test_a_partial_run_is_announced(caplog, count, message):
    with caplog.at_level(logging.WARNING):
        evaluate(records=dataset()[:count])
    assert f"{message} evaluated" in caplog.text


def test_saliency_measures_of_the_painted_or_given_map():
    painted = evaluate(saliency=True, iou_types=())["saliency"]
    evaluator = SOREvaluator(NAME, saliency=True, iou_types=())
    evaluator.reset()
    for record in dataset():
        union = torch.zeros(SIZE)
        for mask in predictions(record).pred_masks[predictions(record).pred_ranks >= 0]:
            union[mask] = 1.0
        evaluator.process([record], [{"instances": predictions(record), "saliency": union}])
    given = evaluator.evaluate()["saliency"]
    assert given["mae"] == 0
    assert 0 < painted["mae"] < 0.2


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
    from sor_ppa.evaluation.command import score_files

    results = evaluate(output_dir=tmp_path)
    records = dataset()
    (tmp_path / "truth.json").write_text(json.dumps(records))
    outcome = score_files(tmp_path / "sor_instances_results.json", str(tmp_path / "truth.json"))
    assert outcome.rank_by == "rank"
    again = outcome.scorer.result()
    assert again["sa_sor"]["irsr"]["value"] == results["sor"]["SA-SOR"]
    assert again["mae"]["assr@assr"]["value"] == results["sor"]["MAE"]


def test_the_log_names_the_worst_images_and_the_chance_level(caplog):
    with caplog.at_level(logging.INFO):
        evaluate(reversed_order)
    assert "Worst images by SA-SOR (irsr):" in caplog.text
    assert "images/003.jpg" in caplog.text
    assert "ranks shuffled (10 times): SA-SOR-shuffled" in caplog.text


def test_an_image_of_another_data_set_is_refused():
    with pytest.raises(ValueError, match="image_id: expected one of dataset 'evaluator_scenes', found 99"):
        evaluate(records=[{**dataset()[0], "image_id": 99}])


def test_a_missing_field_is_named():
    def detector(record):
        found = predictions(record)
        found.remove("pred_ranks")
        return found

    with pytest.raises(ValueError, match=r"images/000.jpg: expected predictions with the field 'pred_ranks'"):
        evaluate(detector)


def test_masks_of_another_size_are_refused():
    def small(record):
        found = instances([[1, 1, 5, 5]], [0])
        found.pred_masks = found.pred_masks[:, :30]
        return found

    with pytest.raises(ValueError, match=r"expected predicted masks of size \(60, 80\), found \(30, 80\)"):
        evaluate(small)


def test_an_unknown_kind_of_iou_is_refused():
    with pytest.raises(ValueError, match="iou_types: expected bbox, segm"):
        SOREvaluator(NAME, iou_types=["box"])


def test_maps_of_ppa_are_painted_by_label():
    def gaps(record):
        found = predictions(record)
        found.pred_ranks = torch.where(found.pred_ranks == 3, 1, found.pred_ranks)
        found.pred_rank_scores = -found.pred_rank_scores
        return found

    options = {"metrics": ["mae:ppa", "sor:ppa@ppa", "mae"], "iou_types": ()}
    by_label, by_place = evaluate(**options)["sor"], evaluate(gaps, **options)["sor"]
    assert by_label["MAE[ppa@ppa]"] < by_place["MAE[ppa@ppa]"]
    again = evaluate(gaps, **options, rank_field="pred_rank_scores")["sor"]
    assert again["MAE[ppa@ppa]"] == by_place["MAE[ppa@ppa]"]


def test_two_processes_give_the_numbers_of_one(tmp_path):
    root = Path(__file__).resolve().parents[2]

    def start(rank, world):
        command = [sys.executable, "-m", "tests.evaluation.gather", str(rank), str(world), str(tmp_path)]
        return subprocess.Popen(command, cwd=root)

    jobs = [start(0, 1), start(0, 2), start(1, 2)]
    assert [job.wait(timeout=600) for job in jobs] == [0, 0, 0]
    one = json.loads((tmp_path / "results-1-0.json").read_text())
    two = json.loads((tmp_path / "results-2-0.json").read_text())
    assert json.loads((tmp_path / "results-2-1.json").read_text()) == {}
    assert two["sor"] == one["sor"]
    for name in ("bbox", "segm", "saliency"):
        assert np.array_equal(list(two[name].values()), list(one[name].values()), equal_nan=True)
    for file in ("sor_per_image.csv", "sor_instances_results.json"):
        assert (tmp_path / "out1" / file).read_bytes() == (tmp_path / "out2" / file).read_bytes()
