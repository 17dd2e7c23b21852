"""Modules and formulas of the published model: the recorded case ``unit``.

Each of its cases has inputs of its own, generated from the recipe in ``unit.json``.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sor_ppa.layers.detr.attention import GlobalAttention
from sor_ppa.layers.detr.boxes import cxcywh_to_xyxy, inverse_sigmoid, paired_giou, paired_iou
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


def uniform(key: str, shape: list[int], low: float, high: float) -> Tensor:
    values = deterministic()._rng(key).random(tuple(shape)) * (high - low) + low
    return torch.from_numpy(values.astype(np.float32))


def case(name: str) -> dict[str, Any]:
    return info("unit")["cases"][name]


def made(recipe: list[Any]) -> Tensor:
    """Values of a recipe: ["N", key, shape] (standard deviation 1) or [key, shape, low, high]."""
    if recipe[0] == "N":
        return uniform(recipe[1], recipe[2], -math.sqrt(3), math.sqrt(3))
    return uniform(*recipe[:4])


def given(name: str, key: str) -> Tensor:
    """An input of a case."""
    return made(case(name)[key])


def filled(module: nn.Module, prefix: str) -> nn.Module:
    state = module.state_dict()
    rule = deterministic()
    module.load_state_dict({name: rule.fill_tensor(prefix + name, value) for name, value in state.items()})
    return module.eval()


def recorded(floor: float = 1e-6) -> Checks:
    return Checks(arrays("unit"), {}, floor)


def check(key: str, found: Tensor, floor: float = 1e-6) -> None:
    recorded(floor).close(key, found)


def check_sample(key: str, found: Tensor, floor: float = 1e-6) -> None:
    recorded(floor).sample(key, found)


def attention_padding() -> Tensor:
    padding = torch.zeros(2, 244, dtype=torch.bool)
    padding[1, 5:40] = True
    return padding


def partly_padded() -> Levels:
    """Image 0 unpadded, image 1 padded at the last third of the columns of every level."""
    sizes = (SHAPES, tuple((h, w - w // 3) for h, w in SHAPES))
    paddings = [torch.zeros(2, h, w, dtype=torch.bool) for h, w in SHAPES]
    for padding, (_, w) in zip(paddings, SHAPES, strict=True):
        padding[1, :, w - w // 3 :] = True
    extent = torch.tensor(SHAPES)
    return Levels(
        shapes=SHAPES,
        paddings=tuple(paddings),
        padding=torch.cat([p.flatten(1) for p in paddings], 1),
        valid_ratios=(torch.tensor(sizes) / extent).flip(-1),
        valid_sizes=sizes,
    )


def padded_memory(tokens: Tensor) -> Memory:
    return Memory(tokens, replace(partly_padded(), padding=attention_padding()))


@pytest.mark.parametrize("method", ["bag", "grid"])
def test_sampling(method: str) -> None:
    value, locations = given("msda_core", "value"), given("msda_core", "sampling_locations")
    weights = uniform(*case("msda_core")["weights"][:4])
    weights = weights / weights.sum((-2, -1), keepdim=True)
    check("core_out", deformable_sampling(value, SHAPES, locations, weights, method=method))


@pytest.mark.parametrize("form", ["ref2", "ref4"])
def test_deformable_attention(form: str) -> None:
    module = filled(MultiScaleDeformableAttention(256, 4, 8, 4), "unit/shared/msda.")
    query, value = given("msda_module", "query"), given("msda_module", "value")
    found = module(query, given("msda_module", form), value, SHAPES, attention_padding())
    check(f"msda_out_{form}", found)


def test_sine_position_map() -> None:
    padding = torch.zeros(2, 9, 11, dtype=torch.bool)
    padding[0, :, 8:] = True
    padding[0, 7:] = True
    padding[1, :, 10:] = True
    check("sine_pos", sine_position_map(padding).masked_fill(padding.unsqueeze(1), 0.0))


def test_learned_position() -> None:
    module = filled(LearnedPositionEmbedding(20, 128), "unit/shared/learned.")
    check("learned_pos", module(9, 11).T.unflatten(1, (9, 11)))


def test_sine_embedding() -> None:
    boxes = given("sine_box_embed", "boxes")
    check("sine_box", sine_embedding(boxes))
    check("sine_point", sine_embedding(boxes[..., :2]))


def test_channel_mapper() -> None:
    module = filled(ChannelMapper([32, 64, 96], 64, 5), "unit/shared/cm.")
    inputs = [made(recipe) for recipe in case("channel_mapper")["inputs"]]
    for i, out in enumerate(module(inputs)):
        assert list(out.shape) == case("channel_mapper")["shapes"][i]
        check_sample(f"cm_{i}", out)


@pytest.mark.parametrize("folded", [True, False])
def test_fusion_network(folded: bool) -> None:
    module = filled(RepVGGPluXNetwork(64, 4, groups=4), "unit/shared/rep.")
    inputs = [made(recipe) for recipe in case("repnet")["inputs"]]
    with torch.set_grad_enabled(not folded):
        for i, out in enumerate(module(inputs)):
            check_sample(f"rep_{i}", out)
        layer = module.layer_blocks[0]
        check_sample("rep_block", layer.bottlenecks[0](inputs[0]))
        check_sample("rep_csp", layer(torch.cat([inputs[0], inputs[0].flip(1)], 1)))
        check_sample("rep_se", layer.bottlenecks[0].se_module(inputs[0]))


def test_fusion_network_in_training() -> None:
    module = filled(RepVGGPluXNetwork(64, 4, groups=4), "unit/shared/rep.").train()
    inputs = [made(recipe) for recipe in case("repnet")["inputs"]]
    for i, out in enumerate(module(inputs)):
        check_sample(f"rep_train_{i}", out, floor=5e-6)


def test_salience_predictor() -> None:
    module = filled(SaliencePredictor(256), "unit/shared/mp.")
    check("mask_predictor", module(given("mask_predictor", "x")))


def test_default_boxes_and_projection() -> None:
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enc_output = nn.Linear(256, 256)
            self.enc_output_norm = nn.LayerNorm(256)

    head = filled(Head(), "unit/shared/tw.")
    boxes = default_boxes(partly_padded())
    expected = arrays("unit")["tw_proposals"]
    np.testing.assert_allclose(boxes.logits, expected, rtol=1e-5, atol=1e-6)
    memory = given("encoder_proposals", "memory") * boxes.usable.unsqueeze(-1)
    check_sample("tw_memory", head.enc_output_norm(head.enc_output(memory)))


def test_redundancy_removal() -> None:
    scores = given("query_nms", "scores")
    levels = build_levels([(96, 120)] * 2, (96, 120), SHAPES, torch.device("cpu"))
    usable = torch.ones_like(scores, dtype=torch.bool)
    found = select_queries(scores, usable, levels, count=40)
    recorded().equal("nms_index", found)


def test_inverse_sigmoid() -> None:
    check("inverse_sigmoid", inverse_sigmoid(given("inverse_sigmoid", "x"), eps=1e-3))


def test_box_refinement() -> None:
    head = filled(MLP(256, 256, 4, 3), "unit/shared/mlp.")
    boxes = given("refinement", "boxes")
    check("refined", (head(given("refinement", "query")) + inverse_sigmoid(boxes, 1e-3)).sigmoid())


def test_encoder_layer() -> None:
    attention = GlobalAttention(256, 8), MultiScaleDeformableAttention(256, 4, 8, 4)
    layer = filled(SalienceEncoderLayer(*attention, 256, 512, num_attended=20), "unit/shared/el.")
    scores = given("encoder_layer", "score_tgt").amax(-1) * given("encoder_layer", "foreground_pre_layer")
    found = layer(
        given("encoder_layer", "query"),
        given("encoder_layer", "query_pos"),
        padded_memory(given("encoder_layer", "value")),
        given("encoder_layer", "reference_points"),
        scores,
    )
    check_sample("encoder_layer", found)


def test_decoder_layer() -> None:
    attention = GlobalAttention(256, 8), MultiScaleDeformableAttention(256, 4, 8, 4)
    layer = filled(DecoderLayer(*attention, 256, 512), "unit/shared/dl.")
    blocked = torch.zeros(20, 20, dtype=torch.bool)
    blocked[8:, :8] = True
    found = layer(
        given("decoder_layer", "query"),
        given("decoder_layer", "query_pos"),
        padded_memory(given("decoder_layer", "value")),
        given("decoder_layer", "reference_points"),
        blocked,
    )
    check_sample("decoder_layer", found)


def test_overlaps() -> None:
    a, b = cxcywh_to_xyxy(given("iou_giou", "a")), cxcywh_to_xyxy(given("iou_giou", "b"))
    check("iou", paired_iou(a[:, None], b))
    check("giou", paired_giou(a[:, None], b))


def test_varifocal_loss() -> None:
    logits = given("classification_losses", "logits").requires_grad_()
    quality = torch.full((2, 40, 7), -1.0)
    for position, iou in zip([(0, 3, 2), (0, 30, 6), (1, 11, 0)], [0.7, 0.2, 0.95], strict=True):
        quality[position] = iou
    loss = varifocal_loss(logits, quality).sum() / 3
    check("vfl", loss.view(1))
    check_sample("vfl_grad", torch.autograd.grad(loss, logits)[0])


def test_soft_focal_loss() -> None:
    logits = given("classification_losses", "logits").requires_grad_()
    cases = case("classification_losses")
    soft = uniform(cases["soft"], [2, 40, 7], 0, 1) * (uniform(cases["softm"], [2, 40, 7], 0, 1) > 0.7)
    loss = soft_focal_loss(logits, soft) / 5
    check("focal", loss.view(1))
    check_sample("focal_grad", torch.autograd.grad(loss, logits)[0])


MATCHER = box_matcher(FocalCost(eps=1e-6))


def objects() -> tuple[Tensor, Tensor]:
    return given("matcher", "gt_boxes"), torch.tensor(case("matcher")["gt_labels"])


def one_image() -> tuple[Predictions, BoxTargets]:
    logits, boxes = given("matcher", "pred_logits"), given("matcher", "pred_boxes")
    gt_boxes, gt_labels = objects()
    return Predictions(logits[None, None], boxes[None, None]), BoxTargets.pad([gt_boxes], [gt_labels])


def two_images() -> tuple[Predictions, BoxTargets]:
    logits, boxes = given("matcher", "pred_logits"), given("matcher", "pred_boxes")
    gt_boxes, gt_labels = objects()
    targets = BoxTargets.pad([gt_boxes, gt_boxes[:2].flip(0)], [gt_labels, gt_labels[2:4]])
    pairs = torch.stack([logits, logits.flip(0)]), torch.stack([boxes, boxes.roll(7, 0)])
    return Predictions(pairs[0][None], pairs[1][None]), targets


def test_matcher() -> None:
    check("match_cost", MATCHER.cost(*one_image())[0, 0])
    matches = MATCHER(*one_image())
    recorded().equal("match_src", matches.query[0])
    recorded().equal("match_tgt", matches.target[0])


def test_detection_criterion() -> None:
    predictions, targets = two_images()
    losses, _ = VarifocalCriterion(MATCHER)(predictions, targets, targets.mean_count())
    check("crit", torch.cat(list(losses.values())))


def test_salience_criterion() -> None:
    cases = case("salience_criterion")
    logits = [uniform(*recipe).requires_grad_() for recipe in cases["logits"]]
    shapes = [tuple(level.shape[-2:]) for level in logits]
    sizes = [tuple(size) for size in cases["image_sizes"]]
    levels = build_levels(sizes, (320, 416), shapes, torch.device("cpu"))
    boxes = [torch.tensor(b) for b in cases["boxes_cxcywh"]]
    targets = BoxTargets.pad(boxes, [torch.zeros(len(b), dtype=torch.int64) for b in boxes])
    loss = SalienceCriterion(weight=1.0)(logits, levels, targets, sizes, (320, 416))["loss_salience"]
    check("sal_loss", loss.view(1))
    for i, gradient in enumerate(torch.autograd.grad(loss, logits)):
        check_sample(f"sal_grad_{i}", gradient)
    strides = [tuple(s) for s in cases["strides"]]
    scale = torch.tensor([(w, h, w, h) for h, w in sizes])[:, None]
    found = salience_targets(levels, strides, cxcywh_to_xyxy(targets.boxes) * scale, (64, 128, 256))
    for i, part in enumerate(levels.unflatten(found.unsqueeze(-1))):
        check(f"sal_target_{i}", part[:, 0])


def test_denoising() -> None:
    boxes, labels = objects()
    module = ContrastiveDenoising(30, 11, 16, num_denoising=10)
    filled(module, "unit/shared/dn.")
    fixture = arrays("unit")
    noise = Noise(
        label_draw=torch.from_numpy(fixture["dn_label_rand"]),
        label=torch.from_numpy(fixture["dn_label_new"]).long(),
        sign=torch.from_numpy(fixture["dn_sign_bits"]).float() * 2 - 1,
        distance=torch.from_numpy(fixture["dn_box_rand"]),
    )
    found = module(BoxTargets.pad([boxes[:3], boxes[3:5]], [labels[:3], labels[3:5]]), noise)
    assert found is not None
    recorded().equal("dn_meta", [found.groups, found.slots])
    recorded().equal("dn_attn_mask", found.blocked)
    check("dn_label_query", found.content)
    check("dn_box_query", found.box_logits)


def test_postprocess() -> None:
    predictions, _ = two_images()
    found = select_detections(predictions.logits[0], predictions.boxes[0], case("postprocess")["topk"])
    for i, (height, width) in enumerate(case("postprocess")["sizes_hw"]):
        check(f"post{i}_scores", found.scores[i])
        recorded().equal(f"post{i}_labels", found.labels[i])
        check(f"post{i}_boxes", found.boxes[i] * torch.tensor([width, height, width, height]), floor=1e-5)


def test_resizing() -> None:
    cases = case("eval_resize")
    for height, width, *expected in arrays("unit")["resize_table"].tolist():
        found = resized_size(height, width, cases["min_size"], cases["max_size"])
        assert list(found) == expected, (height, width)
    cases = case("preprocess")
    image = torch.from_numpy(deterministic().image(*cases["image"])).permute(2, 0, 1)
    found = resize_as_published(image, cases["min_size"], cases["max_size"])
    assert list(found.shape) == cases["out_shape"]
    flat = found.flatten()
    index = torch.linspace(0, flat.numel() - 1, 2000).round().long()
    recorded().equal("resized_u8", flat[index])
