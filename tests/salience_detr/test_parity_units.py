"""Modules and formulas of the published model: the recorded case ``unit``.

Each of its cases has inputs of its own, generated from the recipe in ``unit.json``.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sor_ppa.layers.detr.attention import GlobalAttention
from sor_ppa.layers.detr.boxes import cxcywh_to_xyxy, inverse_sigmoid, paired_giou, paired_iou, refine_boxes
from sor_ppa.layers.detr.deformable_attention import MultiScaleDeformableAttention, deformable_sampling
from sor_ppa.layers.detr.denoising import ContrastiveDenoising, Noise
from sor_ppa.layers.detr.detections import select_detections
from sor_ppa.layers.detr.layers import DecoderLayer
from sor_ppa.layers.detr.levels import Levels, Memory, build_levels
from sor_ppa.layers.detr.losses import VarifocalCriterion, soft_focal_loss, varifocal_loss
from sor_ppa.layers.detr.matching import BoxTargets, FocalCost, Predictions, box_matcher
from sor_ppa.layers.detr.mlp import MLP
from sor_ppa.layers.detr.positions import LearnedPositionEmbedding, sine_embedding, sine_position_map
from sor_ppa.salience_detr.criterion import SalienceCriterion, salience_targets
from sor_ppa.salience_detr.encoder import SalienceEncoderLayer
from sor_ppa.salience_detr.neck import ChannelMapper, RepVGGPluXNetwork
from sor_ppa.salience_detr.preprocessing import resize_as_published, resized_size
from sor_ppa.salience_detr.proposals import default_boxes, select_queries
from sor_ppa.salience_detr.salience import SaliencePredictor
from tests.parity import deterministic

from .reference import Checks, arrays, info

SHAPES = ((12, 15), (6, 8), (3, 4), (2, 2))


def uniform(key: str, shape: list[int], low: float, high: float, *_: Any) -> Tensor:
    values = deterministic()._rng(key).random(tuple(shape)) * (high - low) + low
    return torch.from_numpy(values.astype(np.float32))


def case(name: str) -> dict[str, Any]:
    return info("unit")["cases"][name]


def made(recipe: list[Any]) -> Tensor:
    """Values of a recipe: ["N", key, shape] (standard deviation 1) or [key, shape, low, high]."""
    return uniform(*recipe[1:3], -math.sqrt(3), math.sqrt(3)) if recipe[0] == "N" else uniform(*recipe)


def given(name: str, *keys: str) -> Any:
    """The inputs of a case with these keys."""
    found = [made(case(name)[key]) for key in keys]
    return found if len(keys) > 1 else found[0]


def filled(module: nn.Module, prefix: str) -> nn.Module:
    rule, state = deterministic(), module.state_dict()
    module.load_state_dict({name: rule.fill_tensor(prefix + name, value) for name, value in state.items()})
    return module.eval()


def unit(floor: float = 1e-6) -> Checks:
    return Checks(arrays("unit"), {}, floor)


def attention_padding() -> Tensor:
    padding = torch.zeros(2, 244, dtype=torch.bool)
    padding[1, 5:40] = True
    return padding


def partly_padded() -> Levels:
    """Image 0 unpadded, image 1 padded at the last third of the columns of every level."""
    return build_levels([(96, 120), (96, 80)], (96, 120), SHAPES, torch.device("cpu"))


def layer_inputs(name: str) -> tuple[Tensor, Tensor, Memory, Tensor]:
    query, positions, value, reference = given(name, "query", "query_pos", "value", "reference_points")
    return query, positions, Memory(value, replace(partly_padded(), padding=attention_padding())), reference


def objects() -> tuple[Tensor, Tensor]:
    return given("matcher", "gt_boxes"), torch.tensor(case("matcher")["gt_labels"])


def two_images() -> tuple[Predictions, BoxTargets]:
    logits, boxes = given("matcher", "pred_logits", "pred_boxes")
    gt_boxes, gt_labels = objects()
    targets = BoxTargets.pad([gt_boxes, gt_boxes[:2].flip(0)], [gt_labels, gt_labels[2:4]])
    pairs = torch.stack([logits, logits.flip(0)]), torch.stack([boxes, boxes.roll(7, 0)])
    return Predictions(pairs[0][None], pairs[1][None]), targets


def overlap(function: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    a, b = (cxcywh_to_xyxy(boxes) for boxes in given("iou_giou", "a", "b"))
    return function(a[:, None], b)


def refined() -> Tensor:
    query, boxes = given("refinement", "query", "boxes")
    return refine_boxes(filled(MLP(256, 256, 4, 3), "unit/shared/mlp.")(query), boxes, 1e-3)


def learned_position() -> Tensor:
    found = filled(LearnedPositionEmbedding(20, 128), "unit/shared/learned.")(9, 11)
    return found.T.unflatten(1, (9, 11))


MATCHER = box_matcher(FocalCost(eps=1e-6))
FORMULAS: dict[str, Callable[[], Tensor]] = {
    "learned_pos": learned_position,
    "sine_box": lambda: sine_embedding(given("sine_box_embed", "boxes")),
    "sine_point": lambda: sine_embedding(given("sine_box_embed", "boxes")[..., :2]),
    "mask_predictor": lambda: filled(SaliencePredictor(256), "unit/shared/mp.")(given("mask_predictor", "x")),
    "inverse_sigmoid": lambda: inverse_sigmoid(given("inverse_sigmoid", "x"), eps=1e-3),
    "refined": refined,
    "iou": lambda: overlap(paired_iou),
    "giou": lambda: overlap(paired_giou),
    "match_cost": lambda: MATCHER.cost(*two_images())[0, 0],
}


@pytest.mark.parametrize("key", FORMULAS)
def test_formula(key: str) -> None:
    unit().close(key, FORMULAS[key]())


@pytest.mark.parametrize("method", ["bag", "grid"])
def test_sampling(method: str) -> None:
    value, locations, weights = given("msda_core", "value", "sampling_locations", "weights")
    weights = weights / weights.sum((-2, -1), keepdim=True)
    unit().close("core_out", deformable_sampling(value, SHAPES, locations, weights, method=method))


@pytest.mark.parametrize("form", ["ref2", "ref4"])
def test_deformable_attention(form: str) -> None:
    module = filled(MultiScaleDeformableAttention(256, 4, 8, 4), "unit/shared/msda.")
    query, reference, value = given("msda_module", "query", form, "value")
    unit().close(f"msda_out_{form}", module(query, reference, value, SHAPES, attention_padding()))


def test_sine_position_map() -> None:
    padding = torch.zeros(2, 9, 11, dtype=torch.bool)
    padding[0, :, 8:] = True
    padding[0, 7:] = True
    padding[1, :, 10:] = True
    unit().close("sine_pos", sine_position_map(padding).masked_fill(padding.unsqueeze(1), 0.0))


def test_channel_mapper() -> None:
    module = filled(ChannelMapper([32, 64, 96], 64, 5), "unit/shared/cm.")
    inputs = [made(recipe) for recipe in case("channel_mapper")["inputs"]]
    for i, out in enumerate(module(inputs)):
        assert list(out.shape) == case("channel_mapper")["shapes"][i]
        unit().sample(f"cm_{i}", out)


def test_fusion_network() -> None:
    module = filled(RepVGGPluXNetwork(64, 4, groups=4), "unit/shared/rep.")
    inputs = [made(recipe) for recipe in case("repnet")["inputs"]]
    for i, out in enumerate(module(inputs)):
        unit().sample(f"rep_{i}", out)
    layer = module.layer_blocks[0]
    unit().sample("rep_block", layer.bottlenecks[0](inputs[0]))
    unit().sample("rep_csp", layer(torch.cat([inputs[0], inputs[0].flip(1)], 1)))
    unit().sample("rep_se", layer.bottlenecks[0].se_module(inputs[0]))
    for i, out in enumerate(module.train()(inputs)):
        unit(5e-6).sample(f"rep_train_{i}", out)


def test_default_boxes_and_projection() -> None:
    layers = OrderedDict(enc_output=nn.Linear(256, 256), enc_output_norm=nn.LayerNorm(256))
    project = filled(nn.Sequential(layers), "unit/shared/tw.")
    boxes = default_boxes(partly_padded())
    expected = arrays("unit")["tw_proposals"]
    np.testing.assert_allclose(boxes.logits, expected, rtol=1e-5, atol=1e-6)
    memory = given("encoder_proposals", "memory") * boxes.usable.unsqueeze(-1)
    unit().sample("tw_memory", project(memory))


def test_redundancy_removal() -> None:
    scores = given("query_nms", "scores")
    levels = build_levels([(96, 120)] * 2, (96, 120), SHAPES, torch.device("cpu"))
    usable = torch.ones_like(scores, dtype=torch.bool)
    found = select_queries(scores, usable, levels, count=40)
    unit().equal("nms_index", found)


def test_encoder_layer() -> None:
    attention = GlobalAttention(256, 8), MultiScaleDeformableAttention(256, 4, 8, 4)
    layer = filled(SalienceEncoderLayer(*attention, 256, 512, num_attended=20), "unit/shared/el.")
    logits, salience = given("encoder_layer", "score_tgt", "foreground_pre_layer")
    unit().sample("encoder_layer", layer(*layer_inputs("encoder_layer"), logits.amax(-1) * salience))


def test_decoder_layer() -> None:
    attention = GlobalAttention(256, 8), MultiScaleDeformableAttention(256, 4, 8, 4)
    layer = filled(DecoderLayer(*attention, 256, 512), "unit/shared/dl.")
    blocked = torch.zeros(20, 20, dtype=torch.bool)
    blocked[8:, :8] = True
    unit().sample("decoder_layer", layer(*layer_inputs("decoder_layer"), blocked))


def test_varifocal_loss() -> None:
    logits = given("classification_losses", "logits").requires_grad_()
    quality = torch.full((2, 40, 7), -1.0)
    for position, iou in zip([(0, 3, 2), (0, 30, 6), (1, 11, 0)], [0.7, 0.2, 0.95], strict=True):
        quality[position] = iou
    loss = varifocal_loss(logits, quality).sum() / 3
    unit().close("vfl", loss.view(1))
    unit().sample("vfl_grad", torch.autograd.grad(loss, logits)[0])


def test_soft_focal_loss() -> None:
    logits = given("classification_losses", "logits").requires_grad_()
    cases = case("classification_losses")
    soft = uniform(cases["soft"], [2, 40, 7], 0, 1) * (uniform(cases["softm"], [2, 40, 7], 0, 1) > 0.7)
    loss = soft_focal_loss(logits, soft) / 5
    unit().close("focal", loss.view(1))
    unit().sample("focal_grad", torch.autograd.grad(loss, logits)[0])


def test_matcher() -> None:
    matches = MATCHER(*two_images())
    first = matches.image[0] == 0
    unit().equal("match_src", matches.query[0, first])
    unit().equal("match_tgt", matches.target[0, first])


def test_detection_criterion() -> None:
    predictions, targets = two_images()
    losses, _ = VarifocalCriterion(MATCHER)(predictions, targets, targets.mean_count())
    unit().close("crit", torch.cat(list(losses.values())))


def test_salience_criterion() -> None:
    cases = case("salience_criterion")
    logits = [uniform(*recipe).requires_grad_() for recipe in cases["logits"]]
    shapes = [tuple(level.shape[-2:]) for level in logits]
    sizes = [tuple(size) for size in cases["image_sizes"]]
    levels = build_levels(sizes, (320, 416), shapes, torch.device("cpu"))
    boxes = [torch.tensor(b) for b in cases["boxes_cxcywh"]]
    targets = BoxTargets.pad(boxes, [torch.zeros(len(b), dtype=torch.int64) for b in boxes])
    loss = SalienceCriterion(weight=1.0)(logits, levels, targets, sizes, (320, 416))["loss_salience"]
    unit().close("sal_loss", loss.view(1))
    for i, gradient in enumerate(torch.autograd.grad(loss, logits)):
        unit().sample(f"sal_grad_{i}", gradient)
    strides = [tuple(s) for s in cases["strides"]]
    scale = torch.tensor([(w, h, w, h) for h, w in sizes])[:, None]
    found = salience_targets(levels, strides, cxcywh_to_xyxy(targets.boxes) * scale, (64, 128, 256))
    for i, part in enumerate(levels.unflatten(found.unsqueeze(-1))):
        unit().close(f"sal_target_{i}", part[:, 0])


def test_denoising() -> None:
    boxes, labels = objects()
    module = filled(ContrastiveDenoising(30, 11, 16, num_denoising=10), "unit/shared/dn.")
    fixture = arrays("unit")
    noise = Noise(
        label_draw=torch.from_numpy(fixture["dn_label_rand"]),
        label=torch.from_numpy(fixture["dn_label_new"]).long(),
        sign=torch.from_numpy(fixture["dn_sign_bits"]).float() * 2 - 1,
        distance=torch.from_numpy(fixture["dn_box_rand"]),
    )
    found = module(BoxTargets.pad([boxes[:3], boxes[3:5]], [labels[:3], labels[3:5]]), noise)
    assert found is not None
    unit().equal("dn_meta", [found.groups, found.slots])
    unit().equal("dn_attn_mask", found.blocked)
    unit().close("dn_label_query", found.content)
    unit().close("dn_box_query", found.box_logits)


def test_postprocess() -> None:
    predictions, _ = two_images()
    found = select_detections(predictions.logits[0], predictions.boxes[0], case("postprocess")["topk"])
    for i, (height, width) in enumerate(case("postprocess")["sizes_hw"]):
        unit().close(f"post{i}_scores", found.scores[i])
        unit().equal(f"post{i}_labels", found.labels[i])
        unit(1e-5).close(f"post{i}_boxes", found.boxes[i] * torch.tensor([width, height, width, height]))


def test_resizing() -> None:
    cases = case("eval_resize")
    for height, width, *expected in arrays("unit")["resize_table"].tolist():
        found = resized_size(height, width, cases["min_size"], cases["max_size"])
        assert list(found) == expected, (height, width)
    cases = case("preprocess")
    image = torch.from_numpy(deterministic().image(*cases["image"])).permute(2, 0, 1)
    found = resize_as_published(image, cases["min_size"], cases["max_size"])
    assert list(found.shape) == cases["out_shape"]
    index = torch.linspace(0, found.numel() - 1, 2000).round().long()
    unit().equal("resized_u8", found.flatten()[index])
