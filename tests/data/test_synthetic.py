from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from sor_ppa.data import DatasetError, ImageRecord, read_assr
from sor_ppa.data.synthetic import (
    DIFFICULTIES,
    RuleWeights,
    SyntheticSpec,
    draw_scene,
    measure_cues,
    parse_size,
    rankings,
    record_cues,
    salience,
    write_dataset,
)
from sor_ppa.data.synthetic.scene import noisy_rank_values, rank_values
from sor_ppa.evaluation import sa_sor

COUNTS = {"train": 6, "val": 2, "test": 4}
SPEC = SyntheticSpec(COUNTS, (96, 128, 128, 160), seed=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "synthetic_sor"
    assert write_dataset(root, SPEC, workers=1)
    return root


def records_of(root: Path, keep_rankless: bool = False) -> Iterator[ImageRecord]:
    for split in COUNTS:
        yield from read_assr(root, split, keep_rankless=keep_rankless)


def digest(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_boxes_enclose_their_masks(folder: Path) -> None:
    for record in records_of(folder, keep_rankless=True):
        for item, mask in zip(record.objects, record.masks(), strict=True):
            x1, y1, x2, y2 = map(int, item.box)
            assert mask[y1:y2, x1:x2].sum() == mask.sum() > 0


def test_painted_maps_hold_the_gray_levels_of_the_ranks(folder: Path) -> None:
    for record in records_of(folder):
        painted = cv2.imread(record.file_name.replace("images", "gt")[:-3] + "png", cv2.IMREAD_UNCHANGED)
        assert painted is not None
        labels = [item.label for item in record.objects if item.label is not None]
        expected = {int(255 * (label + 6) / 10) for label in labels}
        assert set(np.unique(painted)) == {0} | expected


def test_the_written_rule_gives_the_ranking_back(folder: Path) -> None:
    for record in records_of(folder):
        image = cv2.imread(record.file_name)
        assert image is not None
        everything = next(r for r in records_of(folder, True) if r.file_name == record.file_name)
        scores = salience(measure_cues(image, everything.masks()))
        truth = np.array([item.rank for item in everything.objects])
        assert (scores > 0.25).tolist() == (truth >= 0).tolist()
        ranked = truth >= 0
        assert np.array_equal(np.argsort(scores[ranked]), np.argsort(truth[ranked]))


def test_files_do_not_depend_on_the_number_of_workers(folder: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "again", SPEC, workers=2)
    assert digest(tmp_path / "again") == digest(folder)


def test_workers_start_after_opencv_had_threads(tmp_path: Path) -> None:
    script = """
import sys
import cv2
import numpy as np
from sor_ppa.data.synthetic import SyntheticSpec, write_dataset

cv2.setNumThreads(2)
cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.uint8), (31, 31), 0)
write_dataset(sys.argv[1], SyntheticSpec({"train": 100}, (64, 64, 64, 64)), workers=2)
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "set")], check=True, timeout=120)


def test_splits_and_seeds_share_no_picture(folder: Path) -> None:
    hashes = {value for name, value in digest(folder).items() if name.startswith("images")}
    assert len(hashes) == sum(COUNTS.values())
    other = SyntheticSpec(COUNTS, SPEC.size, seed=4).scene("train", 0).jpeg
    assert hashlib.sha256(other).hexdigest() not in hashes


def test_a_longer_split_begins_with_the_same_pictures() -> None:
    longer = SyntheticSpec({"train": 100}, SPEC.size, SPEC.seed)
    assert np.array_equal(longer.scene("train", 1).image, SPEC.scene("train", 1).image)


def test_a_noisy_annotator_keeps_the_pictures_and_the_salient_objects() -> None:
    noisy = SyntheticSpec(COUNTS, SPEC.size, SPEC.seed, noise=0.2)
    assert noisy.as_json() != SPEC.as_json()
    for index in range(4):
        plain, confused = SPEC.scene("test", index), noisy.scene("test", index)
        assert confused.jpeg == plain.jpeg
        assert noisy.scene("test", index).values == confused.values
        assert sorted(confused.values) == sorted(plain.values)
        salient = np.array(plain.values) > 0.5
        assert np.array_equal(np.array(confused.values) > 0.5, salient)
        assert np.array_equal(np.array(confused.values)[~salient], np.array(plain.values)[~salient])


def test_orders_of_a_noisy_annotator_have_the_known_probability() -> None:
    rng, salience = np.random.default_rng(0), np.array([0.6, 0.1, 0.4])
    first = [noisy_rank_values(salience, 0.25, rng)[0] == 1.0 for _ in range(4000)]
    assert np.mean(first) == pytest.approx(1 / (1 + np.exp((0.4 - 0.6) / 0.25)), abs=0.03)


def test_another_dataset_is_not_overwritten_unasked(tmp_path: Path) -> None:
    small = SyntheticSpec({"val": 1}, (64, 64, 64, 64))
    other = SyntheticSpec({"test": 1}, (64, 64, 64, 64))
    write_dataset(tmp_path / "a", small, workers=1)
    with pytest.raises(DatasetError, match="found another synthetic dataset"):
        write_dataset(tmp_path / "a", other, workers=1)
    assert write_dataset(tmp_path / "a", other, workers=1, overwrite=True)
    assert not (tmp_path / "a" / "obj_seg_data_val.json").exists()


def test_foreign_folders_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(DatasetError, match="not made by this tool"):
        write_dataset(tmp_path, SPEC, overwrite=True)


def test_an_interrupted_dataset_is_made_anew(tmp_path: Path) -> None:
    spec = SyntheticSpec({"val": 2}, (64, 80, 64, 80))
    write_dataset(tmp_path / "a", spec, workers=1)
    whole = digest(tmp_path / "a")
    manifest = tmp_path / "a" / "synthetic.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "complete": False}))
    (tmp_path / "a" / "images" / "val" / "val_000001.jpg").unlink()
    assert write_dataset(tmp_path / "a", spec, workers=1)
    assert digest(tmp_path / "a") == whole


@pytest.mark.parametrize("difficulty", list(DIFFICULTIES))
def test_objects_stay_visible(difficulty: str) -> None:
    scene = draw_scene((1, 2, 3), 96, 128, DIFFICULTIES[difficulty])
    assert scene.masks.sum(axis=0).max() == 1
    assert (scene.masks.sum(axis=(1, 2)) > 0.001 * 96 * 128).all()


def test_margins_between_neighbors_hold() -> None:
    for index in range(4):
        scene = draw_scene((7, index), 96, 128)
        ranked = np.sort(scene.salience[np.array(scene.values) > 0.5])
        assert (np.diff(ranked) >= DIFFICULTIES["default"].margin).all()


def test_more_than_five_leave_the_rest_unranked() -> None:
    scores = np.array([0.9, 0.3, 0.8, 0.7, 0.6, 0.5, 0.1])
    assert rank_values(scores) == [1.0, 0.5, 0.9, 0.8, 0.7, 0.6, 0.4]


def flat_scene(squares: list[tuple[int, int, int, tuple[int, int, int]]]) -> np.ndarray:
    """Salience of squares (x, y, side, color) on gray."""
    image = np.full((120, 160, 3), 128, np.uint8)
    masks = np.zeros((len(squares), 120, 160), bool)
    for mask, (x, y, side, color) in zip(masks, squares, strict=True):
        image[y : y + side, x : x + side] = color
        mask[y : y + side, x : x + side] = True
    return salience(measure_cues(image, masks))


BLUE, RED = (220, 60, 40), (40, 60, 220)


@pytest.mark.parametrize(
    ("squares", "most_salient"),
    [
        pytest.param([(30, 50, 20, BLUE), (100, 40, 40, BLUE)], 1, id="larger"),
        pytest.param([(70, 50, 20, BLUE), (5, 5, 20, BLUE)], 0, id="more central"),
        pytest.param([(20, 20, 20, BLUE), (120, 20, 20, BLUE), (120, 80, 20, RED)], 2, id="unlike"),
    ],
)
def test_each_cue_decides(squares: list[Any], most_salient: int) -> None:
    assert flat_scene(squares).argmax() == most_salient


def test_an_object_that_looks_like_the_background_is_not_seen() -> None:
    hidden, seen = flat_scene([(40, 20, 70, (131, 131, 131)), (5, 100, 12, RED)])
    assert hidden == 0 < seen


def test_size_from_text() -> None:
    assert parse_size("240x320") == (240, 320, 240, 320)
    assert parse_size("96x128:480x640") == (96, 128, 480, 640)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: parse_size("240x"), "expected HxW"),
        (lambda: parse_size("1x2x3"), "expected HxW"),
        (lambda: SyntheticSpec({"dev": 1}), "split"),
        (lambda: SyntheticSpec({"val": -1}), "count"),
        (lambda: SyntheticSpec(COUNTS, (10, 10, 10, 10)), "size"),
        (lambda: SyntheticSpec(COUNTS, (100, 100, 90, 100)), "size"),
        (lambda: SyntheticSpec(COUNTS, seed=-1), "seed"),
        (lambda: SyntheticSpec(COUNTS, difficulty="evil"), "difficulty"),
        (lambda: SyntheticSpec(COUNTS, noise=-0.1), "noise: expected a number of at least 0, found -0.1"),
        (lambda: RuleWeights(-1, 1, 1, 1), "rule weight"),
        (lambda: RuleWeights(0, 0, 0, 0), "rule weight"),
        (lambda: RuleWeights(float("nan"), 1, 1, 1), "rule weight"),
    ],
)
def test_wrong_arguments_are_named(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def mean_sa_sor(root: Path, spec: SyntheticSpec) -> dict[str, float]:
    write_dataset(root, spec, workers=1)
    values: dict[str, list[float]] = {}
    for record in read_assr(root, "test", keep_rankless=True):
        masks, ranks = record.masks(), np.array([item.rank for item in record.objects])
        ranked = ranks >= 0
        for name, scores in rankings(record_cues(record), spec.weights, np.random.default_rng(0)).items():
            found = np.isfinite(scores)
            value = sa_sor(masks[ranked], ranks[ranked], masks[found], scores[found]).value
            values.setdefault(name, []).extend([] if value is None else [value])
    return {name: float(np.mean(found)) for name, found in values.items()}


@pytest.mark.parametrize(
    "options", [*({"difficulty": name} for name in DIFFICULTIES), {"weights": RuleWeights(1, 0, 0, 1)}]
)
def test_the_rule_reaches_one(options: dict[str, Any], tmp_path: Path) -> None:
    spec = SyntheticSpec({"test": 8}, (96, 128, 96, 128), seed=1, **options)
    means = mean_sa_sor(tmp_path / "a", spec)
    assert means["the rule"] == 1.0
    assert ("without center" in means) == (spec.weights.center > 0)


@pytest.mark.slow
def test_position_and_comparison_both_matter(tmp_path: Path) -> None:
    spec = SyntheticSpec({"test": 150}, (96, 128, 96, 128))
    means = mean_sa_sor(tmp_path / "a", spec)
    assert abs(means["chance"]) < 0.2
    assert means["without uniqueness"] < 0.93
    assert means["without center"] < 0.97
    assert max(value for name, value in means.items() if name.endswith("alone")) < 0.9
