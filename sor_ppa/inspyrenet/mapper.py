"""From a dataset dict of a salient object detection set to what InSPyReNet takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import detection_utils as utils
from PIL import Image
from torch import Tensor

from ..data.issues import DatasetError
from ..data.sod import read_mask
from .augmentation import augment
from .preprocess import dynamic_size, resize_image

__all__ = ["SODDatasetMapper"]


class SODDatasetMapper:
    """Reads image and mask; augments in training, resizes in inference.

    Training: ``image`` uint8 (3, S, S) and ``saliency`` float32 (1, S, S) in [0, 1]. Inference: ``image``
    uint8 (3, H, W) at the size of the network and, where the model blends, ``image_lr`` (3, S, S).
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        image_format: str = "RGB",
        base_size: int = 384,
        dynamic: bool = True,
        max_short_side: int = 1280,
        threshold: int = 512,
        scale_range: Sequence[float] = (0.75, 1.25),
        rotation_range: Sequence[int] = (-10, 10),
    ) -> None:
        """
        Args:
            is_train: augment and add the mask.
            image_format: "RGB" or "BGR": the order of the channels in ``image``.
            base_size: S in pixels.
            dynamic: see :class:`InSPyReNet`; so are ``max_short_side`` and ``threshold``.
            max_short_side: in pixels.
            threshold: in pixels.
            scale_range: of :func:`augment`; so is ``rotation_range``.
            rotation_range: in degrees.

        Raises:
            ValueError: an unknown image format.
        """
        if image_format not in ("RGB", "BGR"):
            raise ValueError(f"INPUT.FORMAT: expected 'RGB' or 'BGR', found {image_format!r}")
        self.is_train = is_train
        self.image_format = image_format
        self.base_size = base_size
        self.dynamic = dynamic
        self.max_short_side = max_short_side
        self.threshold = threshold
        self.scale_range = scale_range
        self.rotation_range = rotation_range

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        """Arguments from a config."""
        node = cfg.MODEL.INSPYRENET
        return {
            "is_train": is_train,
            "image_format": cfg.INPUT.FORMAT,
            "base_size": node.BASE_SIZE,
            "dynamic": node.RESIZE == "dynamic",
            "max_short_side": node.MAX_SHORT_SIDE,
            "threshold": node.THRESHOLD,
            "scale_range": node.SCALE_RANGE,
            "rotation_range": node.ROTATION_RANGE,
        }

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """
        Args:
            dataset_dict: ``file_name, mask_file_name, image_id, height, width``; it is not changed.

        Returns:
            The model's input, as the class says, beside the given entries.

        Raises:
            DatasetError: an image or a mask cannot be read, or their sizes differ.
        """
        output = dict(dataset_dict)
        image = _read_image(output["file_name"])
        output.setdefault("height", image.shape[0])
        output.setdefault("width", image.shape[1])
        if self.is_train:
            mask = read_mask(output["mask_file_name"])
            if mask.shape != image.shape[:2]:
                raise DatasetError(
                    f"{output['mask_file_name']}: found {mask.shape[0]} x {mask.shape[1]} pixels, expected "
                    f"the size of {output['file_name']}, {image.shape[0]} x {image.shape[1]}"
                )
            # detectron2 seeds numpy's global generator in every worker.
            generator = np.random.RandomState(np.random.randint(2**31))
            pair = augment(
                (Image.fromarray(image), Image.fromarray(mask)),
                self.base_size,
                generator,
                scale_range=self.scale_range,
                rotation_range=self.rotation_range,
            )
            output["image"] = self._tensor(np.array(pair[0]))
            output["saliency"] = torch.from_numpy(np.array(pair[1], np.float32) / 255)[None]
            return output

        tensor = self._tensor(image)
        base = (self.base_size, self.base_size)
        height, width = image.shape[:2]
        size = dynamic_size(height, width, self.max_short_side) if self.dynamic else base
        if self.threshold:
            output["image_lr"] = resize_image(tensor, base)
        output["image"] = resize_image(tensor, size)
        return output

    def _tensor(self, image: np.ndarray) -> Tensor:
        if self.image_format == "BGR":
            image = image[:, :, ::-1]
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def _read_image(path: str) -> np.ndarray:
    """(H, W, 3) uint8 RGB, upright."""
    try:
        return utils.read_image(path, format="RGB")
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such image") from None
    except Exception as error:
        raise DatasetError(f"{path}: not a readable image ({error})") from error
