"""The routes, through HTTP but without a socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient

from sor_ppa.data.builtin import DatasetSource
from sor_ppa.data.check import check_dataset
from sor_ppa.data.masks import segmentation_mask
from tests.fake_model import fake_predictor, picture

from .running import JPEG, document, encoded, running


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with running(tmp_path / "work") as client:
        assert client.post("/api/photos?name=a.png", content=encoded(), headers=JPEG).status_code == 201
        yield client


def put(client: TestClient, *objects: dict, annotator: str = "me", version: int = 0) -> dict:
    body = document(*objects, version=version).model_dump(by_alias=True)
    answer = client.put(f"/api/photos/a.png/annotation?annotator={annotator}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_rank_answers_as_the_predictor(client: TestClient) -> None:
    answer = client.post("/rank", content=encoded(seed=3), headers=JPEG)
    assert answer.json() == {**fake_predictor()(picture(seed=3)).to_json(), "model": "fake"}


def test_rank_without_doubtful_objects_has_no_gaps(client: TestClient) -> None:
    scores = [o.score for o in fake_predictor()(picture()).objects]
    answer = client.post(f"/rank?confidence={max(scores)}", content=encoded(), headers=JPEG).json()
    assert [o["rank"] for o in answer["objects"]] in ([1], [None])
    assert all(o["score"] >= round(max(scores), 6) for o in answer["objects"])


@pytest.mark.parametrize(("form", "shape"), [("picture", (60, 80, 3)), ("map", (60, 80))])
def test_rank_draws(client: TestClient, form: str, shape: tuple[int, ...]) -> None:
    answer = client.post(f"/rank?format={form}", content=encoded(), headers=JPEG)
    assert cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED).shape == shape


def test_models_name_the_default_and_the_loaded_one(client: TestClient) -> None:
    client.post("/rank", content=encoded(), headers=JPEG)
    rows = {row["name"]: row for row in client.get("/models").json()}
    assert [rows["fake"][key] for key in ("task", "installed", "loaded", "default")] == [
        "rank",
        True,
        True,
        True,
    ]
    assert not rows["contrast"]["loaded"]


@pytest.mark.parametrize("name", ["nothing", "/etc/passwd", "../other/a.png"])
def test_models_are_not_files_of_the_server(client: TestClient, name: str) -> None:
    assert client.post(f"/rank?model={name}", content=encoded(), headers=JPEG).status_code == 404


def test_health_and_metrics(client: TestClient) -> None:
    client.post("/rank", content=encoded(), headers=JPEG)
    client.get("/does/not/exist")
    assert client.get("/health").json()["status"] == "ok"
    text = client.get("/metrics").text
    assert 'sor_ppa_requests_total{route="/rank",status="200"} 1\n' in text
    assert 'sor_ppa_requests_total{route="other",status="404"} 1\n' in text
    assert "sor_ppa_pictures_total 1\n" in text


def test_every_route_is_described(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    page = client.get("/docs").text
    assert all(route["description"] for methods in paths.values() for route in methods.values())
    assert all(path in page for path in paths)
    assert "http" not in page.replace("over HTTP", "")


def test_the_same_photo_is_kept_once(client: TestClient) -> None:
    again = client.post("/api/photos?name=b.png", content=encoded(), headers=JPEG)
    assert (again.status_code, again.json()["id"]) == (200, "a.png")
    other = client.post("/api/photos?name=a.png", content=encoded(seed=1), headers=JPEG)
    assert (other.status_code, other.json()["id"]) == (201, "a_2.png")


def test_the_photo_itself_is_served(client: TestClient) -> None:
    answer = client.get("/api/photos/a.png/image")
    assert (answer.content, answer.headers["content-type"]) == (encoded(), "image/png")
    small = client.get("/api/photos/a.png/thumbnail").content
    assert cv2.imdecode(np.frombuffer(small, np.uint8), cv2.IMREAD_COLOR).shape == (60, 80, 3)


def test_proposals_are_saved_once(client: TestClient) -> None:
    first = client.post("/api/photos/a.png/rank").json()
    assert (first["version"], first["edited"], first["model"]) == (1, False, "fake")
    assert {o["rank"]: o["salient"] for o in first["objects"]} == {1: True, 2: True, None: False}
    second = client.post("/api/photos/a.png/rank").json()
    assert second["proposal"]["objects"] == first["objects"]
    assert client.get("/api/photos/a.png/annotation").json() == first


def test_a_stale_version_is_refused(client: TestClient) -> None:
    saved = put(client, {"left": 0, "rank": 1})
    put(client, {"left": 20, "rank": 1}, version=1)
    body = document({"left": 40, "rank": 1}, version=1).model_dump(by_alias=True)
    answer = client.put("/api/photos/a.png/annotation", json=body)
    assert answer.status_code == 409
    assert answer.json()["current"]["objects"] != saved["objects"]
    assert answer.json()["current"]["version"] == 2


def test_saving_again_after_a_lost_answer_is_no_conflict(client: TestClient) -> None:
    saved = put(client, {"left": 0, "rank": 1})
    assert put(client, {"left": 0, "rank": 1}, version=0) == saved


def test_documents_show_outlines_and_boxes(client: TestClient) -> None:
    shown = put(client, {"left": 20, "rank": 4}, {"left": 40, "rank": 9, "state": "rejected"})["objects"]
    assert shown[0]["box"] == [20, 10, 30, 20]
    assert sorted(zip(*[iter(shown[0]["polygons"][0])] * 2, strict=True)) == [
        (20, 10),
        (20, 20),
        (30, 10),
        (30, 20),
    ]
    assert [o["rank"] for o in shown] == [1, None]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"objects": [{"id": "x", "mask": {"size": [60, 80], "counts": "0"}}]},
            "objects.0.mask: expected runs",
        ),
        (
            {"objects": [{"id": "x", "mask": {"size": [60, 80], "counts": [4800]}}]},
            "expected a mask with pixels",
        ),
        ({"objects": [{"id": "x", "mask": {"size": [3, 3], "counts": [0, 9]}}]}, "expected [60, 80]"),
        ({"width": 100, "height": 100, "objects": []}, "width, height: expected 80 x 60, found 100 x 100"),
        ({"version": -1}, "version: "),
        ({"objects": [{"id": "x" * 65}]}, "objects.0.id: "),
    ],
)
def test_unusable_documents_are_refused(client: TestClient, change: dict, message: str) -> None:
    body = {**document().model_dump(by_alias=True), **change}
    answer = client.put("/api/photos/a.png/annotation", json=body)
    assert answer.status_code == 422
    assert message in answer.json()["error"]


def test_too_many_objects_are_refused(tmp_path: Path) -> None:
    with running(tmp_path, objects=1) as client:
        client.post("/api/photos?name=a.png", content=encoded(), headers=JPEG)
        body = document({"left": 0}, {"left": 20}).model_dump(by_alias=True)
        assert client.put("/api/photos/a.png/annotation", json=body).status_code == 422


@pytest.mark.parametrize("name", ["..", "a/b", ".hidden", "", "x" * 61, "a\x00b"])
def test_annotators_are_names_of_folders(client: TestClient, name: str) -> None:
    answer = client.get("/api/photos/a.png/annotation", params={"annotator": name})
    assert answer.status_code == 422


def test_segmenting_and_polygons_answer_masks(client: TestClient) -> None:
    photo = np.full((60, 80, 3), 40, np.uint8)
    photo[20:40, 30:60] = (40, 200, 240)
    client.post("/api/photos?name=s.png", content=cv2.imencode(".png", photo)[1].tobytes(), headers=JPEG)
    found = client.post("/api/photos/s.png/segment", json={"points": [{"x": 45, "y": 30}]}).json()
    assert found["box"] == [30, 20, 60, 40]
    drawn = client.post("/api/photos/s.png/polygon", json={"polygons": [[0, 0, 90, 0, 90, 10, 0, 10]]}).json()
    assert segmentation_mask(drawn["mask"], 60, 80).sum() == 800


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("segment", {"points": [{"x": 1, "y": 1, "positive": False}]}),
        ("segment", {"points": [{"x": 1e9, "y": 1}]}),
        ("segment", {"points": [], "mask": {"size": [2, 2], "counts": [0, 4]}}),
        ("polygon", {"polygons": [[0, 0, 1, 1]]}),
        ("polygon", {"polygons": [[90, 90, 99, 90, 99, 99]]}),
        ("polygon", {"polygons": [[0, 0, 80, 0, 80, 60] * 6000]}),
        ("polygon", {"polygons": [[0, 0, 1, 0, 1, 1]] * 30_000}),
    ],
)
def test_unusable_edits_are_refused(client: TestClient, route: str, body: dict) -> None:
    answer = client.post(f"/api/photos/a.png/{route}", json=body)
    assert answer.status_code == 422
    assert list(answer.json()) == ["error"]


def test_drawings_of_a_document(client: TestClient) -> None:
    put(client, {"left": 0, "rank": 2}, {"left": 60, "rank": 1})
    answer = client.get("/api/photos/a.png/saliency")
    gray = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert (gray[15, 5], gray[15, 65], gray[0, 0]) == (229, 255, 0)
    assert client.get("/api/photos/a.png/picture").headers["content-type"] == "image/jpeg"
    crop = client.get("/api/photos/a.png/crop?aspect=1:1").json()
    assert (crop["kept"], crop["lost"]) == (["o2"], ["o1"])
    assert client.get("/api/photos/a.png/crop?aspect=wide").status_code == 422


def test_what_was_saved_is_a_dataset_without_issues(client: TestClient, tmp_path: Path) -> None:
    client.post("/api/photos?name=b.png", content=encoded(seed=1), headers=JPEG)
    client.post("/api/photos/b.png/rank")  # nobody looked at it
    put(
        client,
        {"left": 0, "rank": 1},
        {"left": 20, "rank": 2},
        {"left": 40, "state": "rejected"},
        {"left": 60},
    )
    assert client.post("/api/consensus").json() == {
        "photos": 1,
        "objects": 3,
        "method": "borda",
        "damaged": [],
    }
    source = DatasetSource("mine_train", str(tmp_path / "work"), "coco", "train")
    records, issues = check_dataset(source)
    assert issues == []
    assert [item.rank for item in records[0].objects] == [1, 0, -1]


def test_the_dataset_is_written_at_the_end(tmp_path: Path) -> None:
    with running(tmp_path) as client:
        client.post("/api/photos?name=a.png", content=encoded(), headers=JPEG)
        put(client, {"left": 0, "rank": 1})
    content = json.loads((tmp_path / "annotations" / "rank_train.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["images/a.png"]


@pytest.mark.parametrize("form", ["labelstudio", "cvat"])
@pytest.mark.parametrize("masks", ["rle", "polygons"])
def test_export_and_import_change_nothing(client: TestClient, tmp_path: Path, form: str, masks: str) -> None:
    saved = put(client, {"left": 0, "rank": 1, "score": 0.25}, {"left": 40, "state": "rejected"})
    content = client.get(f"/api/export?format={form}&masks={masks}").json()
    assert client.post(f"/api/import?format={form}", json=content).json()["unchanged"] == 1
    with running(tmp_path / "other") as other:
        other.post("/api/photos?name=a.png", content=encoded(), headers=JPEG)
        assert other.post(f"/api/import?format={form}", json=content).json()["imported"] == 1
        assert other.get("/api/photos/a.png/annotation").json()["objects"] == saved["objects"]


def test_import_does_not_overwrite_unasked(client: TestClient) -> None:
    put(client, {"left": 0, "rank": 1})
    content = client.get("/api/export").json()
    put(client, {"left": 20, "rank": 1}, version=1)
    assert client.post("/api/import", json=content).json()["kept"] == ["a.png"]
    assert client.post("/api/import?replace=true", json=content).json()["imported"] == 1
    assert client.get("/api/photos/a.png/annotation").json()["objects"][0]["box"] == [0, 10, 10, 20]


def test_import_of_other_photos_reads_no_file_of_the_server(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(encoded())
    put(client, {"left": 0, "rank": 1})
    content = client.get("/api/export").json()
    content["images"][0]["file_name"] = "../secret.png"
    assert client.post("/api/import", json=content).json()["unknown"] == ["../secret.png"]


@pytest.mark.parametrize("form", ["coco", "labelstudio", "cvat"])
@pytest.mark.parametrize(
    "content", [[], {}, 3, [3], {"images": 3}, [{"data": {"image": "a.png"}, "annotations": 3}]]
)
def test_unusable_imports_are_refused(client: TestClient, form: str, content: object) -> None:
    answer = client.post(f"/api/import?format={form}", json=content)
    assert answer.status_code == 422 or answer.json()["imported"] == 0


def test_agreement_of_two(client: TestClient) -> None:
    put(client, {"left": 0, "rank": 1}, {"left": 20, "rank": 2}, annotator="ann")
    put(client, {"left": 0, "rank": 2}, {"left": 20, "rank": 1}, annotator="ben")
    found = client.get("/api/agreement").json()
    assert found["annotators"] == ["ann", "ben"]
    assert [(p["a"], p["b"], p["photos"], p["kendall_tau"], p["sa_sor"]) for p in found["pairs"]] == [
        ("ann", "ben", 1, -1, -1),
        ("ben", "ann", 1, -1, -1),
    ]
    assert client.get("/api/agreement?photo=a.png").json()["photos"] == found["photos"]


def test_agreement_of_one_with_the_others(client: TestClient) -> None:
    for name, ranks in (("ann", (1, 2)), ("ben", (1, 2)), ("cem", (2, 1))):
        put(
            client,
            *({"left": left, "rank": r} for left, r in zip((0, 20), ranks, strict=True)),
            annotator=name,
        )
    each = client.get("/api/agreement").json()["photos"][0]["each"]
    assert [(row["a"], row["kendall_tau"], row["sa_sor"]) for row in each] == [
        ("ann", 0, 0),
        ("ben", 0, 0),
        ("cem", -1, -1),
    ]


def test_a_damaged_document_stops_nothing_else(client: TestClient, tmp_path: Path) -> None:
    client.post("/api/photos?name=b.png", content=encoded(seed=1), headers=JPEG)
    for name in ("ann", "ben"):
        put(client, {"left": 0, "rank": 1}, {"left": 20, "rank": 2}, annotator=name)
    broken = tmp_path / "work" / "rankings" / "ann" / "b.png.json"
    broken.write_text('{"width": ')
    (broken.parents[1] / ".hidden").mkdir()
    listed = client.get("/api/photos?annotator=ann").json()
    assert [photo["state"] for photo in listed] == ["edited", "damaged"]
    found = client.get("/api/agreement").json()
    assert (found["damaged"], found["pairs"][0]["kendall_tau"]) == (["ann/b.png.json"], 1)
    assert client.post("/api/consensus").json()["photos"] == 1
    assert "repair or delete" in client.get("/api/photos/b.png/annotation?annotator=ann").json()["error"]
    broken.unlink()
    assert client.post("/api/consensus").json()["damaged"] == []


def test_drafts_of_folders_of_one_name_are_apart(tmp_path: Path) -> None:
    found = []
    for parent in ("a", "b"):
        with running(tmp_path / parent / "photos") as client:
            found.append(client.get("/api/session").json())
    assert [session["folder"] for session in found] == ["photos", "photos"]
    assert found[0]["workspace"] != found[1]["workspace"]


def test_the_name_of_a_change_is_that_of_its_save(client: TestClient) -> None:
    body = document({"left": 0, "rank": 1}, change="abc").model_dump(by_alias=True)
    saved = client.put("/api/photos/a.png/annotation", json=body).json()
    assert client.put("/api/photos/a.png/annotation", json=document().model_dump()).json()["current"] == saved
    assert saved["change"] == "abc"
    again = {**saved, "objects": saved["objects"][:0]}  # by a program that sends back what it read
    assert client.put("/api/photos/a.png/annotation", json=again).json()["change"] == ""


def test_a_dataset_of_somebody_else_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "rank_train.json").write_text('{"images": []}')
    with pytest.raises(ValueError, match="expected a dataset that sor-ppa serve wrote"), running(tmp_path):
        pass
    assert (tmp_path / "annotations" / "rank_train.json").read_text() == '{"images": []}'
