"""The unit fixtures of the published model: every module and formula with inputs of its own."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sor_ppa.layers.boxes import cxcywh_to_xyxy, inverse_sigmoid, pairwise_giou, pairwise_iou
from sor_ppa.layers.deformable_attention import MultiScaleDeformableAttention, deformable_sampling
from sor_ppa.layers.detr_losses import soft_focal_loss, varifocal_loss
from sor_ppa.layers.detr_matcher import HungarianMatcher
from sor_ppa.layers.mlp import MLP
from sor_ppa.layers.position_embedding import LearnedPositionEmbedding, sine_embedding, sine_position_map
from sor_ppa.salience_detr.criterion import DetectionCriterion, SalienceCriterion, Targets, salience_targets
from sor_ppa.salience_detr.decoder import SalienceDecoderLayer
from sor_ppa.salience_detr.denoising import ContrastiveDenoising, Noise
from sor_ppa.salience_detr.encoder import SalienceEncoderLayer
from sor_ppa.salience_detr.levels import Levels, build_levels
from sor_ppa.salience_detr.neck import ChannelMapper, RepVGGPluXNetwork
from sor_ppa.salience_detr.postprocess import select_detections
from sor_ppa.salience_detr.preprocessing import resize_image, resized_size
from sor_ppa.salience_detr.proposals import default_boxes, select_proposals
from sor_ppa.salience_detr.salience import SaliencePredictor
from tests.parity import deterministic

from .reference import arrays, assert_close, info

SHAPES = ((12, 15), (6, 8), (3, 4), (2, 2))


def uniform(key: str, shape: list[int], low: float, high: float) -> Tensor:
    values = deterministic()._rng(key).random(tuple(shape)) * (high - low) + low
    return torch.from_numpy(values.astype(np.float32))


def case(name: str) -> dict[str, Any]:
    return info("unit")["cases"][name]


def given(name: str, key: str) -> Tensor:
    """An input of a case, by its recipe: ["N", key, shape] or [key, shape, low, high]."""
    recipe = case(name)[key]
    if recipe[0] == "N":
        return uniform(recipe[1], recipe[2], -math.sqrt(3), math.sqrt(3))
    return uniform(*recipe[:4])


def filled(module: nn.Module, prefix: str) -> nn.Module:
    state = module.state_dict()
    rule = deterministic()
    module.load_state_dict({name: rule.fill_tensor(prefix + name, value) for name, value in state.items()})
    return module.eval()


def check(key: str, found: Tensor, floor: float = 1e-6) -> None:
    assert_close(found, arrays("unit")[key], key, floor)


def check_sample(key: str, found: Tensor, floor: float = 1e-6) -> None:
    expected = arrays("unit")[key]
    assert_close(deterministic().sample(found, len(expected)), expected, key, floor)


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
    inputs = [uniform(r[1], r[2], -math.sqrt(3), math.sqrt(3)) for r in case("channel_mapper")["inputs"]]
    for i, out in enumerate(module(inputs)):
        assert list(out.shape) == case("channel_mapper")["shapes"][i]
        check_sample(f"cm_{i}", out)


@pytest.mark.parametrize("folded", [True, False])
def test_fusion_network(folded: bool) -> None:
    module = filled(RepVGGPluXNetwork(64, 4, groups=4), "unit/shared/rep.")
    inputs = [uniform(r[1], r[2], -math.sqrt(3), math.sqrt(3)) for r in case("repnet")["inputs"]]
    with torch.set_grad_enabled(not folded):
        for i, out in enumerate(module(inputs)):
            check_sample(f"rep_{i}", out)
        layer = module.layer_blocks[0]
        check_sample("rep_block", layer.bottlenecks[0](inputs[0]))
        check_sample("rep_csp", layer(torch.cat([inputs[0], inputs[0].flip(1)], 1)))
        check_sample("rep_se", layer.bottlenecks[0].se_module(inputs[0]))


def test_fusion_network_in_training() -> None:
    module = filled(RepVGGPluXNetwork(64, 4, groups=4), "unit/shared/rep.").train()
    inputs = [uniform(r[1], r[2], -math.sqrt(3), math.sqrt(3)) for r in case("repnet")["inputs"]]
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
    found = select_proposals(scores, usable, levels, count=40, candidates=160)
    np.testing.assert_array_equal(found, arrays("unit")["nms_index"])


def test_inverse_sigmoid() -> None:
    check("inverse_sigmoid", inverse_sigmoid(given("inverse_sigmoid", "x"), eps=1e-3))


def test_box_refinement() -> None:
    head = filled(MLP(256, 256, 4, 3), "unit/shared/mlp.")
    boxes = given("refinement", "boxes")
    check("refined", (head(given("refinement", "query")) + inverse_sigmoid(boxes, 1e-3)).sigmoid())


def test_encoder_layer() -> None:
    layer = filled(SalienceEncoderLayer(256, 512, 8, 4, 4, num_attended=20), "unit/shared/el.")
    scores = given("encoder_layer", "score_tgt").amax(-1) * given("encoder_layer", "foreground_pre_layer")
    found = layer(
        given("encoder_layer", "query"),
        given("encoder_layer", "query_pos"),
        given("encoder_layer", "reference_points"),
        scores,
        given("encoder_layer", "value"),
        SHAPES,
        attention_padding(),
    )
    check_sample("encoder_layer", found)


def test_decoder_layer() -> None:
    layer = filled(SalienceDecoderLayer(256, 512, 8, 4, 4), "unit/shared/dl.")
    blocked = torch.zeros(20, 20, dtype=torch.bool)
    blocked[8:, :8] = True
    found = layer(
        given("decoder_layer", "query"),
        given("decoder_layer", "query_pos"),
        given("decoder_layer", "reference_points"),
        given("decoder_layer", "value"),
        SHAPES,
        attention_padding(),
        blocked,
    )
    check_sample("decoder_layer", found)


def test_overlaps() -> None:
    a, b = cxcywh_to_xyxy(given("iou_giou", "a")), cxcywh_to_xyxy(given("iou_giou", "b"))
    check("iou", pairwise_iou(a, b))
    check("giou", pairwise_giou(a, b))


def test_varifocal_loss() -> None:
    logits = given("classification_losses", "logits").requires_grad_()
    quality = torch.full((2, 40, 7), -1.0)
    for position, iou in zip([(0, 3, 2), (0, 30, 6), (1, 11, 0)], [0.7, 0.2, 0.95], strict=True):
        quality[position] = iou
    loss = varifocal_loss(logits, quality) / 3
    check("vfl", loss.view(1))
    check_sample("vfl_grad", torch.autograd.grad(loss, logits)[0])


def test_soft_focal_loss() -> None:
    logits = given("classification_losses", "logits").requires_grad_()
    cases = case("classification_losses")
    soft = uniform(cases["soft"], [2, 40, 7], 0, 1) * (uniform(cases["softm"], [2, 40, 7], 0, 1) > 0.7)
    loss = soft_focal_loss(logits, soft) / 5
    check("focal", loss.view(1))
    check_sample("focal_grad", torch.autograd.grad(loss, logits)[0])


def predictions() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    labels = torch.tensor(case("matcher")["gt_labels"])
    return (
        given("matcher", "pred_logits"),
        given("matcher", "pred_boxes"),
        labels,
        given("matcher", "gt_boxes"),
    )


def batch_of_predictions() -> tuple[Tensor, Tensor, Targets]:
    logits, boxes, gt_labels, gt_boxes = predictions()
    targets = Targets([gt_labels, gt_labels[2:4]], [gt_boxes, gt_boxes[:2].flip(0)])
    return torch.stack([logits, logits.flip(0)]), torch.stack([boxes, boxes.roll(7, 0)]), targets


def test_matcher() -> None:
    logits, boxes, labels, gt_boxes = predictions()
    matcher = HungarianMatcher()
    check("match_cost", matcher.cost(logits, boxes, labels, gt_boxes))
    ((pair,),) = matcher(logits[None, None], boxes[None, None], [labels], [gt_boxes])
    np.testing.assert_array_equal(pair[0], arrays("unit")["match_src"])
    np.testing.assert_array_equal(pair[1], arrays("unit")["match_tgt"])


def test_detection_criterion() -> None:
    logits, boxes, targets = batch_of_predictions()
    criterion = DetectionCriterion()
    (pairs,) = criterion.matcher(logits[None], boxes[None], targets.labels, targets.boxes)
    losses = criterion.losses(logits, boxes, targets, pairs, targets.mean_count(logits.device))
    check("crit", torch.stack(list(losses.values())))


def test_salience_criterion() -> None:
    cases = case("salience_criterion")
    logits = [uniform(*recipe).requires_grad_() for recipe in cases["logits"]]
    shapes = [tuple(level.shape[-2:]) for level in logits]
    sizes = [tuple(size) for size in cases["image_sizes"]]
    levels = build_levels(sizes, (320, 416), shapes, torch.device("cpu"))
    boxes = [torch.tensor(b) for b in cases["boxes_cxcywh"]]
    targets = Targets([torch.zeros(len(b), dtype=torch.int64) for b in boxes], boxes)
    strides = [tuple(s) for s in cases["strides"]]
    loss = SalienceCriterion(weight=1.0)(logits, levels, targets, sizes, strides)["loss_salience"]
    check("sal_loss", loss.view(1))
    for i, gradient in enumerate(torch.autograd.grad(loss, logits)):
        check_sample(f"sal_grad_{i}", gradient)
    corners = [cxcywh_to_xyxy(b) * torch.tensor([w, h, w, h]) for b, (h, w) in zip(boxes, sizes, strict=True)]
    found = salience_targets(levels, strides, corners, (64, 128, 256))
    for i, part in enumerate(levels.unflatten(found.unsqueeze(-1))):
        check(f"sal_target_{i}", part[:, 0])


def test_denoising() -> None:
    _, _, labels, boxes = predictions()
    module = ContrastiveDenoising(30, 11, 16, num_denoising=10)
    filled(module, "unit/shared/dn.")
    fixture = arrays("unit")
    noise = Noise(
        label_draw=torch.from_numpy(fixture["dn_label_rand"]),
        label=torch.from_numpy(fixture["dn_label_new"]).long(),
        sign=torch.from_numpy(fixture["dn_sign_bits"]).float() * 2 - 1,
        distance=torch.from_numpy(fixture["dn_box_rand"]),
    )
    found = module([labels[:3], labels[3:5]], [boxes[:3], boxes[3:5]], noise)
    assert found is not None
    np.testing.assert_array_equal([found.groups, found.slots], fixture["dn_meta"])
    np.testing.assert_array_equal(found.blocked, fixture["dn_attn_mask"])
    check("dn_label_query", found.content)
    check("dn_box_query", found.box_logits)


def test_postprocess() -> None:
    logits, boxes, _ = batch_of_predictions()
    found = select_detections(logits, boxes, case("postprocess")["topk"])
    for i, (height, width) in enumerate(case("postprocess")["sizes_hw"]):
        check(f"post{i}_scores", found.scores[i])
        np.testing.assert_array_equal(found.labels[i], arrays("unit")[f"post{i}_labels"])
        check(f"post{i}_boxes", found.boxes[i] * torch.tensor([width, height, width, height]), floor=1e-5)


def test_resizing() -> None:
    cases = case("eval_resize")
    for height, width, *expected in arrays("unit")["resize_table"].tolist():
        found = resized_size(height, width, cases["min_size"], cases["max_size"])
        assert list(found) == expected, (height, width)
    cases = case("preprocess")
    image = torch.from_numpy(deterministic().image(*cases["image"])).permute(2, 0, 1)
    found = resize_image(image, cases["min_size"], cases["max_size"])
    assert list(found.shape) == cases["out_shape"]
    flat = found.flatten()
    index = torch.linspace(0, flat.numel() - 1, 2000).round().long()
    np.testing.assert_array_equal(flat[index], arrays("unit")["resized_u8"])
