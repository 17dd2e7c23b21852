"""Pictures of training images as the model gets them, with augmentations and targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog
from detectron2.utils.env import seed_all_rng
from detectron2.utils.visualizer import Visualizer
from numpy.typing import NDArray

from .config import ConfigError
from .data import DatasetError
from .data.augment import bit_masks
from .data.mapper import RankingDatasetMapper
from .data.own import register_datasets
from .engine import MAPPERS, TRAIN_LOADERS
from .inspyrenet.outputs import compose
from .visualization import contact_sheet, draw_ranked
from .visualization.files import read_image, result_names, write_image

__all__ = ["draw_training_sample", "write_training_pictures"]

_COLUMNS = 4  # the photo and its augmentations


def write_training_pictures(
    cfg: CfgNode, name: str, folder: Path, count: int, seed: int | None = None
) -> int:
    """Write a sheet for each image of a dataset: the photo, and beside it three augmented training samples.

    Args:
        cfg: of a model for ranking, detection or saliency; its ``INPUT`` says how images are augmented.
        name: of a registered dataset.
        folder: for the files ``NAME.png``; created if it does not exist.
        count: images at most.
        seed: choose the images at random; None: the first ones.

    Returns:
        The number of files.

    Raises:
        ConfigError: a model that is not trained on single images.
        DatasetError: an unknown dataset, one that cannot be read, or one of another kind than the model's.
    """
    register_datasets(cfg)
    architecture = cfg.MODEL.META_ARCHITECTURE
    if architecture in TRAIN_LOADERS:
        raise ConfigError(
            "MODEL.META_ARCHITECTURE: expected a model that is trained on single images, "
            f"found {architecture} (see tools/show_views.py)"
        )
    if name not in DatasetCatalog.list():
        raise DatasetError(f"dataset {name}: expected a registered dataset, found no such name")
    metadata = MetadataCatalog.get(name)
    wanted = "a saliency dataset" if architecture == "InSPyReNet" else "objects"
    if (metadata.get("evaluator_type") == "sod") != (wanted == "a saliency dataset"):
        raise DatasetError(f"dataset {name}: expected {wanted} for {architecture}, found another kind")
    records = DatasetCatalog.get(name)
    if seed is not None:
        records = [records[i] for i in np.random.default_rng(seed).permutation(len(records))]
    records = records[:count]
    seed_all_rng(seed or 0)
    mapper = MAPPERS.get(architecture, RankingDatasetMapper)(cfg, is_train=True)
    titles = ["photo", *(f"augmented {number}" for number in range(1, _COLUMNS))]
    folder.mkdir(parents=True, exist_ok=True)
    for record, stem in zip(records, result_names([Path(r["file_name"]) for r in records]), strict=True):
        photo = np.ascontiguousarray(read_image(record["file_name"])[..., ::-1])
        samples = [draw_training_sample(mapper(record), cfg.INPUT.FORMAT, metadata) for _ in titles[1:]]
        write_image(folder / f"{stem}.png", contact_sheet([[photo, *samples]], titles, row_labels=[stem]))
    return len(records)


def draw_training_sample(sample: dict[str, Any], image_format: str, metadata: Metadata) -> NDArray[np.uint8]:
    """Return (H, W, 3) RGB: the image of a training sample with its saliency, its ranks or its classes.

    Args:
        sample: of a dataset mapper.
        image_format: channel order of its image, "RGB" or "BGR".
        metadata: of the dataset, with ``thing_classes``.
    """
    image = sample["image"].permute(1, 2, 0).numpy()
    image = np.ascontiguousarray(image if image_format == "RGB" else image[..., ::-1])
    if "saliency" in sample:
        return compose(image, sample["saliency"][0].numpy(), "overlay")
    instances = sample["instances"]
    ranks = instances.gt_ranks.numpy()
    if instances.has("gt_masks") and (ranks >= 0).any():
        return draw_ranked(image, bit_masks(instances), np.where(ranks < 0, 0, ranks.max() - ranks + 1))
    names = metadata.get("thing_classes", ())
    labels = [names[number] if number < len(names) else str(number) for number in instances.gt_classes]
    masks = bit_masks(instances) if instances.has("gt_masks") else None
    drawing = Visualizer(image).overlay_instances(boxes=instances.gt_boxes, labels=labels, masks=masks)
    return np.asarray(drawing.get_image(), np.uint8)
