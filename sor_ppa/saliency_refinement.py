"""Refinement of a detector's results by saliency: sharper masks, and ranks by mean saliency."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances
from numpy.typing import NDArray
from torch import Tensor, nn

from .building import DetectorWrapper
from .config import ConfigError, load_config
from .data.masks import mask_box
from .inspyrenet.preprocess import resize_antialiased
from .inspyrenet.refine import ColorRefiner, NetworkRefiner, refine_masks
from .saliency_predictor import SaliencyPredictor
from .visualization.files import read_image

__all__ = ["SaliencyRefinement", "rank_by_saliency", "with_saliency"]

Image = NDArray[np.uint8]
_OF_THE_BRANCH = ("pred_rank_probabilities", "pred_expected_rank", "pred_first_probability")


def rank_by_saliency(instances: Instances, saliency: Tensor, score_threshold: float = 0.0) -> Instances:
    """Rank instances by the mean saliency under their masks.

    This is the baseline that the PPA paper (ICCV 2021, section 1) compares to: a saliency map and an instance
    segmentation that are predicted independently.

    Args:
        instances: of one image, with ``pred_masks`` (N, H, W) and ``scores``.
        saliency: (H, W) in [0, 1].
        score_threshold: detections below it get no rank.

    Returns:
        The instances with ``pred_rank_scores`` (N,) float32, the mean saliency (0 for an empty mask), and
        ``pred_ranks`` (N,) int64 from 0 for the least salient upward, -1 = not ranked.
    """
    weights = instances.pred_masks.flatten(1).float()
    scores = (weights @ saliency.flatten().float()) / weights.sum(1).clamp(min=1)
    ranked = instances.scores >= score_threshold
    ranks = torch.full((len(instances),), -1, dtype=torch.int64, device=scores.device)
    ranks[ranked] = scores[ranked].argsort(stable=True).argsort()
    kept = {name: v for name, v in instances.get_fields().items() if name not in _OF_THE_BRANCH}
    return _replaced(Instances(instances.image_size, **kept), pred_rank_scores=scores, pred_ranks=ranks)


def _replaced(instances: Instances, **fields: Any) -> Instances:
    """Return instances with some fields replaced."""
    return Instances(instances.image_size, **(instances.get_fields() | fields))


class SaliencyRefinement(DetectorWrapper):
    """A detector whose masks or ranks are refined by saliency; inputs and outputs are those of the detector.

    The image at full resolution is ``original`` (3, H, W) uint8 RGB of an input, else it is read from
    ``file_name``, else it is ``image`` resized.

    Args:
        detector: returns ``{"instances": ...}`` at the size of the images.
        sharpen: from an RGB image and the masks (N, H, W) of its ranked objects to sharper masks, such as
            :func:`refine_masks`; None: masks stay.
        saliency: from a BGR image to its saliency map, for ranks by mean saliency; None: ranks stay.
        image_format: channel order of ``image``, "RGB" or "BGR".
    """

    #: inputs should have ``original``
    needs_original = True

    def __init__(
        self,
        detector: nn.Module,
        *,
        sharpen: Callable[[Image, NDArray[np.bool_]], NDArray[np.bool_]] | None = None,
        saliency: Callable[[Image], NDArray[np.float32]] | None = None,
        image_format: str = "BGR",
    ) -> None:
        super().__init__(detector)
        self.sharpen = sharpen
        self.saliency = saliency
        self.image_format = image_format

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
            saliency = self.saliency(np.ascontiguousarray(image[:, :, ::-1]))
            instances = rank_by_saliency(instances, torch.from_numpy(saliency).to(instances.scores.device))
        if self.sharpen is None or not len(instances):
            return instances
        every = torch.arange(len(instances), device=instances.scores.device)
        ranked = every[instances.pred_ranks >= 0] if instances.has("pred_ranks") else every
        sharper = self.sharpen(image, instances.pred_masks[ranked].cpu().numpy())
        refined = instances.pred_masks.clone()
        refined[ranked] = torch.from_numpy(sharper).to(refined.device)
        boxes = instances.pred_boxes.tensor.clone()
        for row, mask in zip(ranked.tolist(), sharper, strict=True):
            if box := mask_box(mask):  # the mask may have grown beyond the box
                tight = boxes.new_tensor(box)
                boxes[row] = torch.cat([boxes[row, :2].minimum(tight[:2]), boxes[row, 2:].maximum(tight[2:])])
        return _replaced(instances, pred_masks=refined, pred_boxes=Boxes(boxes))

    def _picture(self, item: dict[str, Any], size: tuple[int, int]) -> Image:
        """Return the image at the size of the result, (H, W, 3) uint8 RGB."""
        if "original" in item:
            image = item["original"].cpu().numpy().transpose(1, 2, 0)
        elif "file_name" in item and os.path.isfile(item["file_name"]):
            image = read_image(item["file_name"])[:, :, ::-1]
        else:
            resized = resize_antialiased(item["image"], size).clamp(0, 255).byte().cpu().numpy()
            image = resized[:: -1 if self.image_format == "BGR" else 1].transpose(1, 2, 0)
        if image.shape[:2] != tuple(size):
            name = item.get("file_name", "image")
            raise ValueError(f"{name}: expected the size of the result, {size}, found {image.shape[:2]}")
        return np.ascontiguousarray(image)


def with_saliency(cfg: CfgNode, detector: nn.Module) -> nn.Module:
    """Wrap a detector as ``MODEL.SOR.REFINE`` and ``RANK_BY`` say; return it unchanged if neither does.

    For inference only; load the weights of the detector before.

    Raises:
        ConfigError: the saliency model of ``MODEL.SOR.REFINER`` is missing or of the wrong kind.
    """
    refine, by_saliency = cfg.MODEL.SOR.REFINE, cfg.MODEL.SOR.RANK_BY == "saliency"
    if not refine and not by_saliency:
        return detector
    node = cfg.MODEL.SOR.REFINER
    by_network = refine and node.METHOD == "network"
    saliency = _saliency_predictor(cfg) if by_saliency or by_network else None
    refiner = NetworkRefiner(saliency.model) if saliency is not None and by_network else ColorRefiner()
    sharpen = partial(refine_masks, refiner=refiner, margin=node.MARGIN, band=node.BAND)
    stage = SaliencyRefinement(
        detector,
        sharpen=sharpen if refine else None,
        saliency=saliency if by_saliency else None,
        image_format=cfg.INPUT.FORMAT,
    )
    if saliency is not None:
        stage.saliency_network = saliency.model  # a submodule: its parameters are parameters of the stage
    return stage.eval()


def _saliency_predictor(cfg: CfgNode) -> SaliencyPredictor:
    """Return the predictor of ``MODEL.SOR.REFINER``, on the device of the detector."""
    node = cfg.MODEL.SOR.REFINER
    weights = ["MODEL.WEIGHTS", node.WEIGHTS] if node.WEIGHTS else []
    saliency_cfg = load_config(node.CONFIG, ["MODEL.DEVICE", cfg.MODEL.DEVICE, *weights])
    if not saliency_cfg.MODEL.WEIGHTS:
        raise ConfigError("MODEL.SOR.REFINER.WEIGHTS: expected the weights of the saliency model, found none")
    try:
        return SaliencyPredictor(saliency_cfg)
    except (FileNotFoundError, ConfigError) as error:
        raise ConfigError(f"{node.CONFIG}: {error}") from error
