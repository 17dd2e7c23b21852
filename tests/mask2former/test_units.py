"""Each part equals that of the published code."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from detectron2.layers import ShapeSpec

from sor_ppa.mask2former.criterion import MaskCriterion
from sor_ppa.mask2former.decoder import MaskedDecoder, MaskedDecoderLayer, QueryPredictions
from sor_ppa.mask2former.instances import mask_boxes, mask_instances
from sor_ppa.mask2former.pixel_decoder import PixelDecoder, PixelFeatures
from sor_ppa.mask2former.points import sample_binary, sample_logits, uncertain_points
from sor_ppa.mask2former.targets import MaskTargets
from tests.mask2former.reference import (
    arrays,
    checks,
    drawn,
    filled,
    info,
    normal,
    recorded_draws,
    uniform,
)
from tests.parity import deterministic


def case(name: str) -> Any:
    return info("unit")["cases"][name]


def predictions(index: int) -> QueryPredictions:
    logits, masks = (
        normal(f"c_logits{index}", 2, 12, 6, times=2),
        normal(f"c_masks{index}", 2, 12, 8, 10, times=3),
    )
    return QueryPredictions(logits.requires_grad_(), masks.requires_grad_(), logits)


def targets() -> MaskTargets:
    found = [drawn(shapes, *case("matcher")["gt_size"]) for shapes in case("matcher")["targets"]]
    masks = torch.cat([f.gt_masks.tensor for f in found])
    return MaskTargets(masks, torch.cat([f.gt_classes for f in found]), [len(f) for f in found])


def criterion() -> MaskCriterion:
    return MaskCriterion(5, num_points=48)


def test_pixel_decoder() -> None:
    channels = {"res2": 24, "res3": 40, "res4": 56, "res5": 72}
    shapes = {n: ShapeSpec(channels=c, stride=4 * 2**i) for i, (n, c) in enumerate(channels.items())}
    sizes: dict[str, Any] = {"num_layers": 2, "num_heads": 4, "ffn_dim": 96}
    module = filled(
        PixelDecoder(shapes, ["res3", "res4", "res5"], "res2", dim=64, mask_dim=48, **sizes), "pd"
    )
    inputs = {
        name: normal(key.removeprefix("unit/shared/"), *shape)
        for name, (_, key, shape) in case("pixel_decoder")["inputs"].items()
    }
    found = module(inputs)
    checks("unit").sample("pd_mask_features", found.masks)
    for level in range(3):
        checks("unit").sample(f"pd_multi_scale_{level}", found.levels[level])


def test_decoder() -> None:
    sizes: dict[str, Any] = {"num_queries": 9, "num_layers": 4, "num_heads": 4, "ffn_dim": 96}
    module = filled(MaskedDecoder(dim=64, mask_dim=48, num_classes=5, **sizes), "pr")
    maps = [normal(f"pr_x{i}", 2, 64, *shape) for i, shape in enumerate([(2, 3), (4, 6), (8, 12)])]
    shift = uniform("unit/shared/pr_shift", (1, 48, 1, 1), -1, 1)
    features = PixelFeatures(normal("pr_mf", 2, 48, 16, 24) - 1.5 * shift, maps)
    for layer, found in enumerate(module(features, every_layer=True).predictions):
        checks("unit").close(f"pr_logits_{layer}", found.logits)
        checks("unit").sample(f"pr_masks_{layer}", found.masks)


def test_decoder_layer_with_fully_blocked_queries() -> None:
    layer = MaskedDecoderLayer(256, 8, 2048).eval()
    parts = {"ca": ("cross_attn", "norm1"), "sa": ("self_attn", "norm2"), "ffn": ("", "norm3")}
    state = {}
    for prefix, names in case("decoder_layer")["names"].items():
        attention, norm = parts[prefix]
        for name, shape in names:
            ours = name.replace("multihead_attn", attention).replace("norm.", f"{norm}.")
            value = torch.zeros(shape)
            state[ours] = deterministic().fill_tensor(f"unit/shared/{prefix}.{name}", value)
    layer.load_state_dict(state, strict=True)
    blocked = uniform("unit/shared/dec_mask", (2, 6, 24), 0, 1) < 0.7
    blocked[0, 3] = blocked[1, 0] = True
    allowed = ~blocked | blocked.all(-1, keepdim=True)
    target, positions = (normal(f"dec_{n}", 6, 2, 256).transpose(0, 1) for n in ("tgt", "qpos"))
    memory, memory_positions = (normal(f"dec_{n}", 24, 2, 256).transpose(0, 1) for n in ("mem", "pos"))
    found = layer(target, positions, memory + memory_positions, memory, allowed)
    checks("unit").close("dec_ffn", found.transpose(0, 1))


def test_matcher() -> None:
    logits, masks = normal("m_logits", 2, 12, 6, times=2), normal("m_masks", 2, 12, 8, 10, times=3)
    with recorded_draws([[f"unit/shared/m_points{b}", [1, 48, 2]] for b in range(2)]):
        matches = criterion().match(QueryPredictions(logits, masks, logits), targets())
    for image in range(2):
        rows = matches.image[0] == image
        found = torch.stack([matches.query[0][rows], matches.target[0][rows]])
        np.testing.assert_array_equal(found, arrays("unit")[f"m_match_{image}"])


def test_points() -> None:
    with recorded_draws([["unit/shared/s_over", [3, 144, 2]], ["unit/shared/s_rand", [3, 12, 2]]]):
        found = uncertain_points(normal("s_logits", 3, 1, 8, 10, times=2)[:, 0], 48, 3.0, 0.75)
    checks("unit").close("s_points", found)


def test_criterion() -> None:
    layers = [predictions(i) for i in range(3)]
    with recorded_draws(case("criterion_drawn")["draws"]):
        losses, _ = criterion()(layers, targets())
    weights = {"loss_ce": 2.0, "loss_mask": 5.0, "loss_dice": 5.0}
    names = case("criterion_drawn")["loss_names"]
    found = [losses[name] / weights["_".join(name.split("_")[:2])] for name in names]
    checks("unit").close("c_drawn_losses", torch.stack(found))
    sum(losses.values()).backward()  # type: ignore[union-attr]
    for index, layer in enumerate(layers):
        checks("unit").close(f"c_drawn_grad_logits{index}", layer.logits.grad)
        checks("unit").close(f"c_drawn_grad_masks{index}", layer.masks.grad)


def test_instances_of_an_image() -> None:
    logits, masks = normal("i_logits", 12, 6, times=2), normal("i_masks", 12, 8, 10, times=3)
    found = mask_instances(logits, masks, (8, 10), (8, 10), (8, 10), 20, 0.0)
    checks("unit").close("i_scores", found.scores)
    np.testing.assert_array_equal(found.pred_classes, arrays("unit")["i_classes"])
    np.testing.assert_array_equal(found.pred_masks.sum((1, 2)), arrays("unit")["i_areas"])


def test_binary_masks_are_read_as_floats_are() -> None:
    masks, points = torch.rand(3, 5, 7) > 0.5, torch.rand(4, 50, 2)
    rows = torch.tensor([2, 0, 2, 1])
    expected = sample_logits(masks[rows, None].float(), points)[:, 0]
    torch.testing.assert_close(sample_binary(masks, rows, points), expected)


def test_box_of_an_empty_mask_is_zero() -> None:
    masks = torch.zeros(2, 4, 6, dtype=torch.bool)
    masks[1, 1:3, 2:6] = True
    assert mask_boxes(masks).tolist() == [[0, 0, 0, 0], [2, 1, 6, 3]]
