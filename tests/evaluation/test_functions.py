"""What the functions promise beyond the reference numbers: edge cases, ties, bad input."""

from __future__ import annotations

import numpy as np
import pytest

import sor_ppa.evaluation as evaluation
from sor_ppa.evaluation import DEFAULTS, PUBLISHED, describe, mae, sa_sor, sor

from .cases import boxes, cases, reference

FUNCTIONS = {metric: getattr(evaluation, metric) for metric in PUBLISHED}
THREE = boxes((1, 1, 9, 9), (12, 2, 20, 12), (5, 20, 15, 30))
RANKS = [2, 0, 1]
ALL = [(metric, name) for metric, names in PUBLISHED.items() for name in names]


@pytest.mark.parametrize("metric", reference()["variants"])
def test_functions_give_the_reference_value(metric):
    case = cases()["c016"]
    arguments = (case.gt, case.gt_rank, case.pred, case.pred_score)
    for name, (value, _) in case.values[metric].items():
        score = FUNCTIONS[metric](*arguments, pred_confidences=case.pred_confidence, variant=name)
        assert score.value == (None if value is None else pytest.approx(value, abs=1e-6))


def test_defaults_are_the_recommended_variants():
    arguments = (THREE, RANKS, THREE[::-1], [0.5, 0.1, 0.9])
    for metric, name in DEFAULTS.items():
        assert FUNCTIONS[metric](*arguments) == FUNCTIONS[metric](*arguments, variant=name)


def test_the_description_of_a_variant_contains_the_rule_that_it_differs_from():
    rule = describe("sa_sor", "irsr").split(" Source")[0].partition(": ")[2]
    assert describe("sa_sor", "psr_iou0.1").startswith("sa_sor psr_iou0.1: As `irsr`. The IoU")
    assert rule in describe("sa_sor", "psr_iou0.1")


@pytest.mark.parametrize(("n_gt", "n_pred"), [(0, 0), (0, 3), (3, 0), (1, 0), (1, 1), (1, 3), (3, 1)])
def test_every_variant_is_defined_for_every_count(n_gt, n_pred):
    arguments = (THREE[:n_gt], list(range(n_gt)), THREE[:n_pred], np.arange(n_pred) / 4)
    for metric, name in ALL:
        score = FUNCTIONS[metric](*arguments, pred_confidences=np.full(n_pred, 0.9), variant=name)
        assert (score.value is not None) == (score.status == "counted"), name
        assert bool(score.reason) == (score.status != "counted"), name


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
def test_the_type_of_binary_masks_does_not_matter(dtype):
    expected = sor(THREE, RANKS, THREE, [0.2, 0.9, 0.5])
    assert sor(THREE.astype(dtype), RANKS, THREE.astype(dtype), [0.2, 0.9, 0.5]) == expected


def test_strided_masks_are_read_correctly():
    strided, arguments = np.repeat(THREE, 2, axis=2)[:, :, ::2], (RANKS, THREE[::-1], [1, 0, 2])
    assert sa_sor(strided, *arguments) == sa_sor(THREE, *arguments)


def test_an_empty_list_means_no_masks():
    assert sa_sor(THREE, RANKS, [], []).value == 0
    assert mae([], [], THREE, [1, 2, 3]).status == "counted"


@pytest.mark.parametrize("scores", [[0.1, 0.2, 0.3, 0.9], [0.9, 0.2, 0.3, 0.1]])
def test_equal_ious_go_to_the_more_salient_prediction(scores):
    twice = np.concatenate([THREE, THREE[:1]])
    assert sa_sor(THREE, [0, 1, 2], twice, scores).value == pytest.approx(-0.5)


@pytest.mark.parametrize("ranks", [[2, 1, 0], [1, 2, 0]])
def test_a_shared_prediction_goes_to_the_more_salient_of_equal_objects(ranks):
    gt = boxes((0, 0, 8, 8), (0, 8, 8, 16), (12, 20, 20, 30))
    merged = np.concatenate([gt[:1] | gt[1:2], gt[2:]])
    assert sa_sor(gt, ranks, merged, [0.9, 0.1]).value == pytest.approx(0.5)


def test_confidence_variants_need_confidences():
    with pytest.raises(ValueError, match="pred_confidences: expected for"):
        sa_sor(THREE, RANKS, THREE, [1, 2, 3], variant="irsr_conf0.6")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gt_masks": THREE[0]}, r"gt_masks: expected masks of shape \(N, H, W\)"),
        ({"gt_masks": THREE[:, :0]}, r"gt_masks: expected masks of shape \(N, H, W\) with pixels"),
        ({"pred_masks": THREE[:, :-1]}, "pred_masks: expected the size of gt_masks, 24 x 32"),
        ({"pred_masks": THREE.astype(int)}, "pred_masks: expected masks of type bool, uint8 or float"),
        ({"pred_masks": THREE * np.uint8(255)}, "pred_masks: expected uint8 masks that hold 0 and 1"),
        ({"pred_masks": THREE * 1.5}, r"pred_masks: expected mask values in \[0, 1\], found 0 to 1.5"),
        ({"pred_masks": np.where(THREE, np.nan, 0.0)}, "pred_masks: .* found nan"),
        ({"gt_ranks": [0, 1]}, "gt_ranks: expected 3 numbers"),
        ({"gt_ranks": [0, 1, 3]}, "gt_ranks: expected dense integers from 0"),
        ({"gt_ranks": [0, 0.5, 1]}, "gt_ranks: expected dense integers from 0"),
        ({"gt_ranks": ["a", "b", "c"]}, "gt_ranks: expected numbers"),
        ({"pred_scores": [1, 2]}, "pred_scores: expected 3 numbers"),
        ({"pred_scores": [1, 2, np.nan]}, "pred_scores: expected finite numbers"),
        ({"gt_masks": [], "pred_masks": []}, r"expected one with a shape \(N, H, W\)"),
    ],
)
def test_bad_input_is_refused_in_one_line(changes, message):
    arguments = {"gt_masks": THREE, "gt_ranks": RANKS, "pred_masks": THREE, "pred_scores": [1, 2, 3]}
    with pytest.raises(ValueError, match=message) as error:
        sor(**(arguments | changes))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["nonsense", "irsr@assr", "assr@", "assr@nowhere", "assr@gt10", "@assr", ""])
def test_unknown_variants_are_refused_with_the_known_ones(name):
    metric = "sa_sor" if name.startswith("irsr") else "sor"
    with pytest.raises(ValueError, match=r"variant: expected for .* one of .*seqrank"):
        FUNCTIONS[metric](THREE, RANKS, THREE, [1, 2, 3], variant=name)


def test_map_variants_are_refused_on_instances():
    with pytest.raises(ValueError, match="'assr@map' is not defined on instances"):
        sor(THREE, RANKS, THREE, [1, 2, 3], variant="assr@map")
