"""EdgeBoxes against recorded boxes, and what happens on images without edges."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import box_iou

from sor_ppa.siamese_detr.region_proposals import (
    DENSEST,
    EdgeBoxProposer,
    edge_boxes,
    gradient_edges,
    make_proposer,
    sparse_edges,
)
from tests.detr import arrays, manifest

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
    spec = manifest("siamese_detr", "edgeboxes_stage")["cases"][index]
    names = ("edges_u8", "orientation_milli", "stored_boxes_xyxy", "scores")
    recorded = arrays("siamese_detr", "edgeboxes_stage")
    edges, orientation, expected, confidence = (recorded[f"case{index}/{name}"] for name in names)
    boxes, scores = edge_boxes(edges / 255, orientation / 1000, spec["max_boxes"])
    assert len(boxes) == spec["n"]
    np.testing.assert_array_equal(boxes, expected)
    np.testing.assert_allclose(scores, confidence.ravel(), rtol=1e-5)


@contrib
def test_gradient_boxes_find_the_objects():
    boxes, scores = EdgeBoxProposer(max_boxes=50).propose(squares())
    assert (np.diff(scores) <= 1e-6).all()
    objects = torch.tensor([[30, 20, 80, 90], [100, 50, 150, 110]])
    assert (box_iou(torch.from_numpy(boxes), objects).amax(0) > 0.7).all()


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
    sent_to_another_process = pickle.loads(pickle.dumps(EdgeBoxProposer(7)))
    boxes, _ = sent_to_another_process(str(path))
    assert len(boxes) <= 7
    assert (boxes >= 0).all()
    assert (boxes[:, 2] <= 160).all()
    assert (boxes[:, 3] <= 120).all()


def test_gradient_edges_are_thin_and_point_across_the_edge():
    image = np.zeros((40, 40, 3), np.uint8)
    image[:, 20:] = 255
    edges, orientation = gradient_edges(image)
    assert 1 <= (edges[20] > 0.5).sum() <= 2
    strong = edges > 0.5
    np.testing.assert_allclose(np.sin(orientation[strong]), 0, atol=1e-3)


@contrib
def test_only_structured_edges_need_a_forest():
    cfg = make_cfg("SiameseDETR")
    cfg.INPUT.TWO_VIEWS.PROPOSALS.METHOD = "random"
    assert make_proposer(cfg)[0] is None
    cfg.INPUT.TWO_VIEWS.PROPOSALS.METHOD = "edge_boxes"
    with pytest.raises(ValueError, match=r"EDGE_MODEL: expected OpenCV"):
        make_proposer(cfg)
    cfg.INPUT.TWO_VIEWS.PROPOSALS.EDGE_MODEL = "nowhere.yml.gz"
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yml\.gz: expected"):
        make_proposer(cfg)


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
