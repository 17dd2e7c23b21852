"""Ranks stay with their objects in every augmentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, BoxMode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_util

from sor_ppa import add_sor_config
from sor_ppa.data import RankingDatasetMapper
from sor_ppa.data.augment import (
    CopyPaste,
    RandomColor,
    RankedCrop,
    bit_masks,
    large_scale_jitter,
    merged_ranks,
    tight_boxes,
)
from tests.data.folders import generated_picture

HEIGHT, WIDTH = 60, 90


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "a.png"
    cv2.imwrite(str(path), generated_picture(1, HEIGHT, WIDTH))
    return path


rectangles = st.builds(
    lambda x, y, w, h: (x, y, min(x + w, WIDTH), min(y + h, HEIGHT)),
    st.integers(0, WIDTH - 3),
    st.integers(0, HEIGHT - 3),
    st.integers(2, 40),
    st.integers(2, 40),
)
objects = st.lists(st.tuples(rectangles, st.integers(-1, 6), st.booleans()), max_size=6)
"""Box, rank, and whether the mask is an RLE."""


def sample_of(path: Path, content: list[tuple[tuple[int, ...], int, bool]], first: int = 0) -> dict[str, Any]:
    """A dataset dict; ``category_id`` numbers the objects from ``first`` to tell them apart afterwards."""
    annotations = []
    for index, ((x1, y1, x2, y2), rank, as_rle) in enumerate(content):
        segmentation: Any = [[x1, y1, x2, y1, x2, y2, x1, y2]]
        if as_rle:
            mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
            mask[y1:y2, x1:x2] = 1
            segmentation = mask_util.encode(mask)
        box = {"bbox": [x1, y1, x2, y2], "bbox_mode": BoxMode.XYXY_ABS, "segmentation": segmentation}
        annotations.append({**box, "category_id": first + index, "gt_rank": rank})
    size = {"height": HEIGHT, "width": WIDTH}
    return {"file_name": str(path), "image_id": 0, **size, "annotations": annotations}


def mapper_of(*augmentations: Any, **options: Any) -> RankingDatasetMapper:
    return RankingDatasetMapper(True, augmentations=list(augmentations), image_format="BGR", **options)


def same_order(before: list[int], after: list[int]) -> bool:
    """Whether ranked pairs have the same order before and after."""
    pairs = [(a, b) for a, b in zip(before, after, strict=True) if a >= 0 and b >= 0]
    return all(np.sign(a - c) == np.sign(b - d) for a, b in pairs for c, d in pairs)


AUGMENTATIONS: dict[str, Any] = {
    "flip": lambda: [T.RandomFlip(0.5)],
    "resize": lambda: [T.ResizeShortestEdge((40, 80), 200, "range")],
    "crop": lambda: [T.RandomCrop("relative_range", (0.3, 0.3))],
    "ranked crop": lambda: [RankedCrop(0.3)],
    "jitter": lambda: large_scale_jitter(0.1, 2.0, (50, 70)),
    "color": lambda: [RandomColor(0.3, 0.3, 0.3, 20, "BGR")],
}


@given(
    objects,
    st.lists(st.sampled_from(list(AUGMENTATIONS)), min_size=1, max_size=3, unique=True),
    st.sampled_from(["polygon", "bitmask"]),
    st.integers(0, 2**31),
    st.sampled_from([0.0, 0.3]),
)
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_ranks_stay_with_their_objects_in_order(
    picture: Path, content: list[Any], names: list[str], mask_format: str, seed: int, min_visible: float
) -> None:
    np.random.seed(seed)
    augmentations = [item for name in names for item in AUGMENTATIONS[name]()]
    options: dict[str, Any] = {"instance_mask_format": mask_format, "min_visible": min_visible}
    output = mapper_of(*augmentations, recompute_boxes=True, num_ranks=8, **options)(
        sample_of(picture, content)
    )
    instances = output["instances"]
    identity, labels = instances.gt_classes.tolist(), instances.gt_ranks.tolist()
    assert len(set(identity)) == len(identity) == len(instances.gt_masks)
    before = [content[index][1] for index in identity]
    assert [label < 0 for label in labels] == [rank < 0 for rank in before]
    assert same_order(before, labels)
    assert max(labels, default=-1) in (-1, 7)
    height, width = output["image"].shape[1:]
    assert instances.image_size == (height, width)
    boxes = instances.gt_boxes.tensor
    assert ((boxes >= 0) & (boxes <= torch.tensor([width, height, width, height]))).all()


@given(objects, st.integers(0, 2**31), st.floats(0.1, 1.0))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_ranked_crop_keeps_ranked_objects_whole(
    picture: Path, content: list[Any], seed: int, min_size: float
) -> None:
    np.random.seed(seed)
    instances = mapper_of(RankedCrop(min_size))(sample_of(picture, content))["instances"]
    boxes = dict(zip(instances.gt_classes.tolist(), instances.gt_boxes.tensor.tolist(), strict=True))
    for index, ((x1, y1, x2, y2), rank, _) in enumerate(content):
        if rank >= 0:
            box = boxes[index]
            assert (box[2] - box[0], box[3] - box[1]) == (x2 - x1, y2 - y1)


@given(st.lists(st.integers(-1, 6), max_size=6), st.lists(st.integers(-1, 4), max_size=4))
@pytest.mark.parametrize("rule", ["interleave", "below", "none"])
def test_merged_ranks_keep_both_orders(rule: str, host: list[int], pasted: list[int]) -> None:
    merged = merged_ranks(host, pasted, rule)
    own, new = merged[: len(host)], merged[len(host) :]
    assert same_order(host, own)
    assert same_order([9 - level if level >= 0 else -1 for level in pasted], new)
    assert [rank < 0 for rank in own] == [rank < 0 for rank in host]
    assert [rank < 0 for rank in new] == [level < 0 or rule == "none" for level in pasted]
    assert set(range(max(merged, default=-1) + 1)) <= set(merged)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("interleave", [3, 1, 2, 0]), ("below", [3, 2, 1, 0]), ("none", [1, 0, -1, -1])],
)
def test_pasted_ranks_follow_the_rule(rule: str, expected: list[int]) -> None:
    assert merged_ranks([7, 3], [0, 1], rule) == expected


def pasting_mapper(
    *donors: dict[str, Any], probability: float = 1.0, rule: str = "interleave", min_visible: float = 0.2
) -> RankingDatasetMapper:
    paste = CopyPaste(probability, 3, rule, min_visible)
    paste.set_donors(donors)
    return mapper_of(T.RandomFlip(0.5), num_ranks=12, copy_paste=paste)


@given(objects, objects, st.integers(0, 2**31), st.sampled_from(["interleave", "below", "none"]))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pasting_keeps_the_order_of_the_image(
    picture: Path, first: list[Any], second: list[Any], seed: int, rule: str
) -> None:
    np.random.seed(seed)
    mapper = pasting_mapper(sample_of(picture, first, 100), rule=rule)
    instances = mapper(sample_of(picture, second))["instances"]
    identity, labels = instances.gt_classes.numpy(), instances.gt_ranks.numpy()
    pasted = identity >= 100
    assert same_order([second[index][1] for index in identity[~pasted]], labels[~pasted].tolist())
    assert same_order([first[index - 100][1] for index in identity[pasted]], labels[pasted].tolist())
    masks = bit_masks(instances)
    assert masks.any(axis=(1, 2)).all()
    if pasted.any():
        assert masks[pasted].sum(axis=0).max() == 1
        assert not (masks[~pasted] & masks[pasted].any(axis=0)).any()


def two_samples(picture: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    donor = sample_of(picture, [((5, 5, 25, 25), 3, False), ((40, 10, 60, 40), 1, True)])
    return donor, sample_of(picture, [((0, 0, 90, 60), 2, False)])


def test_objects_covered_too_much_are_removed(picture: Path) -> None:
    np.random.seed(0)
    donor, host = two_samples(picture)
    mapper = pasting_mapper(donor, min_visible=0.999)
    masks = mapper(host)["instances"].gt_masks.tensor
    assert len(masks) in (1, 2)  # the pasted objects only
    assert masks.sum() < 90 * 60 / 2


def test_nothing_is_pasted_at_probability_zero(picture: Path) -> None:
    donor, host = two_samples(picture)
    mapper = pasting_mapper(donor, probability=0.0)
    assert len(mapper(host)["instances"]) == 1


def test_images_without_ranked_objects_are_never_pasted(picture: Path) -> None:
    _, host = two_samples(picture)
    mapper = pasting_mapper(sample_of(picture, []))
    assert len(mapper(host)["instances"]) == 1


def test_padding_is_no_object(picture: Path) -> None:
    mapper = mapper_of(*large_scale_jitter(0.2, 0.3, (64, 64)), recompute_boxes=True)
    instances = mapper(sample_of(picture, [((0, 0, 90, 60), 0, False)]))["instances"]
    assert instances.gt_masks.tensor.sum() < 0.2 * 64 * 64


def test_boxes_are_those_that_detectron2_finds_around_masks() -> None:
    masks = BitMasks(torch.from_numpy(np.random.default_rng(0).random((4, 6, 8)) > 0.9))
    masks.tensor[1] = False
    assert torch.equal(tight_boxes(masks).tensor, masks.get_bounding_boxes().tensor)


@pytest.mark.parametrize(("reach", "most"), [(0.4, 255), (0.0, 1)])
@pytest.mark.parametrize("image_format", ["BGR", "RGB"])
def test_colors_change_within_reach(reach: float, most: int, image_format: str) -> None:
    image = generated_picture(0, 20, 30)
    changed = (
        RandomColor(reach, reach, reach, 90 * reach, image_format).get_transform(image).apply_image(image)
    )
    assert (changed.dtype, changed.shape) == (np.uint8, image.shape)
    assert np.abs(changed.astype(int) - image).max() <= most
    assert np.array_equal(changed, image) <= (reach == 0)


def config(*options: Any) -> CfgNode:
    cfg = get_cfg()
    add_sor_config(cfg)
    cfg.MODEL.MASK_ON = True
    cfg.merge_from_list(["INPUT.MIN_SIZE_TRAIN", (48,), *options])
    return cfg


@pytest.mark.parametrize(
    ("key", "kind"),
    [("LSJ", T.ResizeScale), ("RANKED_CROP", RankedCrop), ("COLOR", RandomColor), ("CROP", T.RandomCrop)],
)
def test_each_is_turned_on_by_config(key: str, kind: type, picture: Path) -> None:
    off = RankingDatasetMapper(config(), is_train=True)
    on = RankingDatasetMapper(config(f"INPUT.{key}.ENABLED", True), is_train=True)
    assert not any(isinstance(item, kind) for item in off.augmentations.augs)
    assert any(isinstance(item, kind) for item in on.augmentations.augs)
    on(sample_of(picture, [((0, 0, 30, 40), 0, False), ((5, 5, 60, 40), 1, False)]))


def test_jitter_replaces_the_resize_and_gives_one_size(picture: Path) -> None:
    cfg = config("INPUT.LSJ.ENABLED", True, "INPUT.LSJ.SIZE", [56, 72])
    mapper = RankingDatasetMapper(cfg, is_train=True)
    assert not any(isinstance(item, T.ResizeShortestEdge) for item in mapper.augmentations.augs)
    sample = sample_of(picture, [((0, 0, 30, 40), 0, False)])
    assert {tuple(mapper(sample)["image"].shape) for _ in range(4)} == {(3, 56, 72)}


def test_inference_is_never_augmented() -> None:
    keys = [f"INPUT.{key}.ENABLED" for key in ("LSJ", "RANKED_CROP", "COLOR", "CROP", "COPY_PASTE")]
    mapper = RankingDatasetMapper(config(*[value for key in keys for value in (key, True)]), is_train=False)
    assert [type(item) for item in mapper.augmentations.augs] == [T.ResizeShortestEdge]
    assert mapper.copy_paste is None
