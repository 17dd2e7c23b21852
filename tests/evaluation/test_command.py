"""The command, end to end on small folders."""

from __future__ import annotations

import csv
import json
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
from detectron2.data import DatasetCatalog

from sor_ppa.evaluation import RankingScorer, paint
from sor_ppa.evaluation.__main__ import main
from sor_ppa.evaluation.segmentations import encode_masks

from .cases import cases, reference
from .command_files import IDS, edit, result, run


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


@contextmanager
def registered(records):
    DatasetCatalog.register("command_test", lambda: records)
    yield "command_test"
    DatasetCatalog.remove("command_test")


def test_a_registered_dataset_is_ground_truth(files):
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
    with registered(records) as name:
        assert main([str(files / "maps"), name, "--quiet", "--json", str(files / "out.json")]) == 0
    assert result(files)["variants"]["sor"]["assr@map"]["value"] == expected("sor", "assr@assr")["value"]


@pytest.fixture
def saliency(files):
    """Records of a saliency dataset whose masks are the unions of objects."""
    records = []
    for number, case_id in enumerate(IDS):
        mask = files / f"{case_id}.png"
        cv2.imwrite(str(mask), cases()[case_id].gt.any(axis=0).astype(np.uint8) * 255)
        names = {"file_name": f"{case_id}.jpg", "mask_file_name": str(mask)}
        records.append({"image_id": number, **names, "height": 96, "width": 128})
    return records


@pytest.mark.parametrize("options", [[], ["--metrics", "sod"], ["--metrics", "all", "--workers", "2"]])
def test_maps_are_scored_against_the_masks_of_a_saliency_dataset(files, saliency, options):
    assert run(files, "maps", "--metrics", "sod") == 0
    against_objects = result(files)["sod"]
    with registered(saliency) as name:
        assert run(files, "maps", *options, truth=name) == 0
    assert result(files)["sod"] == against_objects
    assert {"mae", "mse", "iou_max", "biou_max", "tiou_max", "mba"} <= set(against_objects)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("maps", ["--metrics", "sor"], "expected --metrics sod for a saliency dataset, found sor"),
        ("maps", ["--variants", "assr"], "expected --metrics sod for a saliency dataset, found assr"),
        ("maps", ["--levels"], "expected a folder of saliency maps for command_test, found levels"),
        ("pred.json", [], "expected a folder of saliency maps for command_test, found instances"),
    ],
)
def test_other_uses_of_a_saliency_dataset_are_refused(files, saliency, capsys, source, options, message):
    with registered(saliency) as name:
        assert main([str(files / source), name, "--quiet", *options]) == 2
    assert message in capsys.readouterr().err


def test_labels_choose_the_gray_of_ppa(files):
    def change(content):
        for entry in content["annotations"]:
            entry["rank_label"] = 4 - min(4, int(entry["rank_score"]))

    assert run(files, "pred.json", "--rank-by", "rank_score", "--metrics", "mae:ppa") == 2
    edit(files / "pred.json", change)
    assert run(files, "pred.json", "--metrics", "mae:ppa") == 0
    assert result(files)["variants"]["mae"]["ppa"]["variant"] == "ppa@ppa"


def test_the_list_states_every_rule(capsys):
    assert main(["--list"]) == 0
    text = capsys.readouterr().out
    assert all(
        f"{metric} {name}" in text for metric, names in reference()["variants"].items() for name in names
    )
