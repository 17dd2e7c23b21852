"""Fitting files to models by name and shape."""

from __future__ import annotations

import pytest
import torch

from sor_ppa.checkpoint import Checkpoint, CheckpointError, fit_to_model

HEAD = "proposal_generator.fcos_head."


def model(classes: int = 1) -> dict[str, torch.Tensor]:
    """Names and shapes of a small detector with a ranking head."""
    return {
        "pixel_mean": torch.ones(3, 1, 1),
        "backbone.bottom_up.stem.0.conv.weight": torch.ones(2, 3, 3, 3),
        "backbone.bottom_up.stem.0.norm.weight": torch.ones(2),
        "backbone.bottom_up.stem.0.norm.bias": torch.ones(2),
        "backbone.bottom_up.stem.0.norm.running_mean": torch.ones(2),
        "backbone.fpn_lateral3.weight": torch.ones(2, 2, 1, 1),
        HEAD + "bbox_pred.weight": torch.ones(4, 2, 3, 3),
        HEAD + "cls_logits.weight": torch.ones(classes, 2, 3, 3),
        HEAD + "cls_logits.bias": torch.ones(classes),
        "roi_heads.sor_head.sor.weight": torch.ones(5, 2),
    }


def file(tensors: dict[str, torch.Tensor], form: str = "torch", **extras: object) -> Checkpoint:
    return Checkpoint(tensors, form, extras=extras)


def test_missing_ranking_head_is_reported() -> None:
    tensors = {n: t for n, t in model().items() if "sor_head" not in n}
    fit = fit_to_model(file(tensors), model())
    assert fit.missing == fit.incomplete == ("roi_heads.sor_head.sor.weight",)
    assert "roi_heads.sor_head" in fit.table()
    assert "stays at initialization" in fit.table()


def test_statistics_of_folded_norms_may_be_missing() -> None:
    tensors = {n: t for n, t in model().items() if not n.endswith("running_mean")}
    fit = fit_to_model(file(tensors), model())
    assert fit.missing == ("backbone.bottom_up.stem.0.norm.running_mean",)
    assert not fit.incomplete


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("backbone.fpn_lateral3.weight", (3, 2, 1, 1)),
        ("roi_heads.sor_head.sor.weight", (4, 2)),
        (HEAD + "bbox_pred.weight", (8, 2, 3, 3)),
        (HEAD + "cls_logits.weight", (80, 3, 3, 3)),  # more than the classes differs
    ],
)
def test_other_shape_clashes_are_refused(name: str, shape: tuple[int, ...]) -> None:
    tensors = {**model(), name: torch.ones(shape)}
    with pytest.raises(CheckpointError, match=r"shape \(.*\) in the file, expected \(.*\)") as caught:
        fit_to_model(file(tensors), model())
    assert name in str(caught.value)


def test_unrelated_file_is_refused() -> None:
    other = {f"encoder.layers.{i}.weight": torch.ones(2) for i in range(20)}
    other["backbone.fpn_lateral3.weight"] = torch.ones(2, 2, 1, 1)
    with pytest.raises(CheckpointError, match=r"1 of 21 tensors fit one of 10, found 'encoder"):
        fit_to_model(file(other), model())


def test_suffixes_match_where_the_file_asks_for_it() -> None:
    tensors = {"stem.0.conv.weight": torch.ones(2, 3, 3, 3), "fpn_lateral3.weight": torch.ones(2, 2, 1, 1)}
    fit = fit_to_model(file(tensors, matching_heuristics=True), model())
    assert set(fit.loaded) == {"backbone.bottom_up.stem.0.conv.weight", "backbone.fpn_lateral3.weight"}


def test_ambiguous_suffix_is_refused() -> None:
    state = {"a.conv.weight": torch.ones(1), "b.conv.weight": torch.ones(1)}
    with pytest.raises(CheckpointError, match=r"'conv.weight' fits both 'a.conv.weight' and 'b.conv.weight'"):
        fit_to_model(file({"conv.weight": torch.ones(1)}, matching_heuristics=True), state)


def rows(blocks: int, offsets: bool = False, bare: bool = False) -> dict[str, torch.Tensor]:
    """A backbone of two stages with a number of blocks in the first, and what comes after it."""
    names = [f"stage2.blocks.{i}.conv.weight" for i in range(blocks)]
    names += ["stage2.blocks.0.conv_offset.weight"] if offsets else []
    names += ["stage3.blocks.0.conv.weight", "features.0.weight"]
    prefix = "" if bare else "backbone.bottom_up."
    return {prefix + name: torch.ones(1) for name in names}


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize(
    ("blocks", "offsets", "name"),
    [(4, False, "stage2.blocks.3.conv.weight"), (3, True, "stage2.blocks.0.conv_offset.weight")],
)
def test_layers_that_the_model_lacks_are_told(blocks: int, offsets: bool, name: str, bare: bool) -> None:
    fit = fit_to_model(file(rows(blocks, offsets, bare)), rows(3))
    assert [found.removeprefix("backbone.bottom_up.") for found in fit.surplus] == [name]
    assert "of a network with more layers: 1 parameters" in fit.surplus_line()


@pytest.mark.parametrize("bare", [False, True])
def test_layers_behind_the_last_one_do_no_harm(bare: bool) -> None:
    tensors = rows(3, bare=bare)
    tensors[next(reversed(tensors)).replace(".0.", ".1.")] = torch.ones(1)
    tensors["classifier.1.weight"] = torch.ones(1)
    fit = fit_to_model(file(tensors), rows(3))
    assert len(fit.unused) == 2
    assert fit.surplus == ()


@pytest.mark.parametrize("prefix", ["model.", "net.", "network.", "detector."])
def test_the_attribute_of_a_training_program_is_taken_off(prefix: str) -> None:
    fit = fit_to_model(file({prefix + n: t for n, t in model().items()}), model())
    assert not fit.incomplete
    assert not fit.unused
    kept = {prefix + n: t for n, t in model().items()}
    assert not fit_to_model(file(kept), kept).incomplete


@pytest.mark.parametrize(
    ("dtype", "value", "message"),
    [
        *((dtype, 1, f"torch.{dtype} in the file, expected torch.float32") for dtype in ("int64", "bool")),
        ("complex64", 1, "torch.complex64 in the file, expected torch.float32"),
        ("float64", 1e300, r"1e\+300 in the file, more than torch.float32 holds"),
    ],
)
def test_numbers_that_the_model_cannot_hold_are_refused(dtype: str, value: float, message: str) -> None:
    name = "backbone.fpn_lateral3.weight"
    tensors = {**model(), name: torch.full((2, 2, 1, 1), value, dtype=getattr(torch, dtype))}
    with pytest.raises(CheckpointError, match=f"{name}': {message}"):
        fit_to_model(file(tensors), model())


@pytest.mark.parametrize("system", ["siamese_detr", "conditional_detr", "salience_detr", "inspyrenet"])
def test_names_that_no_conversion_expects_are_one_error(system: str) -> None:
    names = ["pred_head.x", "class_embed.weight", "backbone.0.body.layer1.0.bn1.weight", "module.", "a"]
    with pytest.raises(CheckpointError):
        fit_to_model(file({n: torch.tensor(1.0) for n in names}), model(), system)
