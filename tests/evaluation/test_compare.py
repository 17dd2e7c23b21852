"""Comparison of several methods, beside the command that scores one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sor_ppa.evaluation.command import score_files
from sor_ppa.evaluation.compare import Comparison, Method, compare_files
from sor_ppa.evaluation.measure import THRESHOLDS, VARIANTS

from .cases import cases
from .command import IDS, edit, write


def without_every_third(content: Any) -> None:
    """Make another method: it misses objects and is less sure."""
    content["annotations"] = [e for n, e in enumerate(content["annotations"]) if n % 3]
    for entry in content["annotations"]:
        entry["score"] /= 2


@pytest.fixture
def methods(files: Path) -> list[Method]:
    (files / "other.json").write_text((files / "pred.json").read_text())
    edit(files / "other.json", without_every_third)
    return [Method("first", files / "pred.json"), Method("other", files / "other.json")]


def compare(files: Path, methods: list[Method], **options: Any) -> Comparison:
    return compare_files(methods, str(files / "truth.json"), **options)


def means(comparison: Comparison, method: str) -> dict[tuple[str, str], dict[str, Any]]:
    found = [entry for entry in comparison.means() if entry["method"] == method]
    return {(entry["metric"], entry["variant"]): entry for entry in found}


@pytest.mark.parametrize("workers", [1, 2])
def test_every_mean_equals_that_of_evaluate(files: Path, methods: list[Method], workers: int) -> None:
    comparison = compare(files, methods, workers=workers)
    for method in methods:
        found = means(comparison, method.name)
        alone = score_files(method.path, str(files / "truth.json"), metrics=["all"], variants="all")
        for metric, entries in alone.scorer.result().items():
            for name, entry in entries.items():
                assert found[metric, name]["value"] == entry["value"], name
                assert found[metric, name]["images"] == entry["counted"] + entry["nan_as_0"]


def test_maps_stand_at_the_painter_of_each_rule(files: Path) -> None:
    found = means(compare(files, [Method("maps", files / "maps")]), "maps")
    alone = score_files(files / "maps", str(files / "truth.json"), metrics=["all"], variants="all")
    for metric, entries in alone.scorer.result().items():
        for name, entry in entries.items():
            places = [key for key in VARIANTS if key[0] == metric and key[1].startswith(name[: -len("map")])]
            assert found[places[0]]["value"] == entry["value"], name
            assert all(found[place]["value"] is None for place in places[1:])


def test_pairs_compare_the_images_that_both_use(files: Path, methods: list[Method]) -> None:
    edit(files / "other.json", lambda content: content["images"].clear())
    comparison = compare(files, methods, missing="skip")
    a, b = comparison.column(("sa_sor", "irsr"))
    both = ~np.isnan(a) & ~np.isnan(b)
    assert 0 < both.sum() < (~np.isnan(a)).sum() or not np.isnan(b).all()
    (pair,) = [entry for entry in comparison.pairs() if entry["variant"] == "irsr"]
    assert pair["images"] == both.sum()
    assert pair["difference"] == pytest.approx(np.mean(a[both] - b[both]))
    assert pair["low"] <= pair["difference"] <= pair["high"]
    assert pair["p"] <= pair["p_holm"] <= 1


def test_a_method_does_not_differ_from_itself(files: Path, methods: list[Method]) -> None:
    twice = [methods[0], Method("again", methods[0].path)]
    for entry in compare(files, twice).pairs():
        assert entry["p_holm"] == 1
        assert entry["difference"] in (0, None)


@pytest.mark.parametrize("place", [4, 11, 16])
def test_a_threshold_equals_a_file_without_what_is_below(
    files: Path, methods: list[Method], place: int
) -> None:
    curves = {
        entry["metric"]: entry
        for entry in compare(files, methods).threshold_curves()
        if entry["method"] == "first"
    }

    def cut(content: Any) -> None:
        kept = [entry for entry in content["annotations"] if entry["score"] > THRESHOLDS[place]]
        assert 0 < len(kept) < len(content["annotations"])
        content["annotations"] = kept

    edit(files / "pred.json", cut)
    alone = score_files(files / "pred.json", str(files / "truth.json")).scorer.result()
    for metric, curve in curves.items():
        (entry,) = alone[metric].values()
        assert curve["values"][place] == pytest.approx(entry["value"])
        best = min if metric == "mae" else max
        assert curve["tuned_on_test_value"] == best(curve["values"])


def test_groups_divide_the_images_with_objects(files: Path, methods: list[Method]) -> None:
    comparison = compare(files, methods)
    with_objects = sum(len(cases()[name].gt) > 0 for name in IDS)
    for trait in {entry["trait"] for entry in comparison.groups()}:
        found = [
            entry
            for entry in comparison.groups()
            if entry["trait"] == trait and entry["metric"] == "mae" and entry["method"] == "first"
        ]
        assert sum(entry["images"] for entry in found) == with_objects
        values = comparison.column(("mae", found[0]["variant"]))[0, comparison.traits[:, 0] > 0]
        assert sum(entry["images"] * entry["value"] for entry in found) == pytest.approx(values.sum())


def test_images_with_the_largest_differences_come_first(files: Path, methods: list[Method]) -> None:
    found = compare(files, methods).largest_differences(3)
    spread = [np.ptp(list(entry["values"].values())) for entry in found]
    assert spread
    assert spread == sorted(spread, reverse=True)


def test_a_perfect_and_sure_method_is_calibrated(files: Path) -> None:
    entries = [
        {"image_id": number, "segmentation": entry["segmentation"], "rank": entry["rank"], "score": 1.0}
        | {"first_probability": float(entry["rank"] == 1)}
        for entry in json.loads((files / "truth.json").read_text())["annotations"]
        for number in [entry["image_id"]]
    ]
    write(files / "perfect.json", entries)
    report = compare(files, [Method("perfect", files / "perfect.json")]).to_json()
    assert report["methods"][0]["calibration"]["first_probability"]["ece"] == 0
    assert report["methods"][0]["calibration"]["confidence"]["events"] == len(entries)


def test_a_bad_prediction_leaves_the_image_out_of_one_method(files: Path, methods: list[Method]) -> None:
    edit(
        files / "other.json",
        lambda c: c["annotations"][0].update(segmentation={"size": [1, 1], "counts": [1]}),
    )
    comparison = compare(files, methods)
    bad = json.loads((files / "other.json").read_text())["annotations"][0]["image_id"]
    assert np.isnan(comparison.values[1, bad]).all()
    assert not np.isnan(comparison.values[0, bad]).all()
    assert [kind for kind, _ in comparison.problems[1]] == ["wrong size"]


def test_file_names_decide_if_a_program_numbers_the_images_differently(
    files: Path, methods: list[Method]
) -> None:
    expected = means(compare(files, methods[:1]), "first")
    images = json.loads((files / "truth.json").read_text())["images"]
    new = {image["id"]: 1 + (image["id"] + 3) % len(images) for image in images}

    def renumber(content: Any) -> None:
        content["images"] = [{"id": new[i["id"]], "file_name": Path(i["file_name"]).name} for i in images]
        for entry in content["annotations"]:
            entry["image_id"] = new[entry["image_id"]]

    edit(files / "pred.json", renumber)
    found = compare(files, methods[:1])
    assert means(found, "first") == expected
    assert not found.problems[0]


def test_parquet_equals_json(files: Path, methods: list[Method]) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    expected = means(compare(files, methods[:1]), "first")
    images = {i["id"]: i for i in json.loads((files / "truth.json").read_text())["images"]}
    rows = [
        {"image": images[e["image_id"]]["file_name"], "rank_score": e["rank_score"], "score": e["score"]}
        | dict(zip(("height", "width"), e["segmentation"]["size"], strict=True))
        | {"segmentation": e["segmentation"]["counts"]}
        for e in json.loads((files / "pred.json").read_text())["annotations"]
    ]
    names = json.dumps([image["file_name"] for image in images.values()])
    table = pyarrow.Table.from_pylist(rows).replace_schema_metadata({"images": names})
    parquet.write_table(table, files / "first.parquet")
    found = compare(files, [Method("first", files / "first.parquet")])
    assert means(found, "first") == expected
    assert not found.problems[0]
