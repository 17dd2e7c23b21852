"""Refinement of a detector's results by saliency: sharper masks, and ranks by mean saliency."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances
from numpy.typing import NDArray
from torch import Tensor, nn

from .building import build_checked_model
from .checkpoint import SORCheckpointer
from .config import ConfigError, load_config
from .cpu_inference import tune_for_inference
from .data.masks import mask_box
from .detector_wrapper import DetectorWrapper
from .inspyrenet import InSPyReNet
from .inspyrenet.preprocess import resize_image
from .inspyrenet.refine import ColorRefiner, MaskRefiner, NetworkRefiner, refine_masks
from .visualization.files import read_image

__all__ = ["SaliencyRefinement", "mean_saliency", "rank_by_saliency", "with_saliency"]


def mean_saliency(masks: Tensor, saliency: Tensor) -> Tensor:
    """Return the mean of a saliency map under each mask.

    Args:
        masks: (N, H, W) bool.
        saliency: (H, W) in [0, 1].

    Returns:
        (N,) float32 in [0, 1]; 0 for an empty mask.
    """
    weights = masks.flatten(1).float()
    return (weights @ saliency.flatten().float()) / weights.sum(1).clamp(min=1)


def rank_by_saliency(instances: Instances, saliency: Tensor, score_threshold: float = 0.0) -> Instances:
    """Rank instances by the mean saliency under their masks.

    This is the baseline that the PPA paper (ICCV 2021, section 1) compares to: a saliency map and an instance
    segmentation that are predicted independently.

    Args:
        instances: of one image, with ``pred_masks`` (N, H, W) and ``scores``.
        saliency: (H, W) in [0, 1].
        score_threshold: detections below it get no rank.

    Returns:
        The instances with ``pred_rank_scores`` (N,), the mean saliency, and ``pred_ranks`` (N,) int64 from 0
        for the least salient upward, -1 = not ranked.
    """
    scores = mean_saliency(instances.pred_masks, saliency)
    ranked = instances.scores >= score_threshold
    ranks = torch.full((len(instances),), -1, dtype=torch.int64, device=scores.device)
    order = torch.argsort(scores[ranked], stable=True)
    places = torch.empty_like(order)
    places[order] = torch.arange(len(order), device=order.device)
    ranks[ranked] = places
    result = Instances(instances.image_size, **instances.get_fields())
    result.pred_rank_scores = scores
    result.pred_ranks = ranks
    return result


class SaliencyRefinement(DetectorWrapper):
    """A detector whose masks or ranks are refined by saliency; inputs and outputs are those of the detector.

    The image at full resolution is read from ``original`` (3, H, W) uint8 RGB of an input, else from its
    ``file_name``, else it is ``image`` resized.

    Args:
        detector: returns ``{"instances": ...}`` at the size of the images.
        refiner: sharpens the masks of ranked objects; None: masks stay.
        saliency: a saliency model for ranks by mean saliency; None: ranks stay.
        image_format: channel order of ``image``, "RGB" or "BGR".
        saliency_format: channel order that ``saliency`` takes.
        margin, band: see :func:`refine_masks`.
    """

    #: inputs should have ``original``
    needs_original = True

    def __init__(
        self,
        detector: nn.Module,
        *,
        refiner: MaskRefiner | None = None,
        saliency: InSPyReNet | None = None,
        image_format: str = "BGR",
        saliency_format: str = "RGB",
        margin: float = 0.15,
        band: float = 0.1,
    ) -> None:
        super().__init__(detector)
        self.saliency = saliency
        self.refiner = refiner
        self.image_format = image_format
        self.saliency_format = saliency_format
        self.margin = margin
        self.band = band

    def forward(self, batched_inputs: Sequence[dict[str, Any]]) -> Any:
        """Return the refined results of the detector; in training, its losses."""
        results = self.detector(batched_inputs)
        if self.training:
            return results
        for item, result in zip(batched_inputs, results, strict=True):
            result["instances"] = self.refine(item, result["instances"])
        return results

    @torch.no_grad()
    def refine(self, item: dict[str, Any], instances: Instances) -> Instances:
        """Refine the instances that the detector found in an input."""
        image = self._picture(item, instances.image_size)
        if self.saliency is not None:
            pixels = image if self.saliency_format == "RGB" else image[:, :, ::-1]
            tensor = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
            (answer,) = self.saliency.inference([{"image": tensor}])
            map_ = answer["saliency"].to(instances.scores.device)
            instances = rank_by_saliency(instances, map_)
        if self.refiner is not None and len(instances):
            instances = self._sharpen(image, instances)
        return instances

    def _sharpen(self, image: NDArray[np.uint8], instances: Instances) -> Instances:
        assert self.refiner is not None
        every = torch.arange(len(instances), device=instances.scores.device)
        ranked = every[instances.pred_ranks >= 0] if instances.has("pred_ranks") else every
        masks = instances.pred_masks[ranked].cpu().numpy()
        sharper = refine_masks(image, masks, self.refiner, margin=self.margin, band=self.band)
        result = Instances(instances.image_size, **instances.get_fields())
        result.pred_masks = instances.pred_masks.clone()
        result.pred_masks[ranked] = torch.from_numpy(sharper).to(instances.pred_masks.device)
        boxes = instances.pred_boxes.tensor.clone()
        for row, mask in zip(ranked.tolist(), sharper, strict=True):
            box = mask_box(mask)
            if box is not None:
                # The mask may have grown beyond the box.
                tight = boxes.new_tensor(box)
                boxes[row] = torch.cat([boxes[row, :2].minimum(tight[:2]), boxes[row, 2:].maximum(tight[2:])])
        result.pred_boxes = Boxes(boxes)
        return result

    def _picture(self, item: dict[str, Any], size: tuple[int, int]) -> NDArray[np.uint8]:
        """Return the image at the size of the result, (H, W, 3) uint8 RGB."""
        if "original" in item:
            image = item["original"].cpu().numpy().transpose(1, 2, 0)
        elif "file_name" in item and os.path.isfile(item["file_name"]):
            image = read_image(item["file_name"])[:, :, ::-1]
        else:
            image = resize_image(item["image"], size).clamp(0, 255).byte().cpu().numpy().transpose(1, 2, 0)
            if self.image_format == "BGR":
                image = image[:, :, ::-1]
        if image.shape[:2] != tuple(size):
            name = item.get("file_name", "image")
            raise ValueError(f"{name}: expected the size of the result, {size}, found {image.shape[:2]}")
        return np.ascontiguousarray(image)


def with_saliency(cfg: CfgNode, detector: nn.Module) -> nn.Module:
    """Wrap a detector as ``MODEL.SOR.REFINE`` and ``RANK_BY`` say; return it unchanged if neither does.

    For inference only; load the weights of the detector before.

    Args:
        cfg: the detector's config.
        detector: with its weights.

    Raises:
        ConfigError: the saliency model of ``MODEL.SOR.REFINER`` is missing or of the wrong kind.
    """
    by_saliency = cfg.MODEL.SOR.RANK_BY == "saliency"
    if not cfg.MODEL.SOR.REFINE and not by_saliency:
        return detector
    node = cfg.MODEL.SOR.REFINER
    by_network = cfg.MODEL.SOR.REFINE and node.METHOD == "network"
    saliency, saliency_format = None, "RGB"
    if by_saliency or by_network:
        saliency, saliency_format = _saliency_model(cfg, node.CONFIG, node.WEIGHTS)
    refiner: MaskRefiner | None = None
    if cfg.MODEL.SOR.REFINE:
        refiner = ColorRefiner()
        if by_network:
            assert saliency is not None
            refiner = NetworkRefiner(saliency)
    return SaliencyRefinement(
        detector,
        refiner=refiner,
        saliency=saliency if by_saliency else None,
        image_format=cfg.INPUT.FORMAT,
        saliency_format=saliency_format,
        margin=node.MARGIN,
        band=node.BAND,
    ).eval()


def _saliency_model(cfg: CfgNode, path: str, weights: str) -> tuple[InSPyReNet, str]:
    """Return a saliency model, tuned for inference on the detector's device, and its channel order."""
    saliency_cfg = load_config(path, ["MODEL.DEVICE", cfg.MODEL.DEVICE])
    model = build_checked_model(saliency_cfg)
    if not isinstance(model, InSPyReNet):
        found = saliency_cfg.MODEL.META_ARCHITECTURE
        raise ConfigError(f"{path}: MODEL.META_ARCHITECTURE: expected InSPyReNet, found {found}")
    weights = weights or saliency_cfg.MODEL.WEIGHTS
    if not weights:
        raise ConfigError("MODEL.SOR.REFINER.WEIGHTS: expected the weights of the saliency model, found none")
    SORCheckpointer(model).load(weights)
    tune_for_inference(model)
    return model, saliency_cfg.INPUT.FORMAT
