"""The selection of detections against the published post-processing."""

from __future__ import annotations

import torch

from sor_ppa.layers.detr.detections import select_detections
from tests.salience_detr.units import case, two_images, unit


def test_detections_equal_the_published() -> None:
    predictions, _ = two_images()
    found = select_detections(predictions.logits[0], predictions.boxes[0], case("postprocess")["topk"])
    for i, (height, width) in enumerate(case("postprocess")["sizes_hw"]):
        unit().close(f"post{i}_scores", found.scores[i])
        unit().equal(f"post{i}_labels", found.labels[i])
        unit(1e-5).close(f"post{i}_boxes", found.boxes[i] * torch.tensor([width, height, width, height]))
