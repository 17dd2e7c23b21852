"""The seven published ranking heads, and what holds for all of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from detectron2.layers import ShapeSpec

from sor_ppa.ranking import RankingHead, build_sor_head
from tests.models import make_cfg, ppa_cases
from tests.parity import deterministic, parity_dir

HEADS = (
    "SinglePredictor",
    "SinglePredictorWithPos",
    "SelfAttentionPredictor",
    "SelfAttentionWithPosCat",
    "SelfAttentionWithPosConvCat",
    "SelfAttentionWithOtherPos",
    "SelfAttentionWithOtherPosQuant",
)
SHAPE = ShapeSpec(channels=256, width=14, height=14)


def head_inputs(number: int, boxes: torch.Tensor) -> dict:
    uniform = deterministic()._uniform
    spread = 1 / np.sqrt(12)
    return {
        "features": uniform(f"head/x/{number}", (number, 256, 14, 14), std=1, mean=0),
        "masks": uniform(f"head/mask/{number}", (number, 1, 28, 28), std=spread, mean=0.5),
        "maps": uniform(f"head/pos/{number}", (number, 2, 14, 14), std=spread, mean=0.5),
        "boxes": boxes,
        "sizes": torch.tensor([[480.0, 640.0]]).expand(number, 2),
    }


@pytest.mark.parametrize("dims", ["small", pytest.param("ppa", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", HEADS)
def test_published_heads_agree(name: str, dims: str) -> None:
    folder = parity_dir("ppa")
    case = ppa_cases()["sor_heads"]["cases"][f"{name}_{dims}"]
    expected = np.load(folder / "sor_heads.npz")
    cfg = make_cfg(None)
    for key, value in case["cfg_overrides"].items():
        cfg.merge_from_list([key, value])
    cfg.MODEL.SOR.TRANSFORMER.DROPOUT = 0.0
    head = build_sor_head(cfg, SHAPE)
    names = json.loads((folder / case["model_state"]).read_text())["tensors"]
    assert {n: list(p.shape) for n, p in head.state_dict().items()} == dict(names)
    head.load_state_dict(deterministic().fill_state_dict(head.state_dict(), case["weight_gain"]))
    for run in case["runs"]:
        number = run["N"]
        inputs = head_inputs(number, torch.from_numpy(expected[f"boxes_{number}"]).float())
        head.train(run["train_mode_dropout0"])
        # evaluation of the published heads mixes the objects of all images (one image at a time is
        # their only correct use); the others split always
        mixes = name not in ("SelfAttentionPredictor", "SelfAttentionWithPosCat") and not head.training
        counts = [number] if mixes else run["split"]
        with torch.no_grad():
            logits = head(**inputs, counts=counts)
        np.testing.assert_allclose(logits.numpy(), expected[run["array"]], atol=1e-4, rtol=1e-4)


def small_head(name: str) -> RankingHead:
    cfg = make_cfg(None)
    options = ["NAME", name, "CONV_DIM", 8, "NUM_CONV", 2, "DENSE_DIM", 16]
    options += ["OBJ_DIM", 12 if name == "SelfAttentionWithOtherPos" else 16]
    options += ["TRANSFORMER.D_MODEL", 16, "TRANSFORMER.N_HEAD", 2, "TRANSFORMER.LAYERS", 2]
    cfg.merge_from_list([f"MODEL.SOR.{o}" if i % 2 == 0 else o for i, o in enumerate(options)])
    torch.manual_seed(0)
    return build_sor_head(cfg, ShapeSpec(channels=4, width=14, height=14)).eval()


def random_inputs(number: int, seed: int = 0) -> dict:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(number, 2, generator=generator) * 300
    side = torch.rand(number, 2, generator=generator) * 100
    return {
        "features": torch.randn(number, 4, 14, 14, generator=generator),
        "masks": torch.rand(number, 1, 28, 28, generator=generator),
        "maps": torch.rand(number, 2, 14, 14, generator=generator),
        "boxes": torch.cat([corner, corner + side], dim=1),
        "sizes": torch.tensor([[300.0, 500.0]]).expand(number, 2),
    }


@pytest.mark.parametrize("name", HEADS)
@torch.no_grad()
def test_an_image_is_ranked_alike_alone_and_in_a_batch(name: str) -> None:
    head = small_head(name)
    inputs = random_inputs(9)
    together = head(**inputs, counts=[2, 0, 6, 1])
    start = 0
    for count in (2, 6, 1):
        alone = head(**{k: v[start : start + count] for k, v in inputs.items()}, counts=[count])
        torch.testing.assert_close(together[start : start + count], alone, atol=1e-5, rtol=1e-5)
        start += count


@pytest.mark.parametrize("name", HEADS)
@torch.no_grad()
def test_order_of_objects_does_not_matter(name: str) -> None:
    head, inputs = small_head(name), random_inputs(6)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    shuffled = head(**{k: v[order] for k, v in inputs.items()}, counts=[6])
    torch.testing.assert_close(shuffled, head(**inputs, counts=[6])[order], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_no_objects_keep_a_graph_to_every_parameter(name: str) -> None:
    head = small_head(name).train()
    logits = head(**random_inputs(0), counts=[0, 0])
    assert logits.shape == (0, 5)
    logits.sum().backward()
    assert [n for n, p in head.named_parameters() if p.grad is None] == []
