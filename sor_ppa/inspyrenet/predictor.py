"""Pictures in, saliency maps out: what the demo and notebooks use."""

from __future__ import annotations

import copy
import logging
import os
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from numpy.typing import NDArray

from ..checkpoint import SORCheckpointer
from ..cpu_inference import tune_for_inference
from ..visualization.files import read_image
from .meta_arch import InSPyReNet

__all__ = ["MODES", "SaliencyPredictor"]

logger = logging.getLogger(__name__)

MODES = ("quality", "speed")
"""Quality: as configured, in float32. Speed: one pass at BASE_SIZE, in bfloat16 where that is fast."""


class SaliencyPredictor:
    """A saliency model ready for inference: weights loaded, normalisation folded, resizing as published.

    Args:
        cfg: with ``MODEL.META_ARCHITECTURE: InSPyReNet``.
        model: instead of one built from ``cfg`` with ``MODEL.WEIGHTS``; it is copied, not changed.
        mode: of :data:`MODES`.

    Raises:
        ValueError: another meta-architecture or mode.
        FileNotFoundError: ``MODEL.WEIGHTS`` names a file that is not there.
    """

    def __init__(self, cfg: CfgNode, *, model: InSPyReNet | None = None, mode: str = "quality") -> None:
        if mode not in MODES:
            raise ValueError(f"mode: expected one of {', '.join(MODES)}, found {mode!r}")
        if cfg.MODEL.META_ARCHITECTURE != "InSPyReNet":
            found = cfg.MODEL.META_ARCHITECTURE
            raise ValueError(f"MODEL.META_ARCHITECTURE: expected InSPyReNet for saliency, found {found}")
        if cfg.INPUT.FORMAT not in ("RGB", "BGR"):
            raise ValueError(f"INPUT.FORMAT: expected RGB or BGR, found {cfg.INPUT.FORMAT!r}")
        model = _build(cfg) if model is None else copy.deepcopy(model)
        tune_for_inference(model)
        if mode == "speed":
            model.dynamic, model.threshold = False, 0
        self.model = model
        self._bgr = cfg.INPUT.FORMAT == "BGR"
        self._bfloat16 = mode == "speed" and _fast_bfloat16(model.device)

    def __call__(self, picture: NDArray[np.uint8] | str | os.PathLike[str]) -> NDArray[np.float32]:
        """The saliency map of a picture.

        Args:
            picture: (H, W, 3) uint8 BGR, as ``cv2.imread`` gives it, or the path of a file.

        Returns:
            (H, W) in [0, 1].

        Raises:
            ValueError: something that is no picture.
        """
        image = read_image(picture) if isinstance(picture, (str, os.PathLike)) else np.asarray(picture)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            found = f"{image.dtype} {image.shape}"
            raise ValueError(f"picture: expected uint8 (H, W, 3) BGR or a path, found {found}")
        if not self._bgr:
            image = image[:, :, ::-1]
        tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        item: dict[str, Any] = {"image": tensor}
        with (
            torch.inference_mode(),
            torch.autocast(self.model.device.type, dtype=torch.bfloat16, enabled=self._bfloat16),
        ):
            (result,) = self.model.inference([item])
        return result["saliency"].float().cpu().numpy()


def _build(cfg: CfgNode) -> InSPyReNet:
    weights = cfg.MODEL.WEIGHTS
    if weights and "://" not in weights and not os.path.isfile(weights):
        raise FileNotFoundError(f'MODEL.WEIGHTS: no such file: {weights} ("" gives random weights)')
    model = build_model(cfg)
    if weights:
        SORCheckpointer(model).load(weights)
    else:
        logger.warning("MODEL.WEIGHTS is empty: the model keeps its random weights, its maps mean nothing")
    return model


def _fast_bfloat16(device: torch.device) -> bool:
    """Whether the device computes bfloat16 faster than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
        return bool(supported is not None and supported())
    return False
