"""The command, end to end on small folders."""

from __future__ import annotations

import csv
import json
import unicodedata

import cv2
import numpy as np
import pytest
from detectron2.data import DatasetCatalog

from sor_ppa.evaluation import RankingScorer, paint
from sor_ppa.evaluation.command import pair_with_images
from sor_ppa.evaluation.predictions import SavedPredictions
from sor_ppa.evaluation.segmentations import encode_masks, to_rle

from .cases import cases, reference
from .command import IDS, edit, result, run

NAME = "command_test"


def expected(metric, name):
    scorer = RankingScorer(variants={metric: [name]})
    for case_id in IDS:
        scorer.add_image(cases()[case_id].image())
    return scorer.result()[metric][name]


def check_sa_sor(files, *options):
    assert run(files, "pred.json", *options) == 0
    assert result(files)["variants"]["sa_sor"]["irsr"]["value"] == expected("sa_sor", "irsr")["value"]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_every_variant_of_instances(files, workers, capsys):
    options = ["--metrics", "all", "--variants", "all", "--workers", workers, "--strict"]
    assert run(files, "pred.json", *options) == 0
    variants = result(files)["variants"]
    for metric, names in reference()["variants"].items():
        for name in names:
            assert variants[metric][name] == json.loads(json.dumps(expected(metric, name))), name
    table = capsys.readouterr().out
    assert "psr@area" in table
    assert "7 of 7 scored" in table


def test_all_rules_on_maps_and_detection_measures(files, capsys):
    assert run(files, "maps", "--metrics", "all", "--variants", "all", "--strict") == 0
    found = result(files)
    assert found["kind"] == "maps"
    for metric, rule in (("sor", "assr"), ("mae", "assr"), ("sa_sor", "sr_old"), ("ndcg", "ijcv_exp")):
        value = found["variants"][metric][f"{rule}@map"]["value"]
        assert value == expected(metric, f"{rule}@assr")["value"], metric
    assert set(found["sod"]) >= {"mae", "s_measure", "weighted_f", "e_max", "f_max"}
    assert "pysodmetrics" in capsys.readouterr().out


def test_maps_of_the_rank_command_beside_its_drawings(files):
    assert run(files, "maps") == 0
    wanted = result(files)["variants"]
    for path in list((files / "maps").iterdir()):
        path.with_name(f"{path.stem}_ranked.png").write_bytes(b"")
        path.rename(path.with_name(f"{path.stem}_saliency.png"))
    assert run(files, "maps", "--strict") == 0
    assert result(files)["variants"] == wanted


def test_one_map_named_like_those_of_the_rank_command_hides_no_others(files):
    first = min((files / "maps").iterdir())
    first.rename(first.with_name(f"{first.stem}_saliency.png"))
    assert run(files, "maps", "--missing", "skip") == 0
    assert result(files)["scored"] == len(IDS) - 1


@pytest.mark.parametrize("name", ["photo.3", "cafe\u0301"])
def test_names_are_paired_with_dots_and_accents(name):
    records = [{"image_id": 5, "file_name": f"{unicodedata.normalize('NFC', name)}.jpg"}]
    tasks, problems = pair_with_images(records, SavedPredictions("instances", "rank", {name: []}, {}), "file")
    assert tasks == [(records[0], [])]
    assert not problems


@pytest.mark.parametrize("number", ["17", "0017"])
def test_a_number_is_the_id_of_its_text(number):
    records = [{"image_id": number, "file_name": "a.jpg"}]
    tasks, problems = pair_with_images(records, SavedPredictions("instances", "rank", {17: []}, {}), "file")
    assert tasks == [(records[0], [])]
    assert not problems


@pytest.mark.parametrize("source", ["pred.json", "maps"])
def test_pictures_of_the_worst_images(files, source):
    for image in json.loads((files / "truth.json").read_text())["images"]:
        (files / "photos/a").mkdir(parents=True, exist_ok=True)
        pixels = np.full((image["height"], image["width"], 3), 99, np.uint8)
        cv2.imwrite(str(files / "photos" / image["file_name"]), pixels)
    table, column = files / "a.csv", "mae:assr@map" if source == "maps" else "mae:assr@assr"
    options = ["--metrics", "mae", "--per-image", str(table), "--worst", "2"]
    where = ["--show", str(files / "worst"), "--images", str(files / "photos")]
    assert run(files, source, *options, *where) == 0
    with table.open() as lines:
        values = {row["file_name"]: float(row[column]) for row in csv.DictReader(lines)}
    worst = sorted(values, key=lambda name: -values[name])[:2]
    expected = [f"{number:03d}_{name[2:-4]}.jpg" for number, name in enumerate(worst, start=1)]
    assert sorted(path.name for path in (files / "worst").iterdir()) == expected
    assert cv2.imread(str(files / "worst" / expected[0])).std() > 0


def test_gray_levels_of_maps_as_instances(files):
    assert run(files, "maps", "--levels", "--metrics", "sa_sor", "mae") == 0
    scorer = RankingScorer(["sa_sor"])
    for case_id in IDS:
        case = cases()[case_id]
        gray = paint(case.pred, case.pred_score, "assr")
        levels = np.unique(gray[gray > 0])
        scorer.add(case.gt, case.gt_rank, gray == levels[:, None, None], levels)
    value = result(files)["variants"]["sa_sor"]["irsr"]["value"]
    assert value == scorer.result()["sa_sor"]["irsr"]["value"]


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
        content["annotations"].append({**content["annotations"][0], "attributes": {"rank": None}})

    edit(files / "truth.json", change)
    check_sa_sor(files)


def test_rank_1_is_the_most_salient_and_null_is_not_ranked(files):
    def change(content):
        for image_id in range(len(IDS)):
            entries = [entry for entry in content["annotations"] if entry["image_id"] == image_id]
            for place, entry in enumerate(sorted(entries, key=lambda entry: -entry.pop("rank_score"))):
                entry["rank"] = place + 1
        content["annotations"].append({**content["annotations"][0], "rank": None})

    edit(files / "pred.json", change)
    check_sa_sor(files)
    assert result(files)["rank_by"] == "rank"


def test_images_may_be_named_instead_of_numbered(files):
    def change(content):
        for entry in content["annotations"]:
            entry["file_name"] = f"{IDS[entry.pop('image_id')]}.jpg"
        content["images"] = []

    edit(files / "pred.json", change)
    check_sa_sor(files, "--missing", "empty")
    assert result(files)["problems"] == {"missing prediction": 1}


@pytest.fixture
def registered():
    """A registered dataset; the list holds its records."""
    records: list[dict] = []
    DatasetCatalog.register(NAME, lambda: records)
    yield records
    DatasetCatalog.remove(NAME)


def record(number, case_id, **values):
    height, width = cases()[case_id].gt.shape[1:]
    size = {"height": height, "width": width}
    return {"image_id": number, "file_name": f"{case_id}.jpg", **size, **values}


def test_a_registered_dataset_is_ground_truth(files, registered):
    for number, case_id in enumerate(IDS):
        objects = zip(encode_masks(cases()[case_id].gt), cases()[case_id].gt_rank, strict=True)
        annotations = [{"segmentation": rle, "gt_rank": rank + 7} for rle, rank in objects]
        registered.append(record(number, case_id, annotations=annotations))
    assert run(files, "maps", truth=NAME) == 0
    assert result(files)["variants"]["sor"]["assr@map"]["value"] == expected("sor", "assr@assr")["value"]


@pytest.fixture
def saliency(files, registered):
    """A registered saliency dataset whose masks are the unions of objects."""
    for number, case_id in enumerate(IDS):
        mask = files / f"{case_id}.png"
        cv2.imwrite(str(mask), cases()[case_id].gt.any(axis=0).astype(np.uint8) * 255)
        registered.append(record(number, case_id, mask_file_name=str(mask)))


@pytest.mark.usefixtures("saliency")
@pytest.mark.parametrize("options", [[], ["--metrics", "all", "--workers", "2"]])
def test_maps_are_scored_against_the_masks_of_a_saliency_dataset(files, options):
    assert run(files, "maps", "--metrics", "sod") == 0
    against_objects = result(files)
    assert against_objects["variants"] == {}
    assert run(files, "maps", *options, truth=NAME) == 0
    assert result(files)["sod"] == against_objects["sod"]
    assert {"mae", "mse", "iou_max", "biou_max", "tiou_max", "mba"} <= set(against_objects["sod"])


@pytest.mark.usefixtures("saliency")
@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("maps", ["--metrics", "sor"], "expected --metrics sod for a saliency dataset, found sor"),
        ("maps", ["--variants", "assr"], "expected --metrics sod for a saliency dataset, found assr"),
        ("maps", ["--levels"], "expected a folder of saliency maps for command_test, found levels"),
        ("pred.json", [], "expected a folder of saliency maps for command_test, found instances"),
    ],
)
def test_other_uses_of_a_saliency_dataset_are_refused(files, capsys, source, options, message):
    assert run(files, source, *options, truth=NAME) == 2
    assert message in capsys.readouterr().err


def test_labels_choose_the_gray_of_ppa(files):
    def change(content):
        for entry in content["annotations"]:
            entry["rank_label"] = 4 - min(4, int(entry["rank_score"]))

    assert run(files, "pred.json", "--rank-by", "rank_score", "--metrics", "mae:ppa") == 2
    edit(files / "pred.json", change)
    assert run(files, "pred.json", "--metrics", "mae:ppa") == 0
    assert result(files)["variants"]["mae"]["ppa"]["variant"] == "ppa@ppa"


def test_texts_that_name_images_are_names_and_not_ids():
    records = [{"image_id": 1 - number, "file_name": f"{number}.jpg"} for number in range(2)]
    given = {"0": [], "1": []}
    tasks, problems = pair_with_images(records, SavedPredictions("instances", "rank", given, {}), "file")
    assert [prediction is given[str(number)] for number, (_, prediction) in enumerate(tasks)] == [True, True]
    assert not problems


def test_file_names_of_entries_decide_if_they_contradict_ids(files):
    def change(content):
        content["images"] = []
        for entry in content["annotations"]:
            entry["file_name"] = f"{IDS[entry['image_id']]}.jpg"
            entry["image_id"] = len(IDS) - 1 - entry["image_id"]

    edit(files / "pred.json", change)
    check_sa_sor(files, "--missing", "empty")


def test_rank_scores_order_if_all_ranks_are_null(files):
    edit(files / "pred.json", lambda content: [entry.update(rank=None) for entry in content["annotations"]])
    check_sa_sor(files)


def test_polygons_without_area_are_left_out_beside_others():
    square = [2, 2, 8, 2, 8, 8, 2, 8]
    assert to_rle([square, [4, 4], [1, 1, 5, 5]], 10, 10, "x") == to_rle([square], 10, 10, "x")
