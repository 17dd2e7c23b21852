"""Whatever the augmentations do, ranks stay with their objects."""

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

from sor_ppa import add_sor_config
from sor_ppa.data import RankingDatasetMapper
from sor_ppa.data.augment import (
    CopyPaste,
    RandomColor,
    RankedCrop,
    bit_masks,
    large_scale_jitter,
    merged_ranks,
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


def sample_of(path: Path, content: list[tuple[tuple[int, ...], int, bool]]) -> dict[str, Any]:
    """A dataset dict; ``category_id`` numbers the objects so that they can be told apart afterwards."""
    annotations = []
    for index, ((x1, y1, x2, y2), rank, as_rle) in enumerate(content):
        segmentation: Any = [[x1, y1, x2, y1, x2, y2, x1, y2]]
        if as_rle:
            mask = np.zeros((HEIGHT, WIDTH), np.uint8)
            mask[y1:y2, x1:x2] = 1
            runs = np.flatnonzero(np.diff(mask.T.reshape(-1), prepend=0, append=2))
            segmentation = {"size": [HEIGHT, WIDTH], "counts": np.diff(runs, prepend=0).tolist()}
        annotations.append(
            {
                "bbox": [x1, y1, x2, y2],
                "bbox_mode": BoxMode.XYXY_ABS,
                "segmentation": segmentation,
                "category_id": index,
                "gt_rank": rank,
            }
        )
    size = {"height": HEIGHT, "width": WIDTH}
    return {"file_name": str(path), "image_id": 0, **size, "annotations": annotations}


AUGMENTATIONS: dict[str, Any] = {
    "flip": lambda: [T.RandomFlip(0.5)],
    "resize": lambda: [T.ResizeShortestEdge((40, 80), 200, "range")],
    "crop": lambda: [T.RandomCrop("relative_range", (0.3, 0.3))],
    "ranked crop": lambda: [RankedCrop(0.3)],
    "jitter": lambda: large_scale_jitter(0.1, 2.0, (50, 70)),
    "colour": lambda: [RandomColor(0.3, 0.3, 0.3, 20, "BGR")],
}


@given(
    objects,
    st.lists(st.sampled_from(list(AUGMENTATIONS)), min_size=1, max_size=3, unique=True),
    st.sampled_from(["polygon", "bitmask"]),
    st.integers(0, 2**31),
    st.sampled_from([0.0, 0.3]),
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_ranks_stay_with_their_objects_in_order(
    picture: Path,
    content: list[Any],
    names: list[str],
    mask_format: str,
    seed: int,
    min_visible: float,
) -> None:
    np.random.seed(seed)
    augmentations = [item for name in names for item in AUGMENTATIONS[name]()]
    mapper = RankingDatasetMapper(
        True,
        augmentations=augmentations,
        image_format="BGR",
        instance_mask_format=mask_format,
        recompute_boxes=True,
        num_ranks=8,
        min_visible=min_visible,
    )
    output = mapper(sample_of(picture, content))
    instances = output["instances"]
    identity, labels = instances.gt_classes.tolist(), instances.gt_ranks.tolist()
    assert len(set(identity)) == len(identity)
    before = [content[index][1] for index in identity]
    for first in range(len(identity)):
        assert (labels[first] < 0) == (before[first] < 0)
        for second in range(len(identity)):
            if before[first] >= 0 and before[second] >= 0:
                assert np.sign(labels[first] - labels[second]) == np.sign(before[first] - before[second])
    if any(label >= 0 for label in labels):
        assert max(labels) == 7
    height, width = output["image"].shape[1:]
    assert instances.image_size == (height, width)
    boxes = instances.gt_boxes.tensor
    assert (boxes >= 0).all()
    assert (boxes <= torch.tensor([width, height, width, height])).all()
    assert len(instances.gt_masks) == len(identity)


@given(objects, st.integers(0, 2**31), st.floats(0.1, 1.0))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_ranked_crop_keeps_ranked_objects_whole(
    picture: Path, content: list[Any], seed: int, min_size: float
) -> None:
    np.random.seed(seed)
    mapper = RankingDatasetMapper(True, augmentations=[RankedCrop(min_size)], image_format="BGR")
    instances = mapper(sample_of(picture, content))["instances"]
    sizes = {}
    for index, box in zip(instances.gt_classes.tolist(), instances.gt_boxes.tensor.tolist(), strict=True):
        sizes[index] = (box[2] - box[0], box[3] - box[1])
    for index, ((x1, y1, x2, y2), rank, _) in enumerate(content):
        if rank >= 0:
            assert sizes[index] == (x2 - x1, y2 - y1)


@given(st.lists(st.integers(-1, 6), max_size=6), st.lists(st.integers(-1, 4), max_size=4))
@pytest.mark.parametrize("rule", ["interleave", "below", "none"])
def test_merged_ranks_keep_both_orders(rule: str, host: list[int], pasted: list[int]) -> None:
    merged = merged_ranks(host, pasted, rule)
    own, new = merged[: len(host)], merged[len(host) :]
    for given_ranks, found in ((host, own), ([-level if level >= 0 else -9 for level in pasted], new)):
        for a, b in zip(given_ranks, found, strict=True):
            for c, d in zip(given_ranks, found, strict=True):
                if b >= 0 and d >= 0:
                    assert np.sign(a - c) == np.sign(b - d)
    assert [rank < 0 for rank in own] == [rank < 0 for rank in host]
    assert [rank < 0 for rank in new] == [level < 0 or rule == "none" for level in pasted]
    assert sorted({rank for rank in merged if rank >= 0}) == list(range(len({r for r in merged if r >= 0})))


def test_interleaving_goes_by_the_distance_from_the_top() -> None:
    assert merged_ranks([7, 3], [0, 1], "interleave") == [3, 1, 2, 0]
    assert merged_ranks([7, 3], [0, 1], "below") == [3, 2, 1, 0]
    assert merged_ranks([7, 3], [0, 1], "none") == [1, 0, -1, -1]


def pasting_mapper(**keys: Any) -> RankingDatasetMapper:
    options: dict[str, Any] = {
        "probability": 1.0,
        "max_objects": 3,
        "rule": "interleave",
        "min_visible": 0.2,
        "memory": 4,
    }
    paste = CopyPaste(**{**options, **keys})
    return RankingDatasetMapper(
        True, augmentations=[T.RandomFlip(0.5)], image_format="BGR", num_ranks=12, copy_paste=paste
    )


@given(objects, objects, st.integers(0, 2**31), st.sampled_from(["interleave", "below", "none"]))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pasting_keeps_the_order_of_the_image(
    picture: Path, first: list[Any], second: list[Any], seed: int, rule: str
) -> None:
    np.random.seed(seed)
    mapper = pasting_mapper(rule=rule)
    donor = sample_of(picture, first)
    for item in donor["annotations"]:
        item["category_id"] += 100
    mapper(donor)
    output = mapper(sample_of(picture, second))
    instances = output["instances"]
    identity, labels = instances.gt_classes.tolist(), instances.gt_ranks.tolist()
    for content, offset in ((second, 0), (first, 100)):
        group = [
            (content[index - offset][1], label)
            for index, label in zip(identity, labels, strict=True)
            if offset <= index < offset + 100
        ]
        for rank, label in group:
            for other_rank, other_label in group:
                if label >= 0 and other_label >= 0:
                    assert np.sign(rank - other_rank) == np.sign(label - other_label)
    masks = bit_masks(instances)
    assert masks.any(axis=(1, 2)).all()
    pasted = [index >= 100 for index in identity]
    if any(pasted):
        assert masks[pasted].sum(axis=0).max() == 1
        covered = masks[pasted].any(axis=0)
        assert not (masks[~np.array(pasted)] & covered).any()


def two_samples(picture: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    donor = sample_of(picture, [((5, 5, 25, 25), 3, False), ((40, 10, 60, 40), 1, True)])
    host = sample_of(picture, [((0, 0, 90, 60), 2, False)])
    return donor, host


def test_pasting_gives_bit_masks_and_changes_the_picture(picture: Path) -> None:
    np.random.seed(0)
    mapper = pasting_mapper()
    donor, host = two_samples(picture)
    mapper(donor)
    plain = RankingDatasetMapper(True, augmentations=[], image_format="BGR")(host)
    output = mapper(host)
    assert isinstance(output["instances"].gt_masks, BitMasks)
    assert len(output["instances"]) > 1
    assert not torch.equal(output["image"], plain["image"])


def test_objects_covered_too_much_leave(picture: Path) -> None:
    np.random.seed(0)
    mapper = pasting_mapper(min_visible=0.999)
    donor, host = two_samples(picture)
    mapper(donor)
    instances = mapper(host)["instances"]
    assert len(instances) == 1 or instances.gt_masks.tensor[0].sum() < 90 * 60


def test_nothing_is_pasted_at_probability_zero(picture: Path) -> None:
    mapper = pasting_mapper(probability=0.0)
    donor, host = two_samples(picture)
    mapper(donor)
    assert len(mapper(host)["instances"]) == 1


def test_memory_is_bounded(picture: Path) -> None:
    mapper = pasting_mapper(memory=2)
    donor, _ = two_samples(picture)
    for _ in range(5):
        mapper(donor)
    assert mapper.copy_paste is not None
    assert len(mapper.copy_paste.recent) == 2


def test_padding_is_no_object(picture: Path) -> None:
    augmentations = large_scale_jitter(0.2, 0.3, (64, 64))
    mapper = RankingDatasetMapper(True, augmentations=augmentations, image_format="BGR", recompute_boxes=True)
    instances = mapper(sample_of(picture, [((0, 0, 90, 60), 0, False)]))["instances"]
    assert instances.gt_masks.tensor.sum() < 0.2 * 64 * 64


def test_colour_leaves_shape_and_type(picture: Path) -> None:
    image = generated_picture(0, 20, 30)
    changed = RandomColor(0.4, 0.4, 0.4, 30, "BGR")(T.AugInput(image.copy())).apply_image(image)
    assert changed.dtype == np.uint8
    assert changed.shape == image.shape
    assert not np.array_equal(changed, image)


def test_no_change_of_colour_is_none() -> None:
    image = generated_picture(0, 20, 30)
    changed = RandomColor(0, 0, 0, 0, "RGB").get_transform(image).apply_image(image)
    assert np.abs(changed.astype(int) - image).max() <= 1


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


def test_jitter_replaces_the_resize() -> None:
    mapper = RankingDatasetMapper(config("INPUT.LSJ.ENABLED", True), is_train=True)
    assert not any(isinstance(item, T.ResizeShortestEdge) for item in mapper.augmentations.augs)


def test_jitter_gives_one_size(picture: Path) -> None:
    cfg = config("INPUT.LSJ.ENABLED", True, "INPUT.LSJ.SIZE", [56, 72])
    mapper = RankingDatasetMapper(cfg, is_train=True)
    sample = sample_of(picture, [((0, 0, 30, 40), 0, False)])
    assert {tuple(mapper(sample)["image"].shape) for _ in range(4)} == {(3, 56, 72)}


def test_inference_is_never_augmented(picture: Path) -> None:
    keys = [f"INPUT.{key}.ENABLED" for key in ("LSJ", "RANKED_CROP", "COLOR", "CROP", "COPY_PASTE")]
    cfg = config(*[value for key in keys for value in (key, True)])
    mapper = RankingDatasetMapper(cfg, is_train=False)
    assert [type(item) for item in mapper.augmentations.augs] == [T.ResizeShortestEdge]
    assert mapper.copy_paste is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["INPUT.RANKED_CROP.ENABLED", True, "INPUT.RANKED_CROP.MIN_SIZE", 0.0], "RANKED_CROP.MIN_SIZE"),
        (["INPUT.LSJ.ENABLED", True, "INPUT.LSJ.MIN_SCALE", 3.0], "INPUT.LSJ"),
        (["INPUT.COLOR.ENABLED", True, "INPUT.COLOR.CONTRAST", 1.5], "COLOR.CONTRAST"),
        (["INPUT.COLOR.ENABLED", True, "INPUT.FORMAT", "L"], "INPUT.FORMAT"),
        (["INPUT.COPY_PASTE.ENABLED", True, "INPUT.COPY_PASTE.RANKS", "up"], "COPY_PASTE.RANKS"),
        (["INPUT.COPY_PASTE.ENABLED", True, "MODEL.MASK_ON", False], "COPY_PASTE.ENABLED"),
    ],
)
def test_wrong_choices_are_named(options: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RankingDatasetMapper(config(*options), is_train=True)
