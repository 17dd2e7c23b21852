"""The mapper from a dataset dict to the input of a model."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import DatasetMapper
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances, PolygonMasks

from .augment import CopyPaste, tight_boxes, training_augmentations
from .images import decoded_image
from .issues import DatasetError, expected
from .masks import segmentation_mask
from .record import RANK_OVERFLOWS, RANK_RULES, UNRANKED, training_ranks


class RankingDatasetMapper(DatasetMapper):
    """Read the image of a dataset dict, augment it and make the training targets.

    Crowds are removed (as in detectron2), and so are objects that an augmentation removes. The remaining
    objects keep their order; objects without a rank have ``gt_ranks`` -1.

    Training output: ``image`` uint8 (3, H, W), ``instances`` with ``gt_boxes, gt_classes, gt_masks``
    (PolygonMasks; BitMasks if asked for, or if the mask of an object is no polygon or was cropped) and
    ``gt_ranks`` int64, besides ``file_name, image_id, height, width``. Test output: the same without
    ``instances``.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        num_ranks: int = 5,
        rank_rule: str = "top",
        rank_overflow: str = "lowest",
        whole_order: bool = False,
        min_visible: float = 0.0,
        copy_paste: CopyPaste | None = None,
        use_instance_mask: bool = True,
        **options: Any,
    ) -> None:
        """
        Args:
            is_train: whether to make training targets.
            num_ranks, rank_rule, rank_overflow: see ``training_ranks``.
            whole_order: keep all distinct ranks, for losses of the order; the other rules are not used.
            min_visible: objects are removed if crops leave less than this share of their box.
            copy_paste: pastes ranked objects of other images; needs masks.
            use_instance_mask, options: as for detectron2's ``DatasetMapper``.
        """
        super().__init__(is_train, use_instance_mask=use_instance_mask, **options)
        assert self.image_format in ("BGR", "RGB"), self.image_format
        assert self.instance_mask_format in ("polygon", "bitmask"), self.instance_mask_format
        assert rank_rule in RANK_RULES, rank_rule
        assert rank_overflow in RANK_OVERFLOWS, rank_overflow
        assert use_instance_mask or copy_paste is None, "copy-paste needs masks"
        self.num_ranks = num_ranks
        self.rank_rule = rank_rule
        self.rank_overflow = rank_overflow
        self.whole_order = whole_order
        self.min_visible = min_visible
        self.copy_paste = copy_paste if is_train else None

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        """Return the arguments that a config stands for."""
        node, arguments = cfg.INPUT, super().from_config(cfg, is_train)
        if is_train:
            crops = (node.CROP.ENABLED, node.LSJ.ENABLED, node.RANKED_CROP.ENABLED)
            cropped = any(crops) or node.AUGMENTATION == "detr"
            arguments["recompute_boxes"] = cropped and cfg.MODEL.MASK_ON
            arguments["augmentations"] = training_augmentations(cfg)
        if is_train and node.COPY_PASTE.ENABLED:
            paste = node.COPY_PASTE
            arguments["copy_paste"] = CopyPaste(paste.PROB, paste.MAX_OBJECTS, paste.RANKS, paste.MIN_VISIBLE)
        return {
            **arguments,
            "num_ranks": cfg.MODEL.SOR.NUM_RANKS,
            "rank_rule": cfg.DATASETS.RANK_RULE,
            "rank_overflow": cfg.DATASETS.RANK_OVERFLOW,
            "whole_order": cfg.MODEL.SOR.LOSS != "cross_entropy",
            "min_visible": node.MIN_VISIBLE,
        }

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Return the input of the model for a dict in detectron2's format, or raise ``DatasetError``."""
        output = {key: value for key, value in dataset_dict.items() if key != "annotations"}
        image, transforms = self._augmented(dataset_dict, output)
        if self.is_train and "annotations" in dataset_dict:
            instances = self._instances(dataset_dict, transforms, image.shape[:2])
            rule = self.rank_rule
            if self.copy_paste is not None:
                before = instances
                image, instances = self.copy_paste(image, instances, self._load)
                rule = rule if instances is before else "top"
            ranks = instances.gt_ranks.tolist()
            if self.whole_order:
                labels = training_ranks(ranks, max(self.num_ranks, len(ranks)))
            else:
                labels = training_ranks(ranks, self.num_ranks, rule, self.rank_overflow)
            instances.gt_ranks = torch.from_numpy(labels)
            output["instances"] = instances
        output["image"] = torch.from_numpy(np.stack(cv2.split(image)))
        return output

    def _load(self, dataset_dict: dict[str, Any]) -> tuple[np.ndarray, Instances]:
        """Return an augmented image and its targets, with the dataset's own ranks."""
        image, transforms = self._augmented(dataset_dict, dict(dataset_dict))
        return image, self._instances(dataset_dict, transforms, image.shape[:2])

    def _augmented(
        self, dataset_dict: dict[str, Any], output: dict[str, Any]
    ) -> tuple[np.ndarray, T.TransformList]:
        """Read and augment the image; ``output`` gets its size if it has none."""
        image = decoded_image(output["file_name"])
        if self.image_format == "RGB":
            image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        utils.check_image_size(output, image)
        ranked = [item for item in dataset_dict.get("annotations", ()) if item.get("gt_rank", UNRANKED) >= 0]
        augmented = T.AugInput(image, boxes=_corners(ranked))
        try:
            transforms = self.augmentations(augmented)
        except ValueError as error:  # a side of a very long image may shrink to nothing
            found = f"{image.shape[1]} x {image.shape[0]} pixels ({error})"
            raise DatasetError(f"{output['file_name']}: expected a size to resize, found {found}") from error
        return augmented.image, transforms

    def _instances(
        self, dataset_dict: dict[str, Any], transforms: T.TransformList, shape: tuple[int, ...]
    ) -> Instances:
        """Return the targets of one image; ``shape`` is (height, width) after the transforms."""
        kept = [item for item in dataset_dict["annotations"] if not item.get("iscrowd", 0)]
        instances = Instances((shape[0], shape[1]))
        corners = transforms.apply_box(_corners(kept))
        instances.gt_boxes = Boxes(torch.as_tensor(corners, dtype=torch.float32).reshape(-1, 4))
        whole = instances.gt_boxes.area()
        instances.gt_boxes.clip(instances.image_size)
        visible = instances.gt_boxes.area() >= self.min_visible * whole
        instances.gt_classes = torch.tensor([int(item["category_id"]) for item in kept], dtype=torch.int64)
        ranks = [int(item.get("gt_rank", UNRANKED)) for item in kept]
        instances.gt_ranks = torch.tensor(ranks, dtype=torch.int64)
        if self.use_instance_mask:
            instances.gt_masks = self._masks(dataset_dict, kept, transforms, instances.image_size)
            if self.recompute_boxes:
                instances.gt_boxes = tight_boxes(instances.gt_masks)
        return utils.filter_empty_instances(instances[visible])

    def _masks(
        self,
        dataset_dict: dict[str, Any],
        kept: list[dict[str, Any]],
        transforms: T.TransformList,
        shape: tuple[int, int],
    ) -> PolygonMasks | BitMasks:
        """Return the transformed masks of the kept annotations."""
        segmentations: list[Any] = [item.get("segmentation") for item in kept]
        for index, mask in enumerate(segmentations):
            if not isinstance(mask, (list, dict)) or not len(mask):
                place = f"{dataset_dict['file_name']}: object {index}: field segmentation"
                raise DatasetError(f"{place}: {expected('polygons or RLE', mask)}")
        cropped = any(isinstance(item, T.CropTransform) for item in transforms.transforms)
        polygons = all(isinstance(mask, list) for mask in segmentations)
        if polygons and self.instance_mask_format == "polygon" and not cropped:
            outlines = [[np.reshape(part, (-1, 2)).astype(np.float64) for part in m] for m in segmentations]
            return PolygonMasks(
                [[part.reshape(-1) for part in transforms.apply_polygons(parts)] for parts in outlines]
            )
        size = dataset_dict["height"], dataset_dict["width"]
        masks = np.zeros((len(kept), *shape), bool)
        for mask, segmentation in zip(masks, segmentations, strict=True):
            # pycocotools gives columns, which Pillow would copy value by value
            plane = np.ascontiguousarray(segmentation_mask(segmentation, *size), np.uint8)
            mask[:] = transforms.apply_segmentation(plane) == 1  # padding may have any other value
        return BitMasks(torch.from_numpy(masks))


def _corners(annotations: list[dict[str, Any]]) -> np.ndarray:
    """Return the boxes (N, 4) of annotations, XYXY in pixels."""
    boxes = [BoxMode.convert(item["bbox"], item["bbox_mode"], BoxMode.XYXY_ABS) for item in annotations]
    return np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
