"""Whatever is wrong with a file is one line, counted, and no crash."""

from __future__ import annotations

import os

import cv2
import numpy as np
import pytest

from sor_ppa.evaluation.__main__ import main
from sor_ppa.evaluation.segmentations import encode_masks

from .command import IDS, edit, result, run


def drop_first(content):
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] != 0]
    content["images"] = content["images"][1:]


def change_first(**values):
    return lambda content: content["annotations"][0].update(values)


SMALL, DEEP = np.zeros((4, 5), np.uint8), np.zeros((96, 128), np.uint16)
COLOR = np.tile(np.uint8([1, 2, 3]), (96, 128, 1))
UNREADABLE, BAD = "unreadable prediction", "bad prediction"


@pytest.mark.parametrize(
    ("name", "content", "kind", "scored", "line"),
    [
        ("c000", b"not a picture", UNREADABLE, 6, "c000.png: expected an image, found a broken file"),
        ("c000", DEEP, UNREADABLE, 6, "c000.png: expected 8 bits a pixel, found uint16"),
        ("c000", COLOR, UNREADABLE, 6, "c000.png: expected gray levels, found colors"),
        ("c000", SMALL, "wrong size", 6, "a/c000.jpg, 96 x 128 (height x width), found 4 x 5"),
        ("c000", None, "missing prediction", 6, "a/c000.jpg: no prediction in"),
        ("other", SMALL, "extra prediction", 7, "image 'other' is not in the ground truth"),
    ],
)
def test_a_bad_map_is_one_line_and_fails_only_strictly(files, capsys, name, content, kind, scored, line):
    path = files / "maps" / f"{name}.png"
    if content is None:
        path.unlink()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        cv2.imwrite(str(path), content)
    check_problem(files, "maps", capsys, kind, scored, line)


def tie(content):
    for entry in content["annotations"][:2]:
        entry["rank_score"] = 1


TINY = encode_masks(np.ones((1, 4, 5), bool))[0]
NULL, FAR = [[1, None, 50, 1, 50, 50]], [[1e9, 0, 10, 0, 10, 10]]


@pytest.mark.parametrize(
    ("change", "kind", "scored", "line"),
    [
        (tie, "tied ranks", 7, "a/c000.jpg: predicted ranks tie (2 x 1)"),
        (change_first(image_id=77), "extra prediction", 7, "image 77 is not in the ground truth"),
        (change_first(segmentation=TINY), "wrong size", 6, "pred.json: [0]: expected the size of the image"),
        (change_first(segmentation=[[1, 2]]), BAD, 6, "expected an even count of at least 6 numbers"),
        (change_first(segmentation=NULL), BAD, 6, "[0]: field segmentation[0]: expected finite numbers"),
        (change_first(segmentation=FAR), BAD, 6, "expected coordinates in pixels, found 1e+09"),
        (drop_first, "missing prediction", 7, "a/c000.jpg: no prediction in"),
    ],
)
def test_a_bad_instance_is_one_line_and_fails_only_strictly(files, capsys, change, kind, scored, line):
    edit(files / "pred.json", change)
    check_problem(files, "pred.json", capsys, kind, scored, line)


def check_problem(files, source, capsys, kind, scored, line):
    accept = ("--missing", {"maps": "skip", "pred.json": "empty"}[source])
    assert run(files, source, *accept) == 0
    errors = [text for text in capsys.readouterr().err.splitlines() if text]
    assert len(errors) == 1
    assert errors[0].startswith(f"problem: {kind}: ")
    assert line in errors[0]
    found = result(files)
    assert found["problems"] == {kind: 1}
    assert found["scored"] == scored
    assert run(files, source, *accept, "--strict") == 1


@pytest.mark.parametrize(("source", "option", "scored"), [("maps", "empty", 7), ("pred.json", "skip", 6)])
def test_missing_predictions_may_be_scored_or_left_out(files, source, option, scored):
    (files / "maps" / "c000.png").unlink()
    edit(files / "pred.json", drop_first)
    assert run(files, source, "--missing", option) == 0
    assert result(files)["scored"] == scored


@pytest.mark.parametrize("source", ["maps", "pred.json"])
def test_images_without_a_prediction_are_a_failure_unless_accepted(files, capsys, source):
    for path in sorted((files / "maps").glob("*.png"))[:4]:
        path.unlink()
    edit(files / "pred.json", lambda c: c.update(images=[], annotations=c["annotations"][:1]))
    assert run(files, source) == 1
    assert "of 7 images have no prediction" in capsys.readouterr().err
    assert run(files, source, "--missing", "empty") == 0


def test_tied_ground_truth_is_a_note(files, capsys):
    def change(content):
        content["annotations"][1]["rank"] = content["annotations"][0]["rank"]

    edit(files / "truth.json", change)
    assert run(files, "maps", "--strict") == 0
    assert "note: tied ground-truth ranks: a/c000.jpg" in capsys.readouterr().err
    assert result(files)["problems"] == {"tied ground-truth ranks": 1}


def entry(rest):
    return f'[{{"image_id": 0, "segmentation": [[1]]{rest}}}]'


@pytest.mark.parametrize("damaged", ["truth.json", "pred.json"])
@pytest.mark.parametrize("content", ["{", "3", "[" * 100_000, "[" + "1" * 5000 + "]", "\xff"])
def test_a_file_that_is_no_json_of_the_kind_is_refused_in_one_line(files, capsys, damaged, content):
    (files / damaged).write_text(content, encoding="latin-1")
    check_refusal(run(files, "pred.json"), capsys, damaged, ": expected ", ", found ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (entry(""), "expected rank (1 = most salient) or rank_score"),
        ('[{"segmentation": [[1]], "rank": 1}]', "[0]: image_id: expected a number or text, found None"),
        ('[{"image_id": 0, "rank": 1}]', "[0]: segmentation: expected RLE or polygons, found None"),
        (entry(', "rank": 0'), "[0]: rank: expected an integer from 1"),
        (entry(f', "rank": {10**400}'), "[0]: rank: expected an integer from 1"),
        (entry(', "rank_score": NaN'), "[0]: rank_score: expected a finite number"),
        (entry(', "rank": 1, "score": []'), "[0]: score: expected a finite number"),
    ],
)
def test_a_malformed_prediction_file_is_refused_in_one_line(files, capsys, content, message):
    (files / "pred.json").write_text(content)
    check_refusal(run(files, "pred.json"), capsys, "pred.json", message)


def check_refusal(code, capsys, *parts):
    assert code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    for part in parts:
        assert part in error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["images"][0].pop("height"), "images[0]: expected the field 'height'"),
        (lambda c: c["images"][0].update(width="x"), "images[0]: width: expected a number of pixels"),
        (lambda c: c["images"][1].update(id=0), "images[1]: id: expected unique values, found 0"),
        (change_first(image_id=50), "annotations[0]: image_id: expected one of the images"),
        (change_first(rank=0), "annotations[0]: rank: expected an integer from 1"),
        (change_first(gt_rank=0.5), "annotations[0]: gt_rank: expected an integer"),
        (lambda c: c["images"][0].update(width=10**6, height=10**6), "expected an image of at most"),
        (lambda c: c.pop("images"), "expected COCO (images, annotations) or a list of images"),
        (lambda c: c["images"][1].update(file_name="b/c000.png"), "expected 'c000' to name one image"),
        (lambda c: c.update(annotations=[]), "expected a saliency dataset or objects with ranks, found no"),
    ],
)
def test_malformed_ground_truth_is_refused_in_one_line(files, capsys, change, message):
    edit(files / "truth.json", change)
    check_refusal(run(files, "maps"), capsys, message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["maps", "nowhere.json"], "nowhere.json: expected a ground-truth JSON file, found none"),
        (
            ["nowhere", "truth.json"],
            "nowhere: expected a folder of maps, or a JSON or Parquet file, found nothing",
        ),
        (["maps", "truth.json", "--metrics", "f_measure"], "f_measure is not defined on painted maps"),
        (["maps", "truth.json", "--variants", "nonsense"], "expected a name that a chosen metric knows"),
        (["pred.json", "truth.json", "--metrics", "sasor"], "metric: expected one of sa_sor"),
    ],
)
def test_senseless_calls_are_refused_in_one_line(files, capsys, arguments, message):
    paths = [str(files / name) for name in arguments[:2]]
    check_refusal(main([*paths, "--quiet", *arguments[2:]]), capsys, message)


NONSENSE = (True, -1, 0, 0.5, 1e300, float("nan"), 10**400, None, "", "\u00e9~", [], [[]], [1], {}, {"a": 1})


def _mutate(generator, content):
    """Replaces or removes one value somewhere."""
    keys = list(content) if isinstance(content, dict) else range(len(content))
    key = keys[generator.integers(len(keys))]
    if isinstance(content[key], dict | list) and content[key] and generator.random() < 0.8:
        _mutate(generator, content[key])
    elif generator.random() < 0.2:
        del content[key]
    else:
        content[key] = NONSENSE[generator.integers(len(NONSENSE))]


@pytest.mark.parametrize("seed", range(40))
def test_no_file_content_makes_it_crash(files, capsys, seed):
    generator = np.random.default_rng(seed)
    damaged = "truth.json" if seed % 2 else "pred.json"
    for _ in range(1 + seed % 3):
        edit(files / damaged, lambda content: _mutate(generator, content))
    source = "maps" if seed % 4 == 1 else "pred.json"
    assert run(files, source) in (0, 1, 2)
    for line in capsys.readouterr().err.splitlines():
        assert line.startswith(("problem: ", "note: ", "error: "))


@pytest.mark.parametrize(("damaged", "kind"), [("truth.json", "bad ground truth"), ("pred.json", BAD)])
def test_broken_run_lengths_are_a_problem(files, capsys, damaged, kind):
    edit(files / damaged, lambda content: content["annotations"][0]["segmentation"].update(counts="~~~~"))
    assert run(files, "pred.json") == 0
    assert result(files)["problems"] == {kind: 1}
    assert "segmentation: expected counts with run lengths" in capsys.readouterr().err


def test_a_worker_that_dies_ends_the_command(files, monkeypatch, capsys):
    monkeypatch.setattr("sor_ppa.evaluation.command.truth_from_dict", lambda record: os._exit(9))
    check_refusal(run(files, "maps", "--workers", "2"), capsys, "expected 2 running processes, found one")


def test_an_unknown_dataset_is_refused_with_the_known_ones(files, capsys):
    check_refusal(run(files, "maps", truth="nothing"), capsys, "registered dataset (", "duts_te", "assr_test")


def test_nothing_scored_is_a_failure(files, capsys):
    for path in (files / "maps").glob("*.png"):
        path.write_bytes(b"")
    assert run(files, "maps") == 1
    assert "error: no image could be scored" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--workers", "--worst"])
def test_numbers_below_one_are_refused(files, capsys, flag):
    with pytest.raises(SystemExit):
        run(files, "pred.json", flag, "-3")
    assert f"{flag}: expected at least 1, found -3" in capsys.readouterr().err


def test_labels_that_no_map_shows_name_their_image(files, capsys):
    def change(content):
        for entry in content["annotations"]:
            entry["rank_label"] = 9 if entry["image_id"] == 1 else 0

    edit(files / "pred.json", change)
    refused = f"a/{IDS[1]}.jpg: scores: expected labels from -1 to 4, found [9"
    check_refusal(run(files, "pred.json", "--metrics", "mae:ppa"), capsys, refused)
