"""Maps, MAE and SOR of the published PPA program (EricFH/SOR, commit d644469), recorded by running it.

``cases.npz`` holds packed masks, ``maps.npz`` the painted maps, ``values.json`` the labels, the rank values
of the annotated objects (those above 0.5 are salient) and the program's numbers.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sor_ppa.evaluation import ImageScores, RankingScorer, dense_ranks, paint

from .cases import unpack

FOLDER = Path(__file__).resolve().parents[1] / "fixtures" / "ppa_maps"


@pytest.fixture(scope="module")
def recorded():
    content = json.loads((FOLDER / "values.json").read_text())
    with np.load(FOLDER / "cases.npz") as masks, np.load(FOLDER / "maps.npz") as maps:
        for case in content["cases"] + content["canvas"]:
            size = case["height"], case["width"]
            for name in ("gt", "pred"):
                case[name] = unpack(masks.get(f"{case['id']}_{name}", np.zeros((0, 1), np.uint8)), size)
            case["map"] = maps[f"{case['id']}_map"]
            case["labels"] = np.array(case["labels"], np.int64)
    return content


def test_painted_maps_are_the_published_bytes(recorded):
    for case in recorded["cases"] + recorded["canvas"]:
        assert np.array_equal(paint(case["pred"], case["labels"], "ppa"), case["map"]), case["id"]


def test_mae_and_sor_are_the_published_numbers(recorded):
    scorer = RankingScorer(["mae:ppa", "sor:ppa@ppa"])
    for case in recorded["cases"]:
        values = np.array(case["rank_order"])
        salient, ranked = values > 0.5, case["labels"] >= 0
        image = ImageScores.from_masks(
            case["gt"][salient], dense_ranks(values[salient]), case["pred"][ranked], case["labels"][ranked]
        )
        image.gt_labels = 10 * values[salient] - 6
        scores = scorer.add_image(image)
        assert scores["mae"]["ppa"].value == pytest.approx(case["mae"], abs=1e-6), case["id"]
        sor = scores["sor"]["ppa@ppa"].value
        assert sor == (None if case["sor"] is None else pytest.approx(case["sor"], abs=1e-6)), case["id"]
    result, expected = scorer.result(), recorded["aggregate"]
    assert result["mae"]["ppa"]["value"] == pytest.approx(expected["mae"], abs=1e-6)
    assert result["sor"]["ppa@ppa"]["value"] == pytest.approx(expected["sor"], abs=1e-6)
    assert result["sor"]["ppa@ppa"]["counted"] == expected["image_used"]


@pytest.mark.parametrize("labels", [[5], [0.5], [-2]])
def test_scores_that_are_no_labels_are_refused(labels):
    with pytest.raises(ValueError, match="scores: expected labels from -1 to 4, found"):
        paint(np.ones((1, 9, 9), bool), labels, "ppa")
