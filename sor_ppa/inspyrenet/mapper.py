"""Read the images of salient object detection sets for InSPyReNet."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from PIL import Image

from ..data.issues import DatasetError
from ..data.sod import read_mask
from ..visualization.files import read_image
from .augmentation import augment

__all__ = ["SODDatasetMapper"]


class SODDatasetMapper:
    """Read an image and, in training, its mask, and augment both.

    Training: ``image`` uint8 (3, S, S) and ``saliency`` float32 (1, S, S) in [0, 1], S = ``BASE_SIZE``.
    Inference: ``image`` uint8 (3, H, W), which the model resizes.

    Args:
        cfg: reads ``INPUT.FORMAT`` and ``MODEL.INSPYRENET``.
        is_train: augment and add the mask.
    """

    def __init__(self, cfg: CfgNode, is_train: bool = True) -> None:
        self.is_train = is_train
        self.channels = slice(None) if cfg.INPUT.FORMAT == "RGB" else slice(None, None, -1)
        node = cfg.MODEL.INSPYRENET
        self.base_size = node.BASE_SIZE
        self.ranges = {"scale_range": node.SCALE_RANGE, "rotation_range": node.ROTATION_RANGE}

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Return the model's input beside the given entries, as described in the class.

        Args:
            dataset_dict: ``file_name, mask_file_name, image_id, height, width``; it is not changed.

        Raises:
            ImageReadError: the image cannot be read.
            DatasetError: the mask cannot be read, or its size differs from the image's.
        """
        output = dict(dataset_dict)
        image = np.ascontiguousarray(read_image(output["file_name"])[:, :, ::-1])
        height, width = image.shape[:2]
        output.setdefault("height", height)
        output.setdefault("width", width)
        if self.is_train:
            mask = read_mask(output["mask_file_name"])
            if mask.shape != (height, width):
                expected, found = f"the image's {height} x {width} pixels", "{} x {}".format(*mask.shape)
                raise DatasetError(f"{output['mask_file_name']}: expected {expected}, found {found}")
            # detectron2 seeds NumPy's global generator in every worker.
            generator = np.random.RandomState(np.random.randint(2**31))
            pair = (Image.fromarray(image), Image.fromarray(mask))
            pair = augment(pair, self.base_size, generator, **self.ranges)
            image = np.array(pair[0])
            output["saliency"] = torch.from_numpy(np.array(pair[1], np.float32) / 255)[None]
        image = image[:, :, self.channels].transpose(2, 0, 1)
        output["image"] = torch.from_numpy(np.ascontiguousarray(image))
        return output
