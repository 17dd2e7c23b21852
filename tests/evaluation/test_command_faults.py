"""Whatever is wrong with a file is one line, counted, and no crash."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sor_ppa.evaluation.__main__ import main
from sor_ppa.evaluation.segmentations import encode_masks

from .command_files import edit, result, run


def break_map(files):
    (files / "maps" / "c000.png").write_bytes(b"not a picture")


def empty_map(files):
    (files / "maps" / "c000.png").write_bytes(b"")


def shrink_map(files):
    cv2.imwrite(str(files / "maps" / "c000.png"), np.zeros((4, 5), np.uint8))


def deep_map(files):
    cv2.imwrite(str(files / "maps" / "c000.png"), np.zeros((96, 128), np.uint16))


def color_map(files):
    cv2.imwrite(str(files / "maps" / "c000.png"), np.tile(np.uint8([1, 2, 3]), (96, 128, 1)))


def remove_map(files):
    (files / "maps" / "c000.png").unlink()


def add_map(files):
    cv2.imwrite(str(files / "maps" / "other.png"), np.zeros((4, 5), np.uint8))


def tie(files):
    edit(
        files / "pred.json",
        lambda content: [entry.update(rank_score=1) for entry in content["annotations"][:2]],
    )


def unknown_image(files):
    edit(files / "pred.json", lambda content: content["annotations"][0].update(image_id=77))


def resize_mask(files):
    rle = encode_masks(np.ones((1, 4, 5), bool))[0]
    edit(files / "pred.json", lambda content: content["annotations"][0].update(segmentation=rle))


def short_polygon(files):
    edit(files / "pred.json", lambda content: content["annotations"][0].update(segmentation=[[1, 2]]))


def drop_instances(files):
    def change(content):
        content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] != 0]
        content["images"] = content["images"][1:]

    edit(files / "pred.json", change)


@pytest.mark.parametrize(
    ("damage", "source", "kind", "scored", "line"),
    [
        (break_map, "maps", "unreadable prediction", 6, "c000.png: expected a readable PNG, found 13 bytes"),
        (empty_map, "maps", "unreadable prediction", 6, "c000.png: expected a readable PNG, found 0 bytes"),
        (deep_map, "maps", "unreadable prediction", 6, "c000.png: expected 8 bits a pixel, found uint16"),
        (color_map, "maps", "unreadable prediction", 6, "c000.png: expected gray levels, found colors"),
        (
            shrink_map,
            "maps",
            "wrong size",
            6,
            "expected the size of a/c000.jpg, 96 x 128 (height x width), found 4 x 5",
        ),
        (remove_map, "maps", "missing prediction", 6, "a/c000.jpg: no prediction in"),
        (add_map, "maps", "extra prediction", 7, "image 'other' is not in the ground truth"),
        (tie, "pred.json", "tied ranks", 7, "a/c000.jpg: predicted ranks tie (2 x 1)"),
        (unknown_image, "pred.json", "extra prediction", 7, "image 77 is not in the ground truth"),
        (resize_mask, "pred.json", "wrong size", 6, "pred.json: [0]: expected the size of a/c000.jpg"),
        (
            short_polygon,
            "pred.json",
            "bad prediction",
            6,
            "[0]: segmentation: expected polygons of at least 3",
        ),
        (drop_instances, "pred.json", "missing prediction", 7, "a/c000.jpg: no prediction in"),
    ],
)
def test_a_problem_is_one_line_counted_and_fails_only_strictly(
    files, capsys, damage, source, kind, scored, line
):
    damage(files)
    assert run(files, source) == 0
    errors = [text for text in capsys.readouterr().err.splitlines() if text]
    assert len(errors) == 1
    assert errors[0].startswith(f"problem: {kind}: ")
    assert line in errors[0]
    found = result(files)
    assert found["problems"] == {kind: 1}
    assert found["scored"] == scored
    assert run(files, source, "--strict") == 1


def test_strict_passes_where_there_is_no_problem(files):
    assert run(files, "maps", "--strict") == 0
    assert run(files, "pred.json", "--strict") == 0


def test_missing_maps_may_be_scored_as_empty(files):
    remove_map(files)
    assert run(files, "maps", "--missing", "empty") == 0
    assert result(files)["scored"] == 7


def test_missing_instances_may_be_left_out(files):
    drop_instances(files)
    assert run(files, "pred.json", "--missing", "skip") == 0
    assert result(files)["scored"] == 6


def test_tied_ground_truth_is_a_note(files, capsys):
    def change(content):
        content["annotations"][1]["rank"] = content["annotations"][0]["rank"]

    edit(files / "truth.json", change)
    assert run(files, "maps", "--strict") == 0
    assert "note: tied ground-truth ranks: a/c000.jpg" in capsys.readouterr().err
    assert result(files)["problems"] == {"tied ground-truth ranks": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "expected JSON, found"),
        ("3", "expected a list of instances, found int"),
        ('[{"image_id": 0, "segmentation": [[1]]}]', "expected rank (1 = most salient) or rank_score"),
        ('[{"segmentation": [[1]], "rank": 1}]', "[0]: image_id: expected a number or text, found None"),
        ('[{"image_id": 0, "rank": 1}]', "[0]: segmentation: expected RLE or polygons, found None"),
        ('[{"image_id": 0, "segmentation": [[1]], "rank": 0}]', "[0]: rank: expected an integer from 1"),
        ('[{"image_id": 0, "segmentation": [[1]], "rank": 1.5}]', "[0]: rank: expected an integer from 1"),
        (
            '[{"image_id": 0, "segmentation": [[1]], "rank_score": "x"}]',
            "[0]: rank_score: expected a finite number",
        ),
        (
            '[{"image_id": 0, "segmentation": [[1]], "rank_score": NaN}]',
            "[0]: rank_score: expected a finite number",
        ),
        (
            '[{"image_id": 0, "segmentation": [[1]], "rank": 1, "score": []}]',
            "[0]: score: expected a finite number",
        ),
        ("[7]", "expected rank (1 = most salient)"),
    ],
)
def test_a_malformed_prediction_file_is_refused_in_one_line(files, capsys, content, message):
    (files / "pred.json").write_text(content)
    assert run(files, "pred.json") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert "pred.json" in error
    assert message in error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["images"][0].pop("height"), "images[0]: expected the field 'height'"),
        (
            lambda c: c["images"][0].update(width="x"),
            "images[0]: width: expected a number of pixels, found 'x'",
        ),
        (lambda c: c["images"][1].update(id=0), "images[1]: id: expected unique values, found 0"),
        (
            lambda c: c["annotations"][0].update(image_id=50),
            "annotations[0]: image_id: expected one of the images",
        ),
        (lambda c: c["annotations"][0].update(rank=0), "annotations[0]: rank: expected an integer from 1"),
        (
            lambda c: c["annotations"][0].update(rank="top"),
            "annotations[0]: rank: expected an integer from 1",
        ),
        (lambda c: c["annotations"][0].update(gt_rank=0.5), "annotations[0]: gt_rank: expected an integer"),
        (lambda c: c.pop("images"), "expected COCO (images, annotations) or a list of images"),
        (
            lambda c: c["images"][1].update(file_name="b/c000.png"),
            "expected 'c000' to name one image, found two",
        ),
    ],
)
def test_malformed_ground_truth_is_refused_in_one_line(files, capsys, change, message):
    edit(files / "truth.json", change)
    assert run(files, "maps") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["maps", "nowhere.json"], "nowhere.json: expected a ground-truth JSON file, found none"),
        (["nowhere", "truth.json"], "nowhere: expected a folder of maps or a JSON file, found nothing"),
        (["maps", "truth.json", "--metrics", "f_measure"], "f_measure is not defined on painted maps"),
        (["maps", "truth.json", "--variants", "nonsense"], "expected a name that a chosen metric knows"),
        (["pred.json", "truth.json", "--metrics", "sasor"], "metric: expected one of sa_sor"),
    ],
)
def test_senseless_calls_are_refused_in_one_line(files, capsys, arguments, message):
    paths = [str(files / name) for name in arguments[:2]]
    assert main([*paths, "--quiet", *arguments[2:]]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error


NONSENSE = (
    None,
    True,
    -1,
    0,
    3,
    0.5,
    1e300,
    float("nan"),
    float("inf"),
    "",
    "x",
    "\u00e9~",
    [],
    [[]],
    [1],
    {},
    {"a": 1},
)


def _mutate(generator, content):
    """Replaces or removes one value somewhere."""
    while True:
        keys = list(content) if isinstance(content, dict) else range(len(content))
        key = keys[generator.integers(len(keys))]
        if isinstance(content[key], dict | list) and content[key] and generator.random() < 0.8:
            content = content[key]
        elif generator.random() < 0.2:
            del content[key]
            return
        else:
            content[key] = NONSENSE[generator.integers(len(NONSENSE))]
            return


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


@pytest.mark.parametrize(
    "counts", ["", "x", "\u00e9", "0", "~~~~", "P" * 40, "P1`" * 9, [5, -5, 12288], [1.5], ["a"], {}]
)
@pytest.mark.parametrize("damaged", ["truth.json", "pred.json"])
def test_broken_run_lengths_are_a_problem_and_no_crash(files, capsys, damaged, counts):
    edit(files / damaged, lambda content: content["annotations"][0]["segmentation"].update(counts=counts))
    assert run(files, "pred.json") == 0
    kind = "bad ground truth" if damaged == "truth.json" else "bad prediction"
    assert result(files)["problems"] == {kind: 1}
    assert "segmentation: " in capsys.readouterr().err


@pytest.mark.parametrize("point", [1e9, float("nan"), float("inf"), -1e30])
def test_wild_polygons_are_a_problem_and_no_crash(files, point):
    wild = [[point, 0, 10, 0, 10, 10]]
    edit(files / "pred.json", lambda content: content["annotations"][0].update(segmentation=wild))
    assert run(files, "pred.json") == 0
    assert result(files)["problems"] == {"bad prediction": 1}


def test_an_unknown_data_set_is_refused_with_the_known_ones(files, capsys):
    assert main([str(files / "maps"), "no_such_data_set", "--quiet"]) == 2
    assert "expected a JSON file or a registered dataset (" in capsys.readouterr().err


def test_a_folder_without_maps_is_refused(files, capsys):
    (files / "none").mkdir()
    assert run(files, "none") == 2
    assert "expected PNG files, found none" in capsys.readouterr().err


def test_nothing_scored_is_a_failure(files, capsys):
    for path in (files / "maps").glob("*.png"):
        path.write_bytes(b"")
    assert run(files, "maps") == 1
    assert "error: no image could be scored" in capsys.readouterr().err
