"""From a dataset dict to what the model takes."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances, PolygonMasks, polygons_to_bitmask
from pycocotools import mask as mask_util

from .augment import CopyPaste, RandomColour, RankedCrop, large_scale_jitter
from .detr_augmentation import detr_augmentation
from .faults import DatasetError
from .ranks import RANK_OVERFLOWS, RANK_RULES, training_ranks
from .record import UNRANKED

__all__ = ["RankingDatasetMapper"]

logger = logging.getLogger(__name__)


class RankingDatasetMapper:
    """Reads the image of a dataset dict, augments it and makes the training targets.

    Every object keeps its own rank through all of it: crowds leave (as in detectron2), objects that
    an augmentation removes leave, objects without a rank stay with ``gt_ranks`` -1, and what remains
    keeps its order.

    Training output: ``image`` uint8 (3, H, W), ``instances`` with ``gt_boxes, gt_classes, gt_masks``
    (PolygonMasks, or BitMasks where asked for or where an object's mask is no polygon) and
    ``gt_ranks`` int64, besides ``file_name, image_id, height, width``. Test output: the same without
    ``instances``.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        augmentations: list[T.Augmentation | T.Transform],
        image_format: str,
        use_instance_mask: bool = True,
        instance_mask_format: str = "polygon",
        recompute_boxes: bool = False,
        num_ranks: int = 5,
        rank_rule: str = "top",
        rank_overflow: str = "lowest",
        min_visible: float = 0.0,
        copy_paste: CopyPaste | None = None,
    ) -> None:
        """
        Args:
            is_train: whether to make training targets.
            augmentations: applied in order.
            image_format: as detectron2's ``read_image`` takes it ("BGR", "RGB", ...).
            use_instance_mask: whether to make ``gt_masks``.
            instance_mask_format: "polygon" or "bitmask".
            recompute_boxes: take boxes from the masks (after a crop they are tighter).
            num_ranks, rank_rule, rank_overflow: see ``training_ranks``.
            min_visible: an object of whose box less than this share is left by crops leaves.
            copy_paste: pastes ranked objects of earlier images; needs masks.

        Raises:
            ValueError: a choice that does not exist.
        """
        for name, value, choices in (
            ("INPUT.MASK_FORMAT", instance_mask_format, ("polygon", "bitmask")),
            ("DATASETS.RANK_RULE", rank_rule, RANK_RULES),
            ("DATASETS.RANK_OVERFLOW", rank_overflow, RANK_OVERFLOWS),
        ):
            if value not in choices:
                raise ValueError(f"{name}: found {value!r}, expected one of {', '.join(choices)}")
        self.is_train = is_train
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format
        self.use_instance_mask = use_instance_mask
        self.instance_mask_format = instance_mask_format
        self.recompute_boxes = recompute_boxes
        self.num_ranks = num_ranks
        self.rank_rule = rank_rule
        self.rank_overflow = rank_overflow
        self.min_visible = min_visible
        self.copy_paste = copy_paste if is_train else None
        mode = "training" if is_train else "inference"
        logger.info("augmentations used in %s: %s", mode, augmentations)

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        """Arguments from a config."""
        if cfg.INPUT.AUGMENTATION not in ("default", "detr"):
            found = cfg.INPUT.AUGMENTATION
            raise ValueError(f"INPUT.AUGMENTATION: found {found!r}, expected default or detr")
        detr = is_train and cfg.INPUT.AUGMENTATION == "detr"
        augmentations = detr_augmentation(cfg) if detr else utils.build_augmentation(cfg, is_train)
        crop = is_train and (cfg.INPUT.CROP.ENABLED or cfg.INPUT.LSJ.ENABLED or cfg.INPUT.RANKED_CROP.ENABLED)
        paste = is_train and cfg.INPUT.COPY_PASTE.ENABLED
        if is_train:
            augmentations = _training_augmentations(cfg, augmentations)
        if paste and not cfg.MODEL.MASK_ON:
            raise ValueError("INPUT.COPY_PASTE.ENABLED: found True with MODEL.MASK_ON False, expected masks")
        return {
            "is_train": is_train,
            "augmentations": augmentations,
            "image_format": cfg.INPUT.FORMAT,
            "use_instance_mask": cfg.MODEL.MASK_ON,
            "instance_mask_format": cfg.INPUT.MASK_FORMAT,
            "recompute_boxes": (crop or detr) and cfg.MODEL.MASK_ON,
            "num_ranks": cfg.MODEL.SOR.NUM_RANKS,
            "rank_rule": cfg.DATASETS.RANK_RULE,
            "rank_overflow": cfg.DATASETS.RANK_OVERFLOW,
            "min_visible": cfg.INPUT.MIN_VISIBLE,
            "copy_paste": CopyPaste(
                cfg.INPUT.COPY_PASTE.PROB,
                cfg.INPUT.COPY_PASTE.MAX_OBJECTS,
                cfg.INPUT.COPY_PASTE.RANKS,
                cfg.INPUT.COPY_PASTE.MIN_VISIBLE,
                cfg.INPUT.COPY_PASTE.MEMORY,
            )
            if paste
            else None,
        }

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """
        Args:
            dataset_dict: one image in detectron2's format; it is not changed.

        Returns:
            the model's input, as the class says.

        Raises:
            DatasetError: the image or an annotation cannot be used.
        """
        output = {key: value for key, value in dataset_dict.items() if key != "annotations"}
        image, transforms = self._augmented(dataset_dict, output)
        if self.is_train and "annotations" in dataset_dict:
            instances = self._instances(dataset_dict, transforms, (image.shape[0], image.shape[1]))
            pasted = False
            if self.copy_paste is not None:
                before = instances
                image, instances = self.copy_paste(image, instances, dataset_dict, self._load)
                pasted = instances is not before
            rule = "top" if pasted else self.rank_rule
            ranks = instances.gt_ranks.tolist()
            instances.gt_ranks = torch.from_numpy(
                training_ranks(ranks, self.num_ranks, rule, self.rank_overflow)
            )
            output["instances"] = instances
        output["image"] = torch.as_tensor(np.ascontiguousarray(image.transpose(2, 0, 1)))
        return output

    def _load(self, dataset_dict: dict[str, Any]) -> tuple[np.ndarray, Instances]:
        """Augmented image and its targets, with the dataset's own ranks."""
        image, transforms = self._augmented(dataset_dict, dict(dataset_dict))
        return image, self._instances(dataset_dict, transforms, (image.shape[0], image.shape[1]))

    def _augmented(
        self, dataset_dict: dict[str, Any], output: dict[str, Any]
    ) -> tuple[np.ndarray, T.TransformList]:
        """Read and augment the image; ``output`` gets its size where the dict has none."""
        image = self._read(output)
        ranked = [item for item in dataset_dict.get("annotations", ()) if item.get("gt_rank", UNRANKED) >= 0]
        boxes = [BoxMode.convert(item["bbox"], item["bbox_mode"], BoxMode.XYXY_ABS) for item in ranked]
        augmented = T.AugInput(image, boxes=np.asarray(boxes, dtype=np.float64).reshape(-1, 4))
        transforms = self.augmentations(augmented)
        return augmented.image, transforms

    def _read(self, output: dict[str, Any]) -> np.ndarray:
        file_name = output["file_name"]
        try:
            image = utils.read_image(file_name, format=self.image_format)
        except FileNotFoundError:
            raise DatasetError(f"{file_name}: no such image (image_id {output.get('image_id')})") from None
        except Exception as error:
            raise DatasetError(f"{file_name}: not a readable image ({error})") from error
        utils.check_image_size(output, image)
        return image

    def _instances(
        self, dataset_dict: dict[str, Any], transforms: T.TransformList, shape: tuple[int, int]
    ) -> Instances:
        """Targets of one image; ``shape`` is (height, width) after the transforms."""
        kept = [item for item in dataset_dict["annotations"] if not item.get("iscrowd", 0)]
        instances = Instances(shape)
        boxes = [BoxMode.convert(item["bbox"], item["bbox_mode"], BoxMode.XYXY_ABS) for item in kept]
        corners = transforms.apply_box(np.asarray(boxes, dtype=np.float64).reshape(-1, 4))
        instances.gt_boxes = Boxes(torch.as_tensor(corners, dtype=torch.float32).reshape(-1, 4))
        whole = instances.gt_boxes.area()
        instances.gt_boxes.clip(shape)
        visible = instances.gt_boxes.area() >= self.min_visible * whole
        instances.gt_classes = torch.tensor([int(item["category_id"]) for item in kept], dtype=torch.int64)
        ranks = torch.tensor([int(item.get("gt_rank", UNRANKED)) for item in kept], dtype=torch.int64)
        instances.gt_ranks = ranks
        if self.use_instance_mask:
            instances.gt_masks = self._masks(dataset_dict, kept, transforms, shape)
            if self.recompute_boxes:
                instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
        return utils.filter_empty_instances(instances[visible])

    def _masks(
        self,
        dataset_dict: dict[str, Any],
        kept: list[dict[str, Any]],
        transforms: T.TransformList,
        shape: tuple[int, int],
    ) -> PolygonMasks | BitMasks:
        segmentations = []
        for index, item in enumerate(kept):
            segmentation = item.get("segmentation")
            if not isinstance(segmentation, (list, dict)) or not len(segmentation):
                raise DatasetError(
                    f"{dataset_dict['file_name']}: object {index}: field segmentation: "
                    f"found {type(segmentation).__name__}, expected polygons or RLE"
                )
            segmentations.append(segmentation)
        cropped = any(isinstance(item, T.CropTransform) for item in transforms.transforms)
        as_polygons = self.instance_mask_format == "polygon" and not cropped
        if as_polygons and all(isinstance(item, list) for item in segmentations):
            return PolygonMasks(
                [
                    [
                        polygon.reshape(-1)
                        for polygon in transforms.apply_polygons(
                            [np.asarray(polygon, dtype=np.float64).reshape(-1, 2) for polygon in polygons]
                        )
                    ]
                    for polygons in segmentations
                ]
            )
        if not segmentations:
            return BitMasks(torch.zeros((0, *shape), dtype=torch.bool))
        size = dataset_dict["height"], dataset_dict["width"]
        masks = [transforms.apply_segmentation(_bitmask(item, *size)) for item in segmentations]
        return BitMasks(torch.from_numpy(np.stack(masks) == 1))  # padding may be any other value


def _training_augmentations(cfg: CfgNode, published: list[T.Augmentation]) -> list[T.Augmentation]:
    """The published augmentations (resize, flip), preceded, replaced or followed as the config says."""
    augmentations = list(published)
    if cfg.INPUT.LSJ.ENABLED:
        jitter = cfg.INPUT.LSJ
        kept = [item for item in augmentations if not isinstance(item, T.ResizeShortestEdge)]
        augmentations = large_scale_jitter(jitter.MIN_SCALE, jitter.MAX_SCALE, jitter.SIZE) + kept
    if cfg.INPUT.RANKED_CROP.ENABLED:
        augmentations.insert(0, RankedCrop(cfg.INPUT.RANKED_CROP.MIN_SIZE))
    if cfg.INPUT.CROP.ENABLED:
        augmentations.insert(0, T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE))
    if cfg.INPUT.COLOR.ENABLED:
        colour = cfg.INPUT.COLOR
        augmentations.append(
            RandomColour(colour.BRIGHTNESS, colour.CONTRAST, colour.SATURATION, colour.HUE, cfg.INPUT.FORMAT)
        )
    return augmentations


def _bitmask(segmentation: list[list[float]] | dict[str, Any], height: int, width: int) -> np.ndarray:
    """(H, W) uint8 of polygons or (compressed or not) RLE."""
    if isinstance(segmentation, list):
        polygons = [np.asarray(polygon, dtype=np.float64) for polygon in segmentation]
        return polygons_to_bitmask(polygons, height, width).astype(np.uint8)
    if isinstance(segmentation["counts"], list):
        segmentation = mask_util.frPyObjects(segmentation, height, width)
    return mask_util.decode(segmentation)
