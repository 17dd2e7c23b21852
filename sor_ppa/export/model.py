"""An exported ranker in the place of a PyTorch model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import yaml
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances
from numpy.typing import NDArray

from ..layers.batching import round_up, same_size_groups
from ..mask2former.instances import resized_instances, with_pixels
from ..ranking import predicted_places
from .runtime import Graph

__all__ = ["ExportedRanker", "pad_images"]

_FIELDS = {
    "scores": "scores",
    "classes": "pred_classes",
    "masks": "pred_masks",
    "mask_scores": "mask_scores",
    "rank_logits": "pred_rank_logits",
    "rank_scores": "pred_rank_scores",
    "ranks": "pred_ranks",
}


def pad_images(images: list[NDArray[np.float32]], step: int) -> dict[str, NDArray[Any]]:
    """Return the inputs of a graph for images (3, H, W), padded at the right and the bottom.

    Args:
        images: of any sizes.
        step: height and width become multiples of it.
    """
    sizes = np.array([image.shape[1:] for image in images], np.int64)
    height, width = (round_up(int(side), step) for side in sizes.max(axis=0))
    padded = np.zeros((len(images), 3, height, width), np.float32)
    for target, image in zip(padded, images, strict=True):
        target[:, : image.shape[1], : image.shape[2]] = image
    return {"images": padded, "sizes": sizes}


class ExportedRanker:
    """Call a graph as detectron2's models are called.

    Args:
        graph: an exported ranker.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.loss = yaml.safe_load(graph.info.config)["MODEL"]["SOR"].get("LOSS", "cross_entropy")
        self.backbone = SimpleNamespace(size_divisibility=graph.info.divisibility)

    def __call__(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Instances]]:
        """Return the instances of images ``image`` (3, H, W) at the size ``height`` x ``width``."""
        images = [item["image"].numpy().astype(np.float32, copy=False) for item in batched_inputs]
        step = self.graph.info.divisibility
        # more padding would change an image's features
        sizes = [(round_up(x.shape[1], step), round_up(x.shape[2], step)) for x in images]
        results: list[Any] = [None] * len(images)
        for rows in same_size_groups(sizes, torch.device("cpu")):
            found = self.graph(pad_images([images[i] for i in rows], step))
            for number, i in enumerate(rows):
                own = {key: torch.from_numpy(x[found["image_index"] == number]) for key, x in found.items()}
                fields = {field: own[key] for key, field in _FIELDS.items() if key in own}
                if "rank_logits" in own:
                    fields |= predicted_places(own["rank_logits"], [len(own["scores"])], self.loss).fields()
                item = batched_inputs[i]
                size = item.get("height", images[i].shape[1]), item.get("width", images[i].shape[2])
                if self.graph.info.masks == "image":
                    logits = fields.pop("pred_masks")[:, 0]
                    inside: Any = images[i].shape[1:]
                    instances = with_pixels(resized_instances(logits, sizes[i], inside, size, **fields))
                else:
                    instances = Instances(images[i].shape[1:], pred_boxes=Boxes(own["boxes"]), **fields)
                    instances = detector_postprocess(instances, *size)
                results[i] = {"instances": instances}
        return results
