"""``sor-ppa compare``, end to end on small files."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from sor_ppa import cli
from tests.evaluation.conftest import files  # noqa: F401  (a fixture)


class Balanced(HTMLParser):
    """Checks that every element is closed, and collects what other files the page names."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.tags: list[str] = []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def run(folder: Path, *words: object) -> int:
    where = ["--truth", folder / "truth.json", "--output", folder / "out", "--quiet", "--workers", 1]
    return cli.main(["compare", *(str(word) for word in (*where, *words))])


@pytest.fixture
def folder(files: Path) -> Path:  # noqa: F811
    """Predictions of two programs, and photos."""
    content = json.loads((files / "pred.json").read_text())
    content["annotations"] = content["annotations"][::2]
    (files / "half.json").write_text(json.dumps(content))
    for image in json.loads((files / "truth.json").read_text())["images"]:
        (files / "photos/a").mkdir(parents=True, exist_ok=True)
        pixels = np.full((image["height"], image["width"], 3), 99, np.uint8)
        cv2.imwrite(str(files / "photos" / image["file_name"]), pixels)
    return files


def test_page_and_json_of_files_and_maps(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"<A&B>={folder / 'pred.json'}", folder / "half.json", folder / "maps"]
    assert run(folder, *words, "--images", folder / "photos") == 0
    out, err = capsys.readouterr()
    assert "<A&B>" in out
    assert not err
    page = Balanced((folder / "out/compare.html").read_text("utf-8"))
    assert {"svg", "circle", "img", "table", "details"} <= set(page.tags)
    assert "script" not in page.tags
    assert page.tags.count("details") == 3 + 1, "groups by SA-SOR, SOR and MAE, and all definitions"
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    results = json.loads((folder / "out/compare.json").read_text())
    assert [method["name"] for method in results["methods"]] == ["<A&B>", "half", "maps"]
    assert len(results["pairs"]) == len(results["means"])  # three pairs, three methods
    assert {entry["method"] for entry in results["thresholds"]} == {"<A&B>", "half"}
    tested = next(entry for entry in results["pairs"] if entry["metric"] == "sa_sor" and entry["images"])
    assert tested["p_holm"] == tested["p"], "pairs with maps have no SA-SOR"


@pytest.mark.parametrize("score", [97.5, None])
def test_without_confidences_in_0_to_1_there_are_no_curves(
    folder: Path, capsys: pytest.CaptureFixture[str], score: float | None
) -> None:
    content = json.loads((folder / "pred.json").read_text())
    content["annotations"][0].pop("score")
    content["annotations"][0] |= {} if score is None else {"score": score}
    (folder / "pred.json").write_text(json.dumps(content))
    assert run(folder, folder / "pred.json") == 0
    results = json.loads((folder / "out/compare.json").read_text())
    assert results["thresholds"] == []
    assert results["methods"][0]["calibration"]["confidence"] is None
    line = f"[0]: score: expected a number in [0, 1], found {score or 'none'}"
    assert line in capsys.readouterr().err


def test_a_curve_stands_below_its_metric(folder: Path) -> None:
    truth = json.loads((folder / "truth.json").read_text())
    for entry in truth["annotations"]:
        entry["rank"] = 1 if entry["rank"] == 1 else None
    (folder / "truth.json").write_text(json.dumps(truth))
    assert run(folder, folder / "pred.json") == 0
    page = (folder / "out/compare.html").read_text("utf-8")
    rows = re.findall("<tr>.*?</tr>", page[page.index('class="charts"') :])
    assert [re.sub("<.*?>", "", cell) for cell in rows[1].split("<td")[1:]][1].endswith("-")


def test_one_method_alone_has_a_page_without_pairs(folder: Path) -> None:
    assert run(folder, folder / "pred.json") == 0
    page = (folder / "out/compare.html").read_text("utf-8")
    Balanced(page)
    assert "One method on truth.json" in page
    assert "Differences between methods" not in page


def test_without_photos_a_line_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, folder / "pred.json", folder / "half.json") == 0
    assert re.search(r"no pictures: expected the photo a/\w+\.jpg, found none", capsys.readouterr().err)
    assert not Balanced((folder / "out/compare.html").read_text("utf-8")).sources


def test_a_missing_photo_costs_its_picture_only(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [folder / "pred.json", folder / "half.json", "--images", folder / "photos"]
    assert run(folder, *words) == 0
    drawn = len(Balanced((folder / "out/compare.html").read_text("utf-8")).sources)
    worst = json.loads((folder / "out/compare.json").read_text())["largest_differences"][0]["image"]
    (folder / "photos" / worst).unlink()
    assert run(folder, *words) == 0
    assert (
        f"no picture: expected the photo {folder / 'photos' / worst}, found none" in capsys.readouterr().err
    )
    assert 0 < len(Balanced((folder / "out/compare.html").read_text("utf-8")).sources) < drawn


def test_missing_predictions_must_be_accepted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    next((folder / "maps").iterdir()).unlink()
    assert run(folder, folder / "maps", folder / "pred.json") == 1
    assert "maps: missing prediction: 1" in capsys.readouterr().err
    assert run(folder, folder / "maps", folder / "pred.json", "--missing", "skip") == 0


def test_a_photo_that_cannot_be_drawn_costs_its_picture_only(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = sorted((folder / "photos/a").iterdir())
    for photo in found[::2]:
        photo.write_text("no picture")
    for photo in found[1::2]:
        cv2.imwrite(str(photo), np.zeros((20, 30, 3), np.uint8))
    words = [folder / "pred.json", folder / "half.json", "--images", folder / "photos"]
    assert run(folder, *words) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines
    assert all(line.startswith("no picture: ") for line in lines)
    assert any("expected the size of its annotations" in line for line in lines)
    assert not Balanced((folder / "out/compare.html").read_text("utf-8")).sources


def test_an_unusable_folder_is_found_before_the_work(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "out").write_text("a file")
    assert run(folder, folder / "pred.json") == 2
    out, err = capsys.readouterr()
    assert not out
    assert err == f"sor-ppa compare: [Errno 17] File exists: '{folder / 'out'}'\n"


def test_a_method_without_a_usable_image_fails(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (folder / "maps").iterdir():
        cv2.imwrite(str(path), np.zeros((20, 30), np.uint8))
    assert run(folder, folder / "maps", folder / "pred.json") == 1
    lines = capsys.readouterr().err.splitlines()
    assert "sor-ppa compare: maps: expected at least one image with a usable prediction, found none" in lines


def test_other_file_names_of_the_same_ids_are_reported(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((folder / "pred.json").read_text())
    content["images"] = [{"id": number, "file_name": f"other{number}.jpg"} for number in content["images"]]
    (folder / "pred.json").write_text(json.dumps(content))
    assert run(folder, folder / "pred.json") == 0
    assert f"pred: other file name: {len(content['images'])}\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["A="], "predictions: expected [NAME=]PATH, found A="),
        (["pred.json", "--workers", "0"], "--workers: expected at least 1, found 0"),
        (["none.json"], "none.json: expected a folder of maps, or a JSON or Parquet file, found nothing"),
        (["A=pred.json", "A=half.json"], "expected a name of its own for each (NAME=PATH), found A twice"),
        (["pred.json", "--differences", "-1"], "--differences: expected at least 0, found -1"),
        (["truth.parquet"], "truth.parquet: expected a Parquet file, found one that pyarrow cannot read"),
    ],
)
def test_mistakes_are_one_line(
    folder: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "truth.parquet").write_bytes(b"no table")
    placed = [re.sub(r"[\w.]+$", lambda name: str(folder / name[0]), w) if "." in w else w for w in words]
    assert run(folder, *placed) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("sor-ppa compare: ")
    assert message in line
