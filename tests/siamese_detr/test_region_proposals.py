"""EdgeBoxes against recorded boxes, and what happens on images without edges."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from PIL import Image

from sor_ppa.siamese_detr.region_proposals import (
    DENSEST,
    EdgeBoxProposer,
    edge_boxes,
    gradient_edges,
    make_proposer,
    sparse_edges,
)
from tests.parity import parity_dir

from .published import make_cfg

cv2 = pytest.importorskip("cv2")
contrib = pytest.mark.skipif(
    not hasattr(cv2, "ximgproc"), reason="needs opencv-contrib-python-headless: this OpenCV has no ximgproc"
)


def squares() -> np.ndarray:
    image = np.full((120, 160, 3), 40, np.uint8)
    image[20:90, 30:80] = (200, 60, 60)
    image[50:110, 100:150] = (60, 200, 80)
    return image


@contrib
@pytest.mark.parametrize("index", range(4))
def test_boxes_equal_the_recorded(index):
    folder = parity_dir("siamese_detr")
    spec = json.loads((folder / "edgeboxes_stage.json").read_text())["cases"][index]
    with np.load(folder / "edgeboxes_stage.npz") as data:
        arrays = {k.split("/")[1]: v for k, v in data.items() if k.startswith(f"case{index}/")}
    boxes, scores = edge_boxes(
        arrays["edges_u8"] / 255, arrays["orientation_milli"] / 1000, spec["max_boxes"]
    )
    assert len(boxes) == spec["n"]
    np.testing.assert_array_equal(boxes, arrays["stored_boxes_xyxy"])
    np.testing.assert_allclose(scores, arrays["scores"].ravel(), rtol=1e-5)


@contrib
def test_gradient_boxes_find_the_objects():
    boxes, scores = EdgeBoxProposer(max_boxes=50).propose(squares())
    assert (np.diff(scores) <= 1e-6).all()
    for target in ((30, 20, 80, 90), (100, 50, 150, 110)):
        overlap = np.minimum(boxes[:, 2:], target[2:]) - np.maximum(boxes[:, :2], target[:2])
        inter = overlap.clip(0).prod(1)
        area = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (target[2] - target[0]) * (target[3] - target[1])
        assert (inter / (area - inter)).max() > 0.7


@contrib
@pytest.mark.parametrize("shape", [(64, 64), (1, 1), (2, 400), (300, 5)])
def test_an_image_without_edges_gives_its_central_half(shape):
    boxes, scores = EdgeBoxProposer().propose(np.full((*shape, 3), 127, np.uint8))
    height, width = shape
    assert boxes.tolist() == [[width // 4, height // 4, width // 4 * 3, height // 4 * 3]]
    assert scores.tolist() == [0.0]


@contrib
def test_boxes_lie_in_the_image(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(squares()).save(path)
    boxes, _ = EdgeBoxProposer()(str(path))
    assert (boxes >= 0).all()
    assert (boxes[:, 2] <= 160).all()
    assert (boxes[:, 3] <= 120).all()


@contrib
def test_the_proposer_can_be_sent_to_another_process():
    proposer = pickle.loads(pickle.dumps(EdgeBoxProposer(7)))
    assert len(proposer.propose(squares())[0]) <= 7


def test_gradient_edges_are_thin_and_point_across_the_edge():
    image = np.zeros((40, 40, 3), np.uint8)
    image[:, 20:] = 255
    edges, orientation = gradient_edges(image)
    assert 1 <= (edges[20] > 0.5).sum() <= 2
    strong = edges > 0.5
    np.testing.assert_allclose(np.sin(orientation[strong]), 0, atol=1e-3)


def test_random_boxes_need_no_proposer():
    cfg = make_cfg("SiameseDETR")
    cfg.INPUT.TWO_VIEWS.PROPOSALS.METHOD = "random"
    assert make_proposer(cfg)[0] is None


def test_structured_edges_without_a_forest_are_refused():
    cfg = make_cfg("SiameseDETR")
    cfg.INPUT.TWO_VIEWS.PROPOSALS.METHOD = "edge_boxes"
    with pytest.raises(ValueError, match=r"EDGE_MODEL: expected OpenCV"):
        make_proposer(cfg)


@contrib
def test_a_missing_forest_is_named():
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yml\.gz: expected"):
        EdgeBoxProposer(edge_model="nowhere.yml.gz")


def test_gradient_edges_of_noise_are_few():
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    edges, _ = gradient_edges(noise)
    assert 0 <= np.count_nonzero(edges) <= DENSEST * edges.size


def test_few_edges_stay_as_they_are_but_for_scraps():
    edges = np.zeros((100, 100), np.float32)
    edges[20, 10:60] = 0.5
    edges[70, 70:73] = 0.9
    expected = edges.copy()
    expected[70] = 0
    np.testing.assert_array_equal(sparse_edges(edges), expected)
