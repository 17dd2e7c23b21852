"""Pictures in, ranked objects out: the one class that demos, notebooks and exporters use."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.structures import Instances
from numpy.typing import NDArray
from torch import nn

from .augmented import AugmentedRanker, with_views
from .building import build_checked_model, needs_weights
from .config import load_config
from .inspyrenet.stage import SaliencyStage, with_saliency
from .visualization import RankStyle, draw_ranked
from .visualization.files import read_image

__all__ = ["RankedImage", "RankedObject", "SORPredictor"]

logger = logging.getLogger(__name__)

Picture = NDArray[np.uint8] | str | os.PathLike[str]
Model = Callable[[list[dict[str, Any]]], Sequence[dict[str, Any]]]

_FIELDS = ("pred_boxes", "scores", "pred_masks", "pred_ranks", "pred_rank_scores")


@dataclass(frozen=True, eq=False)
class RankedObject:
    """One object of a picture.

    Attributes:
        rank: 1 = most salient, dense; None where the model gave no rank.
        rank_score: orders every object of the picture, ranked or not; higher = more salient.
        score: confidence of the detection, in [0, 1].
        box: left, top, right, bottom in pixels of the picture.
        mask: (H, W) bool, at the size of the picture.
    """

    rank: int | None
    rank_score: float
    score: float
    box: tuple[float, float, float, float]
    mask: NDArray[np.bool_]

    def to_json(self, masks: Literal["rle", "polygons"] = "rle") -> dict[str, Any]:
        """What ``json.dump`` takes.

        Args:
            masks: "rle" (COCO's compressed run lengths, exact) or "polygons" (COCO's, along the
                edges of the pixels).
        """
        return {
            "rank": self.rank,
            "rank_score": _number(self.rank_score),
            "score": _number(self.score),
            "box": [round(v, 2) for v in self.box],
            "area": int(np.count_nonzero(self.mask)),
            "segmentation": _rle(self.mask) if masks == "rle" else _polygons(self.mask),
        }


@dataclass(frozen=True, eq=False)
class RankedImage:
    """The ranked objects of one picture.

    Attributes:
        file: where the picture came from; None for an array.
        height: of the picture in pixels.
        width: of the picture in pixels.
        objects: ranked ones first, rank 1 leading, then the others by ``rank_score``.
        instances: detectron2's ``Instances`` of the same objects in the same order, on the CPU.
    """

    file: str | None
    height: int
    width: int
    objects: tuple[RankedObject, ...]
    instances: Instances

    @property
    def masks(self) -> NDArray[np.bool_]:
        """(N, H, W) bool, in the order of ``objects``."""
        return self.instances.pred_masks.numpy()

    @property
    def ranks(self) -> NDArray[np.int64]:
        """(N,) ranks in the order of ``objects``: 1 = most salient, 0 = not ranked."""
        return np.array([o.rank or 0 for o in self.objects], np.int64)

    def saliency_map(self, painter: str = "assr") -> NDArray[np.uint8]:
        """The grey map of the ranked objects, as the literature paints it.

        Args:
            painter: a rule of ``sor_ppa.evaluation.PAINTERS``; "assr" gives the five most
                salient objects 255, 229, 204, 178 and 153.

        Returns:
            (H, W) uint8, 0 = background.
        """
        from .evaluation import paint

        ranks = self.ranks
        ranked = ranks > 0
        return paint(self.masks[ranked], -ranks[ranked].astype(np.float64), painter=painter)

    def draw(
        self, image_bgr: NDArray[np.uint8], *, scores: bool = False, style: RankStyle | None = None
    ) -> NDArray[np.uint8]:
        """The picture with masks, outlines and rank badges.

        Args:
            image_bgr: (H, W, 3) uint8, the picture that was given.
            scores: write the detections' confidences below the badges.
            style: how to draw.

        Returns:
            (H, W, 3) uint8 RGB.
        """
        notes = [o.score for o in self.objects] if scores else None
        return draw_ranked(image_bgr[:, :, ::-1], self.masks, self.ranks, scores=notes, style=style)

    def to_json(self, masks: Literal["rle", "polygons"] = "rle") -> dict[str, Any]:
        """What ``json.dump`` takes: file, sizes, and the objects with ``"rank": 1`` first."""
        return {
            "file": self.file,
            "height": self.height,
            "width": self.width,
            "objects": [o.to_json(masks) for o in self.objects],
        }


class SORPredictor:
    """A trained model with everything around it: reading, resizing, batching, post-processing.

    A picture is resized as detectron2's ``DefaultPredictor`` does (``INPUT.MIN_SIZE_TEST``,
    ``MAX_SIZE_TEST``, ``FORMAT``). Only pictures of one padded size share a batch, so that none
    is padded for the sake of another and the answer for a picture does not depend on the others.

    Args:
        cfg: a config with the keys of ``add_sor_config``; it is copied.
        model: takes detectron2's list of input dicts and returns ``[{"instances": ...}]`` at the
            pictures' sizes; built from ``cfg`` with ``MODEL.WEIGHTS`` if left out.
        batch_size: most pictures that go through the model at once.
        min_score: detections below this confidence are left out, and the ranks closed up. With the views of
            ``TEST.AUG`` that is decided once, by the mean confidence, before anything is ranked.

    Raises:
        ValueError: an unusable setting.
        FileNotFoundError: ``MODEL.WEIGHTS`` names a file that is not there.
    """

    def __init__(
        self, cfg: CfgNode, *, model: Model | None = None, batch_size: int = 4, min_score: float = 0.0
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size: expected 1 or more, found {batch_size}")
        if cfg.INPUT.FORMAT not in ("RGB", "BGR"):
            raise ValueError(f"INPUT.FORMAT: expected RGB or BGR, found {cfg.INPUT.FORMAT!r}")
        self.cfg = cfg.clone()
        self.batch_size = batch_size
        self.min_score = min_score
        self._whole = False  # whether the model resizes by itself
        if model is None:
            if needs_weights(self.cfg):
                _check_weights(self.cfg.MODEL.WEIGHTS)
            model = build_checked_model(self.cfg)
            if needs_weights(self.cfg):
                _load_weights(cast(nn.Module, model), self.cfg.MODEL.WEIGHTS)
            model = with_saliency(self.cfg, with_views(self.cfg, cast(nn.Module, model), min_score))
            self._whole = bool(self.cfg.TEST.AUG.ENABLED)
        self.model = model
        self._resize = T.ResizeShortestEdge([cfg.INPUT.MIN_SIZE_TEST] * 2, cfg.INPUT.MAX_SIZE_TEST)

    @classmethod
    def from_config_file(
        cls,
        path: str | os.PathLike[str],
        opts: Sequence[str] = (),
        *,
        batch_size: int = 4,
        min_score: float = 0.0,
    ) -> SORPredictor:
        """A predictor from a YAML file and ``KEY VALUE`` overrides.

        Where the config asks for a GPU and there is none, the model runs on the CPU, with a warning.

        Raises:
            FileNotFoundError: the weights are not there.
            ConfigError: a config that is not there, or an override that cannot be applied.
        """
        return cls(load_config(path, opts), batch_size=batch_size, min_score=min_score)

    def __call__(self, images: Sequence[Picture]) -> list[RankedImage]:
        """Rank the objects of pictures.

        Args:
            images: each (H, W, 3) uint8 BGR, as ``cv2.imread`` gives it, or the path of a file.

        Returns:
            One result a picture, in the same order.

        Raises:
            ValueError: something that is no picture; unreadable files raise its subclass
                ``ImageReadError``.
        """
        if isinstance(images, (str, os.PathLike)) or getattr(images, "ndim", 4) == 3:
            raise ValueError("images: expected a sequence of pictures, found a single one")
        files = [os.fspath(p) if isinstance(p, (str, os.PathLike)) else None for p in images]
        pictures = [_picture(i, p) for i, p in enumerate(images)]
        inputs = [self._input(p, self._whole) for p in pictures]
        results: list[RankedImage | None] = [None] * len(inputs)
        for rows in self._batches(inputs):
            for i, instances in zip(rows, self._predict([inputs[i] for i in rows]), strict=True):
                results[i] = _ranked(files[i], inputs[i]["height"], inputs[i]["width"], instances)
        return cast(list[RankedImage], results)

    def _input(self, picture: NDArray[np.uint8], whole: bool = False) -> dict[str, Any]:
        """detectron2's input dict: the picture (resized, unless ``whole``), and the size of the answer."""
        height, width = picture.shape[:2]
        if self.cfg.INPUT.FORMAT == "RGB":
            picture = picture[:, :, ::-1]
        transform = T.NoOpTransform() if whole else self._resize.get_transform(picture)
        if isinstance(transform, T.ResizeTransform):
            # An extreme aspect would round its short side down to nothing.
            new_height, new_width = max(transform.new_h, 1), max(transform.new_w, 1)
            transform = T.ResizeTransform(height, width, new_height, new_width, transform.interp)
        resized = transform.apply_image(np.ascontiguousarray(picture))
        tensor = torch.as_tensor(np.ascontiguousarray(resized.transpose(2, 0, 1), dtype=np.float32))
        item = {"image": tensor, "height": height, "width": width}
        if isinstance(self.model, SaliencyStage):
            rgb = picture if self.cfg.INPUT.FORMAT == "RGB" else picture[:, :, ::-1]
            item["original"] = torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))
        return item

    def salience_maps(self, image: Picture) -> list[NDArray[np.float32]]:
        """The foreground probabilities by which a model chooses where to look, map by map.

        Args:
            image: (H, W, 3) uint8 BGR, or the path of a file.

        Returns:
            (h, w) in [0, 1] for every feature map of the model, finest first.

        Raises:
            ValueError: a model without such maps, or something that is no picture.
        """
        model: Any = self.model
        while isinstance(model, (SaliencyStage, AugmentedRanker)):
            model = model.detector
        give: Any = getattr(model, "salience_maps", None)
        if give is None:
            name = type(model).__name__
            raise ValueError(f"{name} has no salience maps (Salience-DETR and ContrastRanker have)")
        item = self._input(_picture(0, image))
        return [part.float().cpu().numpy() for part in give(item["image"])]

    def _batches(self, inputs: Sequence[dict[str, Any]]) -> Iterable[list[int]]:
        """Rows of ``inputs`` in batches of one padded size each."""
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for i, item in enumerate(inputs):
            groups[_padded_size(self.model, *item["image"].shape[-2:])].append(i)
        for rows in groups.values():
            for start in range(0, len(rows), self.batch_size):
                yield rows[start : start + self.batch_size]

    @torch.no_grad()
    def _predict(self, inputs: list[dict[str, Any]]) -> list[Instances]:
        if isinstance(self.model, nn.Module):
            self.model.eval()
        outputs = self.model(inputs)
        if len(outputs) != len(inputs):
            raise ValueError(f"model: expected {len(inputs)} outputs, found {len(outputs)}")
        return [self._kept(output["instances"]) for output in outputs]

    def _kept(self, instances: Instances) -> Instances:
        """The instances confident enough, the ranked ones first, from the most salient down."""
        missing = [name for name in _FIELDS if not instances.has(name)]
        if missing and missing != ["pred_masks"]:
            reason = " (without MODEL.SOR.NAME nothing is ranked)" if not self.cfg.MODEL.SOR.NAME else ""
            raise ValueError(f"model: its instances lack {', '.join(missing)}{reason}")
        # Masks of large pictures are large: only those that stay leave the device.
        instances = instances[instances.scores >= self.min_score].to(torch.device("cpu"))
        if missing:  # a detector that does not segment: its boxes stand for the objects
            instances.pred_masks = _box_masks(instances)
        ranks = instances.pred_ranks.numpy()
        rank_scores = instances.pred_rank_scores.numpy()
        scores = instances.scores.numpy()
        # All that have no rank are alike; among them, and between equal ranks, the rank score decides.
        order = np.lexsort((-scores, -rank_scores, -np.maximum(ranks, -1)))
        return instances[torch.as_tensor(order)]


def demo_predictor(
    path: str | os.PathLike[str],
    opts: Sequence[str],
    *,
    batch_size: int = 4,
    threshold: float | None = None,
) -> SORPredictor:
    """A predictor for a command line, which takes random weights only from somebody who asks for them.

    Args:
        path: YAML file.
        opts: ``KEY VALUE`` overrides.
        batch_size: most pictures at once.
        threshold: confidence below which a detection counts neither in the ranking nor in the
            result; None leaves it to the config.

    Raises:
        FileNotFoundError: the config or the weights are not there.
        ValueError: an override that cannot be applied, or no weights named.
    """
    cfg = load_config(path, opts)
    if needs_weights(cfg) and not cfg.MODEL.WEIGHTS and "MODEL.WEIGHTS" not in opts[::2]:
        raise ValueError(f'{path}: MODEL.WEIGHTS names no weights (MODEL.WEIGHTS "" asks for random ones)')
    if threshold is not None:
        for node, key in (
            (cfg.MODEL.FCOS, "INFERENCE_TH_TEST"),
            (cfg.MODEL.ROI_HEADS, "SCORE_THRESH_TEST"),
            (cfg.MODEL.SALIENCE_DETR, "TEST_SCORE_THRESH"),
            (cfg.MODEL.SIAMESE_DETR, "SCORE_THRESH"),
        ):
            # Of several views the mean confidence decides: none may be left out for its own.
            node[key] = min(node[key], threshold) if cfg.TEST.AUG.ENABLED else threshold
    return SORPredictor(cfg, batch_size=batch_size, min_score=threshold or 0.0)


def _check_weights(weights: str) -> None:
    """Raise for weights that are not there, before a model is built for them."""
    path = weights.removesuffix("?matching_heuristics=True")  # detectron2's; see SORCheckpointer
    if weights and "://" not in weights and not os.path.isfile(path):
        raise FileNotFoundError(f'MODEL.WEIGHTS: no such file: {weights} ("" gives random weights)')


def _load_weights(model: nn.Module, weights: str) -> None:
    """Load ``MODEL.WEIGHTS``; an empty name leaves the model as it was initialised."""
    if not weights:
        logger.warning("MODEL.WEIGHTS is empty: the model keeps its random weights, its answers mean nothing")
        return
    from .checkpoint import SORCheckpointer

    checkpointer = SORCheckpointer(model)
    checkpointer.load(weights, checkpointables=[])
    left = list(checkpointer.fit.incomplete) if checkpointer.fit is not None else []
    if left:
        logger.warning(
            "%s lacks %d parameters of this model (%s ...): they stay random, and so may its answers",
            *(weights, len(left), ", ".join(left[:2])),
        )


def _picture(index: int, picture: Picture) -> NDArray[np.uint8]:
    if isinstance(picture, (str, os.PathLike)):
        return read_image(picture)
    array = np.asarray(picture)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        found = f"{array.dtype} {array.shape}"
        raise ValueError(f"images[{index}]: expected uint8 (H, W, 3) BGR or a path, found {found}")
    return array


def _padded_size(model: Any, height: int, width: int) -> tuple[int, int]:
    """Size to which the model pads a picture that it is given alone."""
    backbone = getattr(model, "backbone", None)
    constraints = getattr(backbone, "padding_constraints", None) or {}
    square = int(constraints.get("square_size", 0))
    if square > 0:
        return square, square
    step = max(int(constraints.get("size_divisibility", getattr(backbone, "size_divisibility", 1))), 1)
    return -(-height // step) * step, -(-width // step) * step


def _ranked(file: str | None, height: int, width: int, instances: Instances) -> RankedImage:
    """Results as people read them: rank 1 for the first of the ranked, and so on without gaps."""
    masks = instances.pred_masks.numpy()
    if masks.shape[1:] != (height, width):
        raise ValueError(f"model: expected masks of {height} x {width} pixels, found shape {masks.shape}")
    ranked = int((instances.pred_ranks >= 0).sum())
    columns = zip(
        instances.pred_rank_scores.tolist(),
        instances.scores.tolist(),
        instances.pred_boxes.tensor.tolist(),
        masks,
        strict=True,
    )
    objects = tuple(
        RankedObject(i + 1 if i < ranked else None, rank_score, score, tuple(box), mask)
        for i, (rank_score, score, box, mask) in enumerate(columns)
    )
    return RankedImage(file, height, width, objects, instances)


def _box_masks(instances: Instances) -> torch.Tensor:
    """(N, H, W) bool, True where the centre of a pixel lies in the box."""
    height, width = instances.image_size
    left, top, right, bottom = instances.pred_boxes.tensor[:, :, None].unbind(1)
    x, y = torch.arange(width) + 0.5, torch.arange(height) + 0.5
    columns, rows = (x >= left) & (x < right), (y >= top) & (y < bottom)
    return rows[:, :, None] & columns[:, None]


def _number(value: float) -> float | None:
    """JSON knows no NaN and no infinity."""
    return round(value, 6) if np.isfinite(value) else None


def _rle(mask: NDArray[np.bool_]) -> dict[str, Any]:
    from pycocotools import mask as mask_util

    code = mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(v) for v in code["size"]], "counts": code["counts"].decode("ascii")}


def _polygons(mask: NDArray[np.bool_]) -> list[list[float]]:
    from .data.masks import mask_to_polygons

    return mask_to_polygons(mask)
