"""The command, end to end on small folders."""

from __future__ import annotations

import csv
import json

import cv2
import numpy as np
import pytest
from detectron2.data import DatasetCatalog

from sor_ppa.evaluation import RankingScorer, paint
from sor_ppa.evaluation.__main__ import main
from sor_ppa.evaluation.ground_truth import encode_masks

from .cases import cases, reference

IDS = ("c000", "c009", "c016", "c046", "c066", "c067", "c083")


@pytest.fixture
def files(tmp_path):
    """Ground truth as COCO, predictions as JSON, and painted maps of a few reference cases."""
    images, annotations, predictions = [], [], []
    (tmp_path / "maps").mkdir()
    for number, case_id in enumerate(IDS):
        case = cases()[case_id]
        height, width = case.gt.shape[1:]
        images.append({"id": number, "file_name": f"a/{case_id}.jpg", "height": height, "width": width})
        level = max(case.gt_rank, default=0) - np.array(case.gt_rank, int)
        for rle, rank in zip(encode_masks(case.gt), level.tolist(), strict=True):
            entry = {"id": len(annotations), "image_id": number, "category_id": 1, "segmentation": rle}
            annotations.append({**entry, "rank": rank + 1})
        for rle, score, sure in zip(
            encode_masks(case.pred), case.pred_score, case.pred_confidence, strict=True
        ):
            entry = {"image_id": number, "category_id": 1, "segmentation": rle, "rank_score": score}
            predictions.append({**entry, "score": sure})
        cv2.imwrite(str(tmp_path / "maps" / f"{case_id}.png"), paint(case.pred, case.pred_score, "assr"))
    write(tmp_path / "truth.json", {"images": images, "annotations": annotations})
    write(tmp_path / "pred.json", {"images": [image["id"] for image in images], "annotations": predictions})
    return tmp_path


def write(path, content):
    path.write_text(json.dumps(content))


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    write(path, content)


def run(files, source, *options, truth="truth.json"):
    return main(
        [str(files / source), str(files / truth), "--quiet", "--json", str(files / "out.json"), *options]
    )


def result(files):
    return json.loads((files / "out.json").read_text())


def expected(metric, name):
    scorer = RankingScorer(variants={metric: [name]})
    for case_id in IDS:
        scorer.add_image(cases()[case_id].image())
    return scorer.result()[metric][name]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_every_variant_of_instances(files, workers, capsys):
    assert run(files, "pred.json", "--metrics", "all", "--variants", "all", "--workers", workers) == 0
    variants = result(files)["variants"]
    for metric, names in reference()["variants"].items():
        for name in names:
            assert variants[metric][name] == json.loads(json.dumps(expected(metric, name))), name
    table = capsys.readouterr().out
    assert "psr@area" in table
    assert "7 of 7 scored" in table


def test_maps(files):
    assert run(files, "maps") == 0
    found = result(files)
    assert found["kind"] == "maps"
    assert found["variants"]["sor"]["assr@map"]["value"] == expected("sor", "assr@assr")["value"]
    assert found["variants"]["mae"]["assr@map"]["value"] == expected("mae", "assr@assr")["value"]


def test_all_rules_on_maps_and_detection_measures(files, capsys):
    assert run(files, "maps", "--metrics", "all", "--variants", "all") == 0
    found = result(files)
    assert found["variants"]["sa_sor"]["sr_old@map"]["value"] == expected("sa_sor", "sr_old@assr")["value"]
    assert found["variants"]["ndcg"]["ijcv_exp@map"]["value"] == expected("ndcg", "ijcv_exp@assr")["value"]
    assert set(found["sod"]) >= {"mae", "s_measure", "weighted_f", "e_max", "f_max"}
    assert "pysodmetrics" in capsys.readouterr().out


def test_grey_levels_of_maps_as_instances(files):
    assert run(files, "maps", "--levels", "--metrics", "sa_sor", "mae") == 0
    found = result(files)
    assert found["kind"] == "levels"
    scorer = RankingScorer(["sa_sor"])
    for case_id in IDS:
        case = cases()[case_id]
        grey = paint(case.pred, case.pred_score, "assr")
        levels = np.unique(grey[grey > 0])
        scorer.add(case.gt, case.gt_rank, grey == levels[:, None, None], levels)
    assert found["variants"]["sa_sor"]["irsr"]["value"] == scorer.result()["sa_sor"]["irsr"]["value"]


def test_detection_measures_alone(files):
    assert run(files, "maps", "--metrics", "sod") == 0
    assert result(files)["variants"] == {}
    assert result(files)["sod"]["mae"] > 0


def test_variants_may_be_chosen_by_metric(files):
    assert run(files, "pred.json", "--metrics", "sa_sor", "sor", "--variants", "seqrank", "sor:psr") == 0
    variants = result(files)["variants"]
    assert {metric: list(names) for metric, names in variants.items()} == {
        "sa_sor": ["seqrank"],
        "sor": ["seqrank", "psr"],
    }


def test_per_image_csv(files):
    assert run(files, "pred.json", "--per-image", str(files / "images.csv")) == 0
    rows = list(csv.DictReader((files / "images.csv").open()))
    assert [row["file_name"] for row in rows] == [f"a/{case_id}.jpg" for case_id in IDS]
    value, _ = cases()["c016"].values["sa_sor"]["irsr"]
    assert float(rows[2]["sa_sor:irsr"]) == pytest.approx(value)
    assert rows[5]["sa_sor:irsr status"].startswith("skipped: ")


def test_ranks_in_attributes_and_null_ranks(files):
    def change(content):
        for entry in content["annotations"]:
            entry["attributes"] = {"rank": str(entry.pop("rank"))}
        first = content["annotations"][0]
        content["annotations"].append({**first, "id": 999, "attributes": {"rank": None}})

    edit(files / "truth.json", change)
    assert run(files, "pred.json") == 0
    assert result(files)["variants"]["sa_sor"]["irsr"]["value"] == expected("sa_sor", "irsr")["value"]


def test_rank_1_is_the_most_salient_and_null_is_not_ranked(files):
    def change(content):
        for image_id in range(len(IDS)):
            entries = [entry for entry in content["annotations"] if entry["image_id"] == image_id]
            entries.sort(key=lambda entry: -entry.pop("rank_score"))
            for place, entry in enumerate(entries):
                entry["rank"] = place + 1
        content["annotations"].append({**content["annotations"][0], "rank": None})

    edit(files / "pred.json", change)
    assert run(files, "pred.json") == 0
    assert result(files)["rank_by"] == "rank"
    assert result(files)["variants"]["sa_sor"]["irsr"]["value"] == expected("sa_sor", "irsr")["value"]


def test_images_may_be_named_instead_of_numbered(files):
    def change(content):
        for entry in content["annotations"]:
            entry["file_name"] = f"{IDS[entry.pop('image_id')]}.jpg"
        content["images"] = []

    edit(files / "pred.json", change)
    assert run(files, "pred.json") == 0
    assert result(files)["problems"] == {"missing prediction": 1}
    assert result(files)["variants"]["sa_sor"]["irsr"]["value"] == expected("sa_sor", "irsr")["value"]


def test_a_name_that_means_two_images_is_refused(files, capsys):
    edit(files / "truth.json", lambda content: content["images"][1].update(file_name="b/c000.jpg"))

    def change(content):
        content["annotations"] = [{**content["annotations"][0], "image_id": "c000"}]
        content["images"] = []

    edit(files / "pred.json", change)
    assert run(files, "pred.json") == 2
    assert "expected 'c000' to name one image, found two" in capsys.readouterr().err


def test_a_registered_data_set_is_ground_truth(files):
    records = []
    for number, case_id in enumerate(IDS):
        case = cases()[case_id]
        height, width = case.gt.shape[1:]
        annotations = [
            {"segmentation": rle, "gt_rank": rank + 7}
            for rle, rank in zip(encode_masks(case.gt), case.gt_rank, strict=True)
        ]
        record = {"image_id": number, "file_name": f"{case_id}.jpg", "height": height, "width": width}
        records.append({**record, "annotations": annotations})
    DatasetCatalog.register("sor_command_test", lambda: records)
    try:
        code = main([str(files / "maps"), "sor_command_test", "--quiet", "--json", str(files / "out.json")])
    finally:
        DatasetCatalog.remove("sor_command_test")
    assert code == 0
    assert result(files)["variants"]["sor"]["assr@map"]["value"] == expected("sor", "assr@assr")["value"]


def break_map(files):
    (files / "maps" / "c000.png").write_bytes(b"not a picture")


def empty_map(files):
    (files / "maps" / "c000.png").write_bytes(b"")


def shrink_map(files):
    cv2.imwrite(str(files / "maps" / "c000.png"), np.zeros((4, 5), np.uint8))


def deep_map(files):
    cv2.imwrite(str(files / "maps" / "c000.png"), np.zeros((96, 128), np.uint16))


def colour_map(files):
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
        (colour_map, "maps", "unreadable prediction", 6, "c000.png: expected grey levels, found colours"),
        (
            shrink_map,
            "maps",
            "wrong size",
            6,
            "expected the size of a/c000.jpg, 96 x 128 (height x width), found 4 x 5",
        ),
        (remove_map, "maps", "missing prediction", 6, "a/c000.jpg: no map c000.png"),
        (add_map, "maps", "extra prediction", 7, "other.png: no image of that name"),
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
        (drop_instances, "pred.json", "missing prediction", 7, "a/c000.jpg: no instance in"),
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
        (lambda c: c["images"][0].update(width="x"), "images[0]: width: expected int, found 'x'"),
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
        (lambda c: c["images"][1].update(file_name="b/c000.png"), "expected one image named c000"),
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


def test_an_unknown_data_set_is_refused_with_the_known_ones(files, capsys):
    assert main([str(files / "maps"), "no_such_data_set", "--quiet"]) == 2
    assert "expected a JSON file or a registered data set (" in capsys.readouterr().err


def test_a_folder_without_maps_is_refused(files, capsys):
    (files / "none").mkdir()
    assert run(files, "none") == 2
    assert "expected PNG files, found none" in capsys.readouterr().err


def test_nothing_scored_is_a_failure(files, capsys):
    for path in (files / "maps").glob("*.png"):
        path.write_bytes(b"")
    assert run(files, "maps") == 1
    assert "error: no image could be scored" in capsys.readouterr().err


def test_the_list_states_every_rule(capsys):
    assert main(["--list"]) == 0
    text = capsys.readouterr().out
    for metric, names in reference()["variants"].items():
        for name in names:
            assert f"{metric} {name}" in text


def test_the_help_documents_the_format(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert '"rank_score"' in text
    assert "1 = most salient" in text
