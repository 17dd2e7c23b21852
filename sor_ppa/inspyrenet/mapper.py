"""From a dataset dict of a salient object detection set to the input of InSPyReNet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from PIL import Image
from torch import Tensor

from ..data.issues import DatasetError
from ..data.sod import read_mask
from ..visualization.files import read_image
from .augmentation import augment
from .preprocess import dynamic_size, resize_image

__all__ = ["SODDatasetMapper"]


class SODDatasetMapper:
    """Read image and mask; augment in training, resize in inference.

    Training: ``image`` uint8 (3, S, S) and ``saliency`` float32 (1, S, S) in [0, 1]. Inference: ``image``
    uint8 (3, H, W) at the size of the network and, if the model blends, ``image_lr`` (3, S, S).
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
            image_format: order of the channels in ``image``, "RGB" or "BGR".
            base_size: S in pixels.
            dynamic: see :class:`InSPyReNet`.
            max_short_side: see :class:`InSPyReNet`.
            threshold: see :class:`InSPyReNet`.
            scale_range: see :func:`augment`.
            rotation_range: see :func:`augment`.
        """
        assert image_format in ("RGB", "BGR")
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
        """Return the arguments from a config."""
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
        """Return the model's input beside the given entries, as described in the class.

        Args:
            dataset_dict: ``file_name, mask_file_name, image_id, height, width``; it is not changed.

        Raises:
            ImageReadError: the image cannot be read.
            DatasetError: the mask cannot be read, or its size differs from the image's.
        """
        output = dict(dataset_dict)
        image = read_image(output["file_name"])[:, :, ::-1]
        height, width = image.shape[:2]
        output.setdefault("height", height)
        output.setdefault("width", width)
        if not self.is_train:
            tensor = self._tensor(image)
            base = (self.base_size, self.base_size)
            if self.threshold:
                output["image_lr"] = resize_image(tensor, base)
            size = dynamic_size(height, width, self.max_short_side) if self.dynamic else base
            output["image"] = resize_image(tensor, size)
            return output

        mask = read_mask(output["mask_file_name"])
        if mask.shape != (height, width):
            found, expected = f"{mask.shape[0]} x {mask.shape[1]} pixels", f"{height} x {width}"
            raise DatasetError(f"{output['mask_file_name']}: expected the image's {expected}, found {found}")
        pair = augment(
            (Image.fromarray(np.ascontiguousarray(image)), Image.fromarray(mask)),
            self.base_size,
            # detectron2 seeds NumPy's global generator in every worker.
            np.random.RandomState(np.random.randint(2**31)),
            scale_range=self.scale_range,
            rotation_range=self.rotation_range,
        )
        output["image"] = self._tensor(np.array(pair[0]))
        output["saliency"] = torch.from_numpy(np.array(pair[1], np.float32) / 255)[None]
        return output

    def _tensor(self, image: np.ndarray) -> Tensor:
        image = image if self.image_format == "RGB" else image[:, :, ::-1]
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
