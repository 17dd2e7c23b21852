from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sor_ppa.data import read_assr
from sor_ppa.data.synthetic import (
    DIFFICULTIES,
    Judged,
    RuleWeights,
    SyntheticSpec,
    judge,
    rankings,
    write_dataset,
)
from sor_ppa.evaluation import sa_sor


def judged(root: Path, spec: SyntheticSpec) -> list[Judged]:
    write_dataset(root, spec, workers=1)
    return [judge(record) for record in read_assr(root, "test", keep_rankless=True)]


def mean_sa_sor(images: list[Judged], weights: RuleWeights) -> dict[str, float]:
    means = {}
    for name, scorer in rankings(weights):
        values = []
        for image in images:
            scores, ranked = scorer(image), image.ranks >= 0
            found = np.isfinite(scores)
            value = sa_sor(image.masks[ranked], image.ranks[ranked], image.masks[found], scores[found]).value
            if value is not None:
                values.append(value)
        means[name] = float(np.mean(values))
    return means


@pytest.mark.parametrize("difficulty", list(DIFFICULTIES))
def test_the_rule_reaches_one_at_every_difficulty(difficulty: str, tmp_path: Path) -> None:
    spec = SyntheticSpec({"test": 8}, (96, 128, 96, 128), seed=1, difficulty=difficulty)
    assert mean_sa_sor(judged(tmp_path / "a", spec), spec.weights)["the rule"] == 1.0


def test_the_rule_reaches_one_with_other_weights(tmp_path: Path) -> None:
    spec = SyntheticSpec({"test": 8}, (96, 128, 96, 128), weights=RuleWeights(1, 0, 0, 1))
    means = mean_sa_sor(judged(tmp_path / "a", spec), spec.weights)
    assert means["the rule"] == 1.0
    assert "without center" not in means


@pytest.mark.slow
def test_position_and_comparison_both_matter(tmp_path: Path) -> None:
    spec = SyntheticSpec({"test": 150}, (96, 128, 96, 128))
    means = mean_sa_sor(judged(tmp_path / "a", spec), spec.weights)
    assert abs(means["chance"]) < 0.2
    assert means["without uniqueness"] < 0.93
    assert means["without center"] < 0.97
    assert max(value for name, value in means.items() if name.endswith("alone")) < 0.9
