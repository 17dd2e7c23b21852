"""What the functions promise beyond the reference numbers: edge cases, ties, bad input."""

from __future__ import annotations

import numpy as np
import pytest

import sor_ppa.evaluation as evaluation
from sor_ppa.evaluation import DEFAULTS, PUBLISHED, describe, f_measure, iou, mae, ndcg, sa_sor, sor

from .cases import boxes, cases

FUNCTIONS = {"sa_sor": sa_sor, "sor": sor, "mae": mae, "f_measure": f_measure, "iou": iou, "ndcg": ndcg}
THREE = boxes((1, 1, 9, 9), (12, 2, 20, 12), (5, 20, 15, 30))
RANKS = [2, 0, 1]
ALL = [(metric, name) for metric, names in PUBLISHED.items() for name in names]


@pytest.mark.parametrize("metric", FUNCTIONS)
def test_functions_give_the_reference_value(metric):
    case = cases()["c016"]
    values = case.values.get(metric, {})
    for name, (value, _) in values.items():
        score = FUNCTIONS[metric](
            case.gt,
            case.gt_rank,
            case.pred,
            case.pred_score,
            pred_confidences=case.pred_confidence,
            variant=name,
        )
        assert score.value == (None if value is None else pytest.approx(value, abs=1e-6))


def test_defaults_are_the_recommended_variants():
    arguments = (THREE, RANKS, THREE[::-1], [0.5, 0.1, 0.9])
    for metric, name in DEFAULTS.items():
        assert FUNCTIONS[metric](*arguments) == FUNCTIONS[metric](*arguments, variant=name)


@pytest.mark.parametrize(
    ("bare", "full"),
    [
        ("assr", "assr@assr"),
        ("ppa", "ppa@area"),
        ("psr", "psr@area"),
        ("ijcv", "ijcv@assr_ijcv"),
    ],
)
def test_a_bare_name_means_its_own_painter(bare, full):
    assert evaluation.find_variant("sor", bare).name == full


def test_every_variant_states_its_whole_rule_and_source():
    for metric, name in ALL:
        text = describe(metric, name)
        assert text.startswith(f"{metric} {name}: ")
        assert "Source: " in text
    assert describe("sa_sor", "irsr").split("Source")[0].partition(": ")[2] in describe(
        "sa_sor", "psr_iou0.1"
    )


@pytest.mark.parametrize(("metric", "name"), ALL)
@pytest.mark.parametrize(("n_gt", "n_pred"), [(0, 0), (0, 3), (3, 0), (1, 0), (1, 1), (1, 3), (3, 1)])
def test_every_variant_is_defined_for_every_count(metric, name, n_gt, n_pred):
    score = FUNCTIONS[metric](
        THREE[:n_gt],
        list(range(n_gt)),
        THREE[:n_pred],
        np.arange(n_pred) / 4,
        pred_confidences=np.full(n_pred, 0.9),
        variant=name,
    )
    assert (score.value is not None) == (score.status == "counted")
    assert bool(score.reason) == (score.status != "counted")


@pytest.mark.parametrize(("metric", "name"), ALL)
def test_hundreds_of_objects_are_scored(metric, name):
    generator = np.random.default_rng(0)
    masks = generator.random((300, 16, 16)) < 0.1
    scores = generator.random(300)
    score = FUNCTIONS[metric](
        masks[:150],
        generator.permutation(150),
        masks,
        scores,
        pred_confidences=scores,
        variant=name,
    )
    assert score.value is None or -1 <= score.value <= 1


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
def test_the_type_of_binary_masks_does_not_matter(dtype):
    expected = sor(THREE, RANKS, THREE, [0.2, 0.9, 0.5])
    assert sor(THREE.astype(dtype), RANKS, THREE.astype(dtype), [0.2, 0.9, 0.5]) == expected


def test_strided_masks_are_read_correctly():
    wide = np.repeat(THREE, 2, axis=2)
    assert sa_sor(wide[:, :, ::2], RANKS, THREE[::-1], [1, 0, 2]) == sa_sor(
        THREE, RANKS, THREE[::-1], [1, 0, 2]
    )


def test_an_empty_list_means_no_masks():
    assert sa_sor(THREE, RANKS, [], []).value == 0
    assert mae([], [], THREE, [1, 2, 3]).status == "counted"


def test_equal_ious_go_to_the_more_salient_prediction():
    twice = np.concatenate([THREE, THREE[:1]])
    low_first = sa_sor(THREE, [0, 1, 2], twice, [0.1, 0.2, 0.3, 0.9])
    high_first = sa_sor(THREE, [0, 1, 2], twice, [0.9, 0.2, 0.3, 0.1])
    assert low_first == high_first
    assert low_first.value == pytest.approx(-0.5)


def test_a_shared_prediction_goes_to_the_more_salient_of_equal_objects():
    gt = boxes((0, 0, 8, 8), (0, 8, 8, 16), (12, 20, 20, 30))
    merged = np.concatenate([gt[:1] | gt[1:2], gt[2:]])
    for ranks in ([2, 1, 0], [1, 2, 0]):
        score = sa_sor(gt, ranks, merged, [0.9, 0.1])
        assert score.value == pytest.approx(0.5)


def test_confidence_variants_need_confidences():
    with pytest.raises(ValueError, match="pred_confidences: expected for"):
        sa_sor(THREE, RANKS, THREE, [1, 2, 3], variant="irsr_conf0.6")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((THREE[0], [0], THREE, [1, 2, 3]), r"gt_masks: expected masks of shape \(N, H, W\)"),
        ((THREE, RANKS, THREE[:, :-1], [1, 2, 3]), r"pred_masks: expected the size of gt_masks, 24 x 32"),
        (
            (THREE, RANKS, THREE.astype(int), [1, 2, 3]),
            "pred_masks: expected masks of type bool, uint8 or float",
        ),
        (
            (THREE, RANKS, THREE * np.uint8(255), [1, 2, 3]),
            "pred_masks: expected uint8 masks that hold 0 and 1",
        ),
        (
            (THREE, RANKS, THREE * 1.5, [1, 2, 3]),
            r"pred_masks: expected mask values in \[0, 1\], found 0 to 1.5",
        ),
        ((THREE, RANKS, np.where(THREE, np.nan, 0.0), [1, 2, 3]), "pred_masks: .* found NaN"),
        ((THREE, [0, 1], THREE, [1, 2, 3]), "gt_ranks: expected 3 numbers"),
        ((THREE, [0, 1, 3], THREE, [1, 2, 3]), "gt_ranks: expected dense integers from 0"),
        ((THREE, [0, 0.5, 1], THREE, [1, 2, 3]), "gt_ranks: expected integers"),
        ((THREE, ["a", "b", "c"], THREE, [1, 2, 3]), "gt_ranks: expected integers"),
        ((THREE, RANKS, THREE, [1, 2]), "pred_scores: expected 3 numbers"),
        ((THREE, RANKS, THREE, [1, 2, np.nan]), "pred_scores: expected finite numbers"),
        ((THREE, RANKS, THREE, ["a", "b", "c"]), "pred_scores: expected numbers"),
        (([], [], [], []), "expected at least one of shape"),
        ((THREE[:, :0], RANKS, THREE[:, :0], [1, 2, 3]), "gt_masks: expected masks with pixels"),
    ],
)
def test_bad_input_is_refused_in_one_line(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        sor(*arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["nonsense", "irsr@assr", "assr@", "assr@nowhere", "assr@gt10", "@assr", ""])
def test_unknown_variants_are_refused_with_the_known_ones(name):
    metric = "sa_sor" if name.startswith("irsr") else "sor"
    with pytest.raises(ValueError, match=r"variant: expected for .* one of .*seqrank"):
        FUNCTIONS[metric](THREE, RANKS, THREE, [1, 2, 3], variant=name)


def test_map_variants_are_refused_on_instances():
    with pytest.raises(ValueError, match="'assr@map' is not defined on instances"):
        sor(THREE, RANKS, THREE, [1, 2, 3], variant="assr@map")
