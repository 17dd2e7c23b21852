"""What saliency adds behind a detector: sharper masks, and ranks by mean saliency."""

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

from ..cpu_inference import tune_for_inference
from ..data.masks import mask_box
from ..visualization.files import read_image
from .meta_arch import InSPyReNet
from .preprocess import resize_image
from .refine import ColorRefiner, MaskRefiner, NetworkRefiner, refine_masks

__all__ = ["SaliencyStage", "mean_saliency", "rank_by_saliency", "with_saliency"]


def mean_saliency(masks: Tensor, saliency: Tensor) -> Tensor:
    """Mean of a saliency map under each mask.

    Args:
        masks: (N, H, W) bool.
        saliency: (H, W) in [0, 1].

    Returns:
        (N,) float32 in [0, 1]; 0 for an empty mask.
    """
    weights = masks.flatten(1).float()
    return (weights @ saliency.flatten().float()) / weights.sum(1).clamp(min=1)


def rank_by_saliency(instances: Instances, saliency: Tensor, score_threshold: float = 0.0) -> Instances:
    """The post-processing baseline: instances ranked by the mean saliency under their masks.

    This is what the PPA paper (ICCV 2021, section 1) argues against: a saliency map and an instance
    segmentation made independently and joined afterwards.

    Args:
        instances: of one image, with ``pred_masks`` (N, H, W) and ``scores``.
        saliency: (H, W) in [0, 1].
        score_threshold: detections below it get no rank.

    Returns:
        The instances with ``pred_rank_scores`` (N,), the mean saliency, and ``pred_ranks`` (N,) int64,
        0 for the least salient, one more for each that is more salient, -1 = not ranked.
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


class SaliencyStage(nn.Module):
    """A detector, and what saliency makes of its answers. Takes and returns what the detector does.

    The picture at full resolution comes from ``original`` (3, H, W) uint8 RGB of an input, else from its
    ``file_name``, else from ``image`` enlarged.

    Args:
        detector: returns ``{"instances": ...}`` at the pictures' sizes.
        refiner: sharpens the masks of ranked objects; None: masks stay.
        saliency: a saliency model for ranks by mean saliency; None: ranks stay.
        image_format: channel order of ``image``, "RGB" or "BGR".
        saliency_format: channel order that ``saliency`` takes.
        margin: see :func:`refine_masks`; so is ``band``.
        band: half width of what may change.
    """

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
        super().__init__()
        self.detector = detector
        self.saliency = saliency
        self.refiner = refiner
        self.image_format = image_format
        self.saliency_format = saliency_format
        self.margin = margin
        self.band = band

    @property
    def backbone(self) -> Any:
        """The detector's backbone, which says how pictures are padded."""
        return getattr(self.detector, "backbone", None)

    def forward(self, batched_inputs: Sequence[dict[str, Any]]) -> Any:
        """The detector's losses in training; its answers with sharper masks or other ranks in inference."""
        results = self.detector(batched_inputs)
        if self.training:
            return results
        for item, result in zip(batched_inputs, results, strict=True):
            result["instances"] = self._finish(item, result["instances"])
        return results

    @torch.no_grad()
    def _finish(self, item: dict[str, Any], instances: Instances) -> Instances:
        image = self._picture(item, instances.image_size)
        if self.saliency is not None:
            pixels = image if self.saliency_format == "RGB" else image[:, :, ::-1]
            tensor = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
            (answer,) = self.saliency.inference([{"image": tensor}])
            map_ = answer["saliency"].to(instances.scores.device)
            instances = rank_by_saliency(instances, map_)
        if self.refiner is not None and len(instances):
            instances = self._refine(image, instances)
        return instances

    def _refine(self, image: NDArray[np.uint8], instances: Instances) -> Instances:
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
                # The mask may have grown beyond the box; the box keeps what the detector saw beside it.
                tight = boxes.new_tensor(box)
                boxes[row] = torch.cat([boxes[row, :2].minimum(tight[:2]), boxes[row, 2:].maximum(tight[2:])])
        result.pred_boxes = Boxes(boxes)
        return result

    def _picture(self, item: dict[str, Any], size: tuple[int, int]) -> NDArray[np.uint8]:
        """The picture at the size of the answer, (H, W, 3) uint8 RGB."""
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
            raise ValueError(f"{name}: expected the size of the answer, {size}, found {image.shape[:2]}")
        return np.ascontiguousarray(image)


def with_saliency(cfg: CfgNode, detector: nn.Module) -> nn.Module:
    """The detector with what ``MODEL.SOR.REFINE`` and ``MODEL.SOR.RANK_BY`` ask for; itself if nothing.

    Call it after the detector's weights are loaded, for inference only.

    Args:
        cfg: the detector's config.
        detector: built and loaded.

    Raises:
        ValueError: an unusable setting.
        FileNotFoundError: a config or weight file that is not there.
    """
    by_saliency = cfg.MODEL.SOR.RANK_BY == "saliency"
    if cfg.MODEL.SOR.RANK_BY not in ("head", "saliency"):
        raise ValueError(f"MODEL.SOR.RANK_BY: expected 'head' or 'saliency', found {cfg.MODEL.SOR.RANK_BY!r}")
    if not cfg.MODEL.SOR.REFINE and not by_saliency:
        return detector
    node = cfg.MODEL.SOR.REFINER
    saliency_cfg, saliency = None, None
    if node.CONFIG:
        saliency_cfg, saliency = _saliency_model(cfg, node.CONFIG, node.WEIGHTS)
    elif by_saliency:
        raise ValueError("MODEL.SOR.REFINER.CONFIG: expected the config of a saliency model, found none")
    refiner: MaskRefiner | None = None
    if cfg.MODEL.SOR.REFINE:
        by_network = saliency is not None and node.METHOD == "network"
        if node.METHOD not in ("color", "network"):
            raise ValueError(
                f"MODEL.SOR.REFINER.METHOD: expected 'color' or 'network', found {node.METHOD!r}"
            )
        if node.METHOD == "network" and saliency is None:
            raise ValueError("MODEL.SOR.REFINER.CONFIG: expected the config of a saliency model, found none")
        refiner = NetworkRefiner(saliency) if by_network and saliency is not None else ColorRefiner()
    stage = SaliencyStage(
        detector,
        refiner=refiner,
        saliency=saliency if by_saliency else None,
        image_format=cfg.INPUT.FORMAT,
        saliency_format="RGB" if saliency_cfg is None else saliency_cfg.INPUT.FORMAT,
        margin=node.MARGIN,
        band=node.BAND,
    )
    return stage.eval()


def _saliency_model(cfg: CfgNode, path: str, weights: str) -> tuple[CfgNode, InSPyReNet]:
    """A saliency model from its config file, on the detector's device, ready for inference."""
    from detectron2.modeling import build_model

    from ..checkpoint import SORCheckpointer
    from ..config import load_config

    if not os.path.isfile(path):
        raise FileNotFoundError(f"MODEL.SOR.REFINER.CONFIG: no such file: {path}")
    saliency_cfg = load_config(path, ["MODEL.DEVICE", cfg.MODEL.DEVICE])
    model = build_model(saliency_cfg)
    if not isinstance(model, InSPyReNet):
        raise ValueError(f"{path}: expected MODEL.META_ARCHITECTURE InSPyReNet, found {type(model).__name__}")
    weights = weights or saliency_cfg.MODEL.WEIGHTS
    if not weights:
        raise ValueError("MODEL.SOR.REFINER.WEIGHTS: expected the weights of the saliency model, found none")
    SORCheckpointer(model).load(weights)
    tune_for_inference(model)
    return saliency_cfg, model
