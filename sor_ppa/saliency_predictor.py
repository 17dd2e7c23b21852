"""From pictures to saliency maps."""

from __future__ import annotations

import copy
from typing import cast

import numpy as np
import torch
from detectron2.config import CfgNode
from numpy.typing import NDArray

from .building import build_loaded_model
from .config import ConfigError
from .cpu_inference import tune_for_inference
from .export.runtime import is_graph
from .export.saliency import exported_saliency
from .inspyrenet import InSPyReNet
from .layers.precision import fast_bfloat16
from .pictures import Picture, to_bgr

__all__ = ["MODES", "SaliencyPredictor"]

MODES = ("quality", "speed")
"""Quality: as configured, in float32. Speed: one pass at BASE_SIZE, in bfloat16 if that is faster."""


class SaliencyPredictor:
    """A saliency model with loaded weights, tuned for inference, that resizes as published.

    Args:
        cfg: with ``MODEL.META_ARCHITECTURE: InSPyReNet``; ``MODEL.WEIGHTS`` may be an exported model.
        model: used instead of one built from ``cfg`` with ``MODEL.WEIGHTS``; it is copied.
        mode: of :data:`MODES`.

    Raises:
        ConfigError: another meta-architecture, or see :func:`build_loaded_model`.
        ValueError: another mode.
        FileNotFoundError: the file of ``MODEL.WEIGHTS`` does not exist.
    """

    def __init__(self, cfg: CfgNode, *, model: InSPyReNet | None = None, mode: str = "quality") -> None:
        if mode not in MODES:
            raise ValueError(f"mode: expected one of {', '.join(MODES)}, found {mode!r}")
        if cfg.MODEL.META_ARCHITECTURE != "InSPyReNet":
            found = cfg.MODEL.META_ARCHITECTURE
            raise ConfigError(f"MODEL.META_ARCHITECTURE: expected InSPyReNet, found {found}")
        exported = model is None and is_graph(cfg.MODEL.WEIGHTS)
        if exported:
            self.model = exported_saliency(cfg, cfg.MODEL.WEIGHTS)
        else:
            own = build_loaded_model(cfg) if model is None else tune_for_inference(copy.deepcopy(model))
            self.model = cast(InSPyReNet, own)
        if mode == "speed":
            self.model.dynamic, self.model.threshold = False, 0
        self._bgr = cfg.INPUT.FORMAT == "BGR"
        self._bfloat16 = mode == "speed" and not exported and fast_bfloat16(self.model.device)

    def __call__(self, picture: Picture) -> NDArray[np.float32]:
        """Return the saliency map of a picture.

        Args:
            picture: see :func:`to_bgr`; arrays are BGR, as from ``cv2.imread``.

        Returns:
            (H, W) in [0, 1].

        Raises:
            ValueError: not a picture.
        """
        image = to_bgr(picture)
        image = image if self._bgr else image[:, :, ::-1]
        tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        with (
            torch.inference_mode(),
            torch.autocast(self.model.device.type, dtype=torch.bfloat16, enabled=self._bfloat16),
        ):
            (result,) = self.model.inference([{"image": tensor}])
        return result["saliency"].float().cpu().numpy()
