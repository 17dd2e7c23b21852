from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import get_detection_dataset_dicts
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, BoxMode, PolygonMasks
from pycocotools import mask as mask_util

from sor_ppa import add_sor_config
from sor_ppa.data import (
    DatasetError,
    RankingDatasetMapper,
    read_assr,
    register_from_config,
    to_detectron2,
)
from tests.data.folders import generated_picture, make_assr_folder, make_coco_folder, make_irsr_folder


def config() -> CfgNode:
    cfg = get_cfg()
    add_sor_config(cfg)
    cfg.merge_from_list(["MODEL.MASK_ON", True, "INPUT.MIN_SIZE_TRAIN", (64,), "INPUT.MIN_SIZE_TEST", 64])
    return cfg


def annotation(x: float, y: float, side: float, rank: int, **more: Any) -> dict[str, Any]:
    return {
        "bbox": [x, y, x + side, y + side],
        "bbox_mode": BoxMode.XYXY_ABS,
        "segmentation": [[x, y, x + side, y, x + side, y + side, x, y + side]],
        "category_id": 0,
        "gt_rank": rank,
        **more,
    }


@pytest.fixture
def sample(tmp_path: Path) -> dict[str, Any]:
    """Image 100 x 200 with objects of side 10, 20, 30, 40 at x = 0, 50, 100, 150 and ranks 2, -1, 0, 1."""
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), generated_picture(0, 100, 200))
    sides, ranks = (10, 20, 30, 40), (2, -1, 0, 1)
    items = [
        annotation(50 * i, 5, side, rank) for i, (side, rank) in enumerate(zip(sides, ranks, strict=True))
    ]
    return {"file_name": str(path), "image_id": 7, "height": 100, "width": 200, "annotations": items}


def mapper_of(*augmentations: Any, **keys: Any) -> RankingDatasetMapper:
    return RankingDatasetMapper(True, augmentations=list(augmentations), image_format="BGR", **keys)


def ranks_by_side(output: dict[str, Any], scale: float = 1.0) -> dict[int, int]:
    """Side of each object in the original picture -> its rank."""
    boxes = output["instances"].gt_boxes.tensor
    sides = ((boxes[:, 3] - boxes[:, 1]) / scale).round().int().tolist()
    return dict(zip(sides, output["instances"].gt_ranks.tolist(), strict=True))


def test_targets(sample: dict[str, Any]) -> None:
    output = mapper_of()(sample)
    instances = output["instances"]
    assert output["image"].shape == (3, 100, 200)
    assert output["image"].dtype == torch.uint8
    assert isinstance(instances.gt_masks, PolygonMasks)
    assert instances.gt_classes.tolist() == [0, 0, 0, 0]
    assert instances.gt_ranks.dtype == torch.int64
    assert instances.gt_boxes.tensor[1].tolist() == [50, 5, 70, 25]
    assert (output["image_id"], output["height"], output["width"]) == (7, 100, 200)


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
def test_flip_and_resize_keep_ranks_with_their_objects(sample: dict[str, Any], mask_format: str) -> None:
    mapper = mapper_of(T.Resize((50, 100)), T.RandomFlip(1.0), instance_mask_format=mask_format)
    output = mapper(sample)
    assert ranks_by_side(output, 0.5) == {10: 4, 20: -1, 30: 2, 40: 3}
    instances = output["instances"]
    tight = instances.gt_masks.get_bounding_boxes().tensor
    assert (tight - instances.gt_boxes.tensor).abs().max() <= 1


def test_the_dict_is_not_changed(sample: dict[str, Any]) -> None:
    before = copy.deepcopy(sample)
    mapper_of(T.Resize((50, 100)))(sample)
    assert sample == before


def test_crowds_are_removed_and_a_missing_rank_is_none(sample: dict[str, Any]) -> None:
    sample["annotations"][0]["iscrowd"] = 1
    del sample["annotations"][3]["gt_rank"]
    assert ranks_by_side(mapper_of()(sample)) == {20: -1, 30: 4, 40: -1}


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
def test_objects_cropped_away_leave_and_the_rest_keeps_its_order(
    sample: dict[str, Any], mask_format: str
) -> None:
    mapper = mapper_of(
        T.CropTransform(90, 0, 110, 100), instance_mask_format=mask_format, recompute_boxes=True
    )
    assert ranks_by_side(mapper(sample)) == {30: 3, 40: 4}


def test_an_object_cut_by_the_crop_gets_the_box_of_its_rest(sample: dict[str, Any]) -> None:
    output = mapper_of(T.CropTransform(60, 0, 30, 100), recompute_boxes=True)(sample)
    assert output["instances"].gt_boxes.tensor.tolist() == [[0, 5, 10, 25]]


def test_everything_cropped_away_is_an_image_without_objects(sample: dict[str, Any]) -> None:
    output = mapper_of(T.CropTransform(0, 60, 200, 40))(sample)
    assert len(output["instances"]) == 0
    assert output["instances"].gt_ranks.shape == (0,)


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
def test_image_without_objects(sample: dict[str, Any], mask_format: str) -> None:
    sample["annotations"] = []
    instances = mapper_of(T.Resize((50, 100)), instance_mask_format=mask_format)(sample)["instances"]
    assert len(instances) == 0
    assert instances.gt_boxes.tensor.shape == (0, 4)
    assert len(instances.gt_masks) == 0
    assert instances.gt_classes.dtype == torch.int64


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
def test_rle_becomes_bitmasks(sample: dict[str, Any], mask_format: str, compressed: bool) -> None:
    mask = np.zeros((100, 200), np.uint8)
    mask[5:15, 0:10] = 1
    counts = np.diff(np.flatnonzero(np.diff(np.r_[2, mask.T.reshape(-1), 2]))).tolist()
    plain = {"size": [100, 200], "counts": counts}
    rle = mask_util.encode(np.asfortranarray(mask)) if compressed else plain
    sample["annotations"][0]["segmentation"] = rle
    instances = mapper_of(T.RandomFlip(1.0), instance_mask_format=mask_format)(sample)["instances"]
    assert isinstance(instances.gt_masks, BitMasks)
    assert torch.equal(instances.gt_masks.tensor[0], torch.from_numpy(mask[:, ::-1].astype(bool)))
    assert instances.gt_ranks.tolist() == [4, -1, 2, 3]


def test_object_without_mask_is_named(sample: dict[str, Any]) -> None:
    del sample["annotations"][2]["segmentation"]
    with pytest.raises(DatasetError, match=r"a\.png: object 2: field segmentation"):
        mapper_of()(sample)


@pytest.mark.parametrize("content", [None, b"no picture"])
def test_bad_image_is_named(sample: dict[str, Any], content: bytes | None) -> None:
    path = Path(sample["file_name"])
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"a\.png"):
        mapper_of()(sample)


def test_by_config(tmp_path: Path) -> None:
    root = make_assr_folder(tmp_path)
    samples = [to_detectron2(record) for record in read_assr(root, "train")]
    training = RankingDatasetMapper(config(), is_train=True)
    outputs = [training(item) for item in samples]
    assert [len(item["instances"]) for item in outputs] == [3, 2, 5, 1, 0]
    assert [min(item["image"].shape[1:]) for item in outputs] == [64] * 5
    assert outputs[2]["instances"].gt_ranks.tolist() == [4, 3, 2, 1, 0]


@pytest.mark.parametrize("is_train", [True, False])
@pytest.mark.parametrize("image_format", ["BGR", "RGB"])
def test_pictures_are_read_as_in_prediction(
    is_train: bool, image_format: str, sample: dict[str, Any], tmp_path: Path
) -> None:
    picture = generated_picture(3, 100, 200)
    alpha = np.full((100, 200, 1), 255, np.uint8)
    alpha[:, :100] = 0
    cv2.imwrite(str(tmp_path / "a.png"), np.concatenate([picture, alpha], axis=2))
    expected = np.where(alpha > 0, picture, np.uint8(255))[..., :: 1 if image_format == "BGR" else -1]
    mapper = RankingDatasetMapper(is_train, augmentations=[], image_format=image_format)
    assert np.array_equal(mapper(sample)["image"].numpy().transpose(1, 2, 0), expected)


@pytest.fixture
def joined(tmp_path: Path) -> CfgNode:
    """A config for training on datasets of different depth."""
    make_assr_folder(tmp_path / "ASSR", ["train"], values=[(1.0, 0.9), (0.9, 1.0, 0.8)])
    make_irsr_folder(tmp_path / "IRSR", ranks=[(0, 1), (6, 5, 4, 3, 2, 1, 0)])
    make_coco_folder(tmp_path / "My Photos", ranks=[(0,), (1, 0)])
    cfg = config()
    cfg.DATASETS.ROOT = str(tmp_path)
    cfg.DATASETS.TRAIN = ("assr_train", "irsr_train", "my_photos_train")
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SOLVER.IMS_PER_BATCH = 2
    register_from_config(cfg)
    return cfg


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        ([], [[4, 3], [3, 4, 2], [3, 4], [4, 3, 2, 1, 0, 0, 0], [4], [4, 3]]),
        (["MODEL.SOR.NUM_RANKS", 8], [[7, 6], [6, 7, 5], [6, 7], [7, 6, 5, 4, 3, 2, 1], [7], [7, 6]]),
        (
            ["DATASETS.RANK_OVERFLOW", "ignore"],
            [[4, 3], [3, 4, 2], [3, 4], [4, 3, 2, 1, 0, -1, -1], [4], [4, 3]],
        ),
        (["MODEL.SOR.LOSS", "pairwise"], [[4, 3], [3, 4, 2], [3, 4], [6, 5, 4, 3, 2, 1, 0], [4], [4, 3]]),
        (["DATASETS.RANK_RULE", "keep"], [[4, 3], [3, 4, 2], [0, 1], [4, 3, 2, 1, 0, 0, 0], [0], [1, 0]]),
    ],
)
def test_labels_of_joined_datasets_follow_the_config(
    options: list[Any], labels: list[list[int]], joined: CfgNode
) -> None:
    joined.merge_from_list(options)
    mapper = RankingDatasetMapper(joined, is_train=True)
    samples = get_detection_dataset_dicts(joined.DATASETS.TRAIN, filter_empty=False)
    assert [mapper(sample)["instances"].gt_ranks.tolist() for sample in samples] == labels


def test_an_image_too_long_to_resize_is_one_line(tmp_path: Path) -> None:
    path = str(tmp_path / "long.png")
    cv2.imwrite(path, np.zeros((1, 9000, 3), np.uint8))
    with pytest.raises(
        DatasetError, match=r"long\.png: expected a size to resize, found 9000 x 1 pixels \(.*\)$"
    ):
        RankingDatasetMapper(config(), is_train=False)({"file_name": path})


def test_in_inference_there_are_no_targets(sample: dict[str, Any]) -> None:
    output = RankingDatasetMapper(config(), is_train=False)(sample)
    assert set(output) == {"file_name", "image_id", "height", "width", "image"}
    assert output["image"].shape == (3, 64, 128)
