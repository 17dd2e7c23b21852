"""Averages over images."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from sor_ppa.evaluation import ImageScores, RankingScorer, Score
from sor_ppa.evaluation.score import ScoreMean

from .cases import boxes

TWO = boxes((1, 1, 9, 9), (12, 2, 20, 12))


def _mean(scores):
    mean = ScoreMean()
    for score in scores:
        mean.add(score)
    return mean.result()


def test_the_mean_counts_what_the_definition_counts():
    scores = [Score(1.0, "counted", ""), Score(None, "nan_as_0", "x"), Score(None, "skipped", "y")]
    counts = {"counted": 1, "nan_as_0": 1, "skipped": 1, "images": 3}
    assert _mean(scores) == {"value": 0.5, **counts, "reasons": {"x": 1, "y": 1}}


def test_the_sum_is_exact():
    values = [1e100, 1.0, -1e100, 1e-3]
    assert _mean([Score(value, "counted", "") for value in values])["value"] == 1.001 / 4


@pytest.mark.parametrize(
    ("metrics", "variants", "names"),
    [
        (None, None, {"sa_sor": ["irsr"], "sor": ["assr@assr"], "mae": ["assr@assr"]}),
        (["sor:psr", "mae"], None, {"sor": ["psr"], "mae": ["assr@assr"]}),
        (None, {"sor": "psr"}, {"sor": ["psr"]}),
        (["mae"], {"sor": ["psr", "assr"]}, {"mae": ["assr@assr"], "sor": ["psr", "assr"]}),
        (["sa_sor", "sor"], ["seqrank"], {"sa_sor": ["seqrank"], "sor": ["seqrank"]}),
        (["sa_sor", "sor"], ["irsr", "sor:ijcv"], {"sa_sor": ["irsr"], "sor": ["ijcv"]}),
        ("ndcg", None, {"ndcg": ["ijcv_lin@assr_ijcv"]}),
    ],
)
def test_how_variants_are_chosen(metrics, variants, names):
    assert RankingScorer(metrics, variants).names() == names


@pytest.mark.parametrize(
    ("metrics", "variants", "on_map", "message"),
    [
        (["sasor"], None, False, "metric: expected one of sa_sor, sor"),
        (["sor"], ["irsr"], False, "variant: expected a name that a chosen metric knows"),
        (["sor"], {"mad": ["x"]}, False, "metric: expected one of"),
        (["sor:irsr"], None, False, "variant: expected for sor one of"),
        (["f_measure"], None, True, "f_measure is not defined on painted maps"),
    ],
)
def test_unknown_names_are_refused(metrics, variants, on_map, message):
    with pytest.raises(ValueError, match=message):
        RankingScorer(metrics, variants, on_map=on_map)


def test_the_state_survives_json_and_pickle():
    scorer = RankingScorer("all", "all")
    scorer.add(TWO, [0, 1], TWO, [0.1, 0.9], pred_confidences=[1, 1])
    assert RankingScorer.from_state(json.loads(json.dumps(scorer.state()))).result() == scorer.result()
    assert pickle.loads(pickle.dumps(scorer)).result() == scorer.result()


def test_scorers_of_other_variants_do_not_merge():
    with pytest.raises(ValueError, match="merge: expected a scorer of"):
        RankingScorer(["sor"]).merge(RankingScorer(["mae"]))


def test_painted_maps_are_scored_by_the_rules_on_maps():
    scorer = RankingScorer(["sor", "mae"], on_map=True)
    gray = np.where(TWO[1], 255, np.where(TWO[0], 100, 0)).astype(np.uint8)
    scores = scorer.add_map(TWO, [0, 1], gray)
    assert scores["sor"]["assr@map"].value == pytest.approx(1)
    assert list(scores["mae"]) == ["assr@map"]


def test_rules_on_instances_are_refused_on_maps():
    with pytest.raises(ValueError, match="'irsr' is not defined on a painted map"):
        RankingScorer(["sa_sor:irsr"], on_map=True).add_map(TWO, [0, 1], np.zeros((24, 32), np.uint8))


def test_bad_maps_are_refused():
    with pytest.raises(ValueError, match="saliency_map: expected the size of gt_masks, 24 x 32"):
        ImageScores.from_map(TWO, [0, 1], np.zeros((24, 31), np.uint8))
    with pytest.raises(ValueError, match="saliency_map: expected a uint8 map"):
        ImageScores.from_map(TWO, [0, 1], np.zeros((24, 32), float))


@pytest.mark.parametrize(
    ("size", "counts", "message"),
    [
        ([24, 31], [744], "the size of the image, 24 x 32"),
        ([24, 32], [700], "runs over .* found runs over 700"),
    ],
)
def test_bad_run_lengths_are_refused(size, counts, message):
    with pytest.raises(ValueError, match=rf"pred_rles\[0\]: expected {message}"):
        RankingScorer().add_rles([], [], [{"size": size, "counts": counts}], [1.0], (24, 32))
