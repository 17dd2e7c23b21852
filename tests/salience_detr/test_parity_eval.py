"""Inference, stage by stage: the recorded cases ``eval_single`` and ``eval_batch`` of the published model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sor_ppa.layers.detr.detections import select_detections
from sor_ppa.layers.detr.positions import sine_position_map
from sor_ppa.salience_detr.proposals import default_boxes
from sor_ppa.salience_detr.salience import level_budget

from .reference import Checks, arrays, images, info, recorded_order, reference_model


class Trace(Checks):
    """Everything that a case names, from one forward pass."""

    def __init__(self, model: torch.nn.Module, name: str) -> None:
        super().__init__(arrays(name), info(name)["float64_deviation"])
        transformer = model.transformer
        self.attended: list[torch.Tensor] = []
        self.layers: list[torch.Tensor] = []
        self.decoder: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.projected: list[torch.Tensor] = []
        self.encoded: list[torch.Tensor] = []
        hooks = {
            transformer.encoder: lambda m, a, out: self.encoded.append(out),
            transformer.enc_output_norm: lambda m, a, out: self.projected.append(out),
            **dict.fromkeys(transformer.encoder.layers, self._encoder_layer),
        }
        for layer in transformer.decoder.layers:
            hooks[layer] = lambda m, a, out: self.decoder.append((out, a[3][:, :, 0]))
        handles = [module.register_forward_hook(hook) for module, hook in hooks.items()]
        transformer.training = True  # predictions of all decoder layers; changes nothing else
        try:
            with torch.no_grad(), recorded_order(self.expected["proposal_index"]) as self.chosen:
                self.pictures = images(name)
                self.batch = model.batch(self.pictures)
                self.backbone = list(model.backbone(self.batch.tensor).values())
                self.maps, self.levels = model.feature_maps(self.batch)
                self.output = transformer(self.maps, self.levels)
        finally:
            transformer.training = False
            for handle in handles:
                handle.remove()

    def _encoder_layer(self, module: Any, args: Any, out: torch.Tensor) -> None:
        self.layers.append(out)
        self.attended.append(module.attended(args[4]))


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return reference_model().eval()


@pytest.fixture(scope="module", params=["eval_single", "eval_batch"])
def trace(request: pytest.FixtureRequest, model: torch.nn.Module) -> Trace:
    return Trace(model, request.param)


def test_input(trace: Trace) -> None:
    height, width = trace.batch.image_sizes[0]
    trace.sample("input_sample", trace.batch.tensor[:1, :, :height, :width])


def test_backbone_and_neck(trace: Trace) -> None:
    for name, maps in (("backbone", trace.backbone), ("neck", trace.maps)):
        for i, feature in enumerate(maps):
            trace.equal(f"{name}_{i}_shape", feature.shape)
            trace.sample(f"{name}_{i}", feature)


def test_geometry(trace: Trace) -> None:
    trace.equal("spatial_shapes", trace.levels.shapes)
    trace.close("valid_ratios", trace.levels.valid_ratios)
    for i, padding in enumerate(trace.levels.paddings):
        trace.equal(f"mask_{i}_padded_count", padding.flatten(1).sum(1))
        position = sine_position_map(padding).masked_fill(padding.unsqueeze(1), 0.0)
        trace.sample(f"pos_{i}", position)


def test_default_boxes(trace: Trace) -> None:
    boxes = default_boxes(trace.levels)
    logits = boxes.logits
    trace.equal("output_proposals_invalid_count", torch.isinf(logits).any(-1).sum(1))
    trace.sample("output_proposals_finite", logits.masked_fill(torch.isinf(logits), 0.0))


def test_salience(trace: Trace) -> None:
    selection = trace.output.selection
    for i, logits in enumerate(selection.logits):
        trace.close(f"salience_{i}", logits)
    trace.sample("foreground_score", selection.token_logits)
    trace.sample("backbone_output_memory", trace.projected[0])


def test_selected_tokens(trace: Trace) -> None:
    selection = trace.output.selection
    trace.equal("focus_token_nums", selection.focus)
    trace.equal("layer_token_nums", selection.layer_counts)
    budget = torch.tensor(level_budget(trace.levels, (0.4, 0.8, 1.0, 1.0)))
    np.testing.assert_array_equal(budget.sum(1), selection.focus)
    trace.equal("level_token_nums", budget.amax(0).expand_as(budget))
    for i, count in enumerate(selection.layer_counts):
        trace.equal(f"inds_{i}_sorted", selection.indices[:, :count].sort(1).values)
    score = selection.token_logits.gather(1, selection.indices)
    trace.close("selected_score_sorted", score.sort(1, descending=True).values)


def test_encoder_and_fusion(trace: Trace) -> None:
    indices = trace.output.selection.indices
    for i, out in enumerate(trace.layers):
        index = indices[:, : out.shape[1]]
        trace.equal(f"enc{i}_sa_tokens_sorted", index.gather(1, trace.attended[i]).sort(1).values)
        if trace.levels.padding is not None:
            out = out.masked_fill(trace.levels.padding.gather(1, index).unsqueeze(-1), 0.0)
        order = index.argsort(1).unsqueeze(-1).expand_as(out)
        trace.equal(f"enc{i}_query_shape", out.shape)
        trace.sample(f"enc{i}_query", out.gather(1, order))
    trace.equal("encoder_memory_shape", trace.encoded[0].shape)
    trace.sample("encoder_memory", trace.encoded[0])
    for i, feature in enumerate(trace.output.maps):
        trace.sample(f"repneck_{i}", feature)


def test_proposals(trace: Trace) -> None:
    proposals = trace.output.proposals
    swapped = (trace.chosen[0].numpy() != trace.expected["proposal_index"]).sum()
    assert swapped <= 4, f"{swapped} proposals out of order"
    trace.close("proposal_score", proposals.logits.amax(-1))
    trace.equal("proposal_label", proposals.logits.argmax(-1))
    trace.sample("proposal_class_sample", proposals.logits)
    trace.close("proposal_box", proposals.boxes)
    trace.sample("output_memory", trace.projected[1])
    assert int(trace.expected["topk_count"][0]) == min(3600, sum(trace.levels.sizes))


def test_decoder(trace: Trace) -> None:
    output = trace.output
    for i, (query, reference) in enumerate(trace.decoder):
        trace.sample(f"dec{i}_logits", output.logits[i])
        trace.sample(f"dec{i}_boxes", output.boxes[i])
        trace.sample(f"dec{i}_query", query)
        trace.sample(f"dec{i}_ref", reference)
    trace.close("dec_last_boxes", output.boxes[-1])
    best = output.logits[-1].amax(-1).topk(20, dim=1).indices
    trace.equal("dec_last_top20_query", best)
    rows = best.unsqueeze(-1)
    trace.close("dec_last_top20_logits", output.logits[-1].gather(1, rows.expand(-1, -1, 91)))
    trace.close("dec_last_top20_boxes", output.boxes[-1].gather(1, rows.expand(-1, -1, 4)))


def test_detections(trace: Trace) -> None:
    found = select_detections(trace.output.logits[-1], trace.output.boxes[-1], 300)
    for row, picture in enumerate(trace.pictures):
        height, width = picture.shape[-2:]
        trace.close(f"det{row}_scores", found.scores[row, :50])
        trace.equal(f"det{row}_labels", found.labels[row, :50])
        boxes = found.boxes[row, :50] * torch.tensor([width, height, width, height])
        trace.close(f"det{row}_boxes", boxes)


def test_the_model_gives_the_published_detections(model: torch.nn.Module) -> None:
    checks = Checks(arrays("eval_single"), {"det0_scores": 3e-7, "det0_boxes": 0.0024})
    with torch.no_grad(), recorded_order(checks.expected["proposal_index"]):
        instances = model([{"image": images("eval_single")[0]}])[0]["instances"]
    assert len(instances) == 300
    checks.close("det0_scores", instances.scores[:50])
    checks.equal("det0_labels", instances.pred_classes[:50])
    checks.close("det0_boxes", instances.pred_boxes.tensor[:50])


def test_an_answer_does_not_depend_on_the_batch(model: torch.nn.Module) -> None:
    first, second = images("eval_batch")
    with torch.no_grad():
        alone = model([{"image": second}])[0]["instances"]
        together = model([{"image": first}, {"image": second}])[1]["instances"]
    assert torch.equal(alone.pred_boxes.tensor, together.pred_boxes.tensor)
    assert torch.equal(alone.scores, together.scores)
