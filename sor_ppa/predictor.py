"""Predicting ranked objects: one class for notebooks, commands and exporters."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from operator import attrgetter
from typing import Any, overload

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.structures import Instances
from numpy.typing import NDArray
from torch import nn

from .building import check_weights_named, find_weights
from .checkpoint import read_checkpoint_info
from .config import ConfigError, load_config, score_threshold_keys
from .cpu_inference import release_free_memory
from .export.cache import conversion_pays, converted_ranker, try_conversion
from .export.model import ExportedRanker
from .export.runtime import is_graph, is_onnx, load_graph
from .inference_model import build_inference_model, check_gives_objects
from .layers.batching import round_up
from .pictures import ChannelOrder, Picture, is_picture, resize_shortest_edge, to_bgr
from .pretrained import find_pretrained, parse_config
from .results import RankedImage, RankedObject

__all__ = ["RankedImage", "RankedObject", "SORPredictor"]

Model = Callable[[list[dict[str, Any]]], Sequence[dict[str, Any]]]

# Pictures are read this many batches ahead, so that those of one size share a batch.
_BATCHES_AHEAD = 4


class SORPredictor:
    """A ranking model with everything around it: reading, resizing, batching, post-processing.

    Pictures are resized as detectron2's ``DefaultPredictor`` does (``INPUT.MIN_SIZE_TEST``,
    ``MAX_SIZE_TEST``, ``FORMAT``). Only pictures of one padded size share a batch, so the result for a
    picture does not depend on the others. Threads may share a predictor; they take turns at the model.

    Example::

        predictor = SORPredictor.from_pretrained("model_final.pth")
        result = predictor("photo.jpg")
        print(result.objects[0])  # the most salient one

    Args:
        cfg: a configuration with the keys of ``add_sor_config``; it is copied.
        model: takes detectron2's list of input dicts and returns ``[{"instances": ...}]`` at the sizes of the
            pictures; default: the model of ``cfg`` with ``MODEL.WEIGHTS``.
        batch_size: pictures that go through the model at once, at most.
        min_score: detections of a lower confidence are left out, and ranks have no gaps. With the views of
            ``TEST.AUG``, the mean confidence decides, before ranking.
        class_names: of the classes in order; default: those in the checkpoint, else those of the first
            training dataset, if known.
        runtime: what runs the model of ``cfg``: "pytorch"; "openvino", on the CPU, converted when it is first
            used; "auto": OpenVINO where the model is converted already and the device is the CPU; see also
            :meth:`prepare`.

    Raises:
        ConfigError: an unusable setting, or a model that detects no objects or gives no ranks.
        FileNotFoundError: ``MODEL.WEIGHTS`` names a file that does not exist.
        CheckpointError: the weights do not fit the model.
    """

    def __init__(
        self,
        cfg: CfgNode,
        *,
        model: Model | None = None,
        batch_size: int = 4,
        min_score: float = 0.0,
        class_names: Sequence[str] = (),
        runtime: str = "auto",
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size: expected 1 or more, found {batch_size}")
        if cfg.INPUT.FORMAT not in ("RGB", "BGR"):
            raise ValueError(f"INPUT.FORMAT: expected RGB or BGR, found {cfg.INPUT.FORMAT!r}")
        self.cfg = cfg.clone()
        self.batch_size = batch_size
        self.min_score = min_score
        weights = find_weights(cfg.MODEL.WEIGHTS) if model is None else ""
        self.class_names = tuple(class_names) or class_names_of(cfg, weights)
        self._convertible = ""  # the weight file of a model that may be converted later
        if model is None:
            check_gives_objects(self.cfg)
            model = converted_ranker(self.cfg, weights, runtime, self.class_names)
        if model is None:
            model = build_inference_model(self.cfg, min_score=min_score)
            self._convertible = weights if runtime == "auto" else ""
        if isinstance(model, nn.Module):
            model.eval()
        self.model = model
        self._lock = threading.Lock()

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str],
        *,
        config: str | os.PathLike[str] | None = None,
        options: Sequence[str] = (),
        batch_size: int = 4,
        min_score: float = 0.0,
        runtime: str = "auto",
    ) -> SORPredictor:
        """Return a predictor for a weight file, an exported or a named model.

        Args:
            source: a checkpoint of this package, which holds its configuration; any weight file, with
                ``config``; a model of ``sor-ppa export``: an ONNX file or an OpenVINO folder; the name of a
                model of the zoo; or "contrast", the ranker without weights.
            config: YAML file, instead of the configuration in the checkpoint; not for exported models.
            options: ``KEY VALUE`` overrides of the configuration.
            batch_size, min_score, runtime: see the class; an exported model has a runtime of its own.

        Raises:
            ValueError: another runtime than that of an exported model.
            ZooError: no such file, nor a model of this name that was fetched.
            ConfigError: a file without a configuration and no ``config``; see also the class.
        """
        own: dict[str, Any] = {"batch_size": batch_size, "min_score": min_score}
        if is_graph(source):
            own_runtime = "onnxruntime" if is_onnx(source) else "openvino"
            if runtime not in ("auto", own_runtime):
                raise ValueError(f"runtime: expected auto for {source}, found {runtime!r}")
            return cls(**_exported(source, config, options), **own)
        cfg, names = find_pretrained(source, config, options)
        return cls(cfg, class_names=names, runtime=runtime, **own)

    @classmethod
    def from_config_file(
        cls, path: str | os.PathLike[str], opts: Sequence[str] = (), **options: Any
    ) -> SORPredictor:
        """Return a predictor for a YAML file and ``KEY VALUE`` overrides; ``options`` are those of the class.

        If the config asks for a GPU and there is none, the model runs on the CPU, with a warning.

        Raises:
            ConfigError: no such config, or an override that cannot be applied; see also the class.
        """
        return cls(load_config(path, opts), **options)

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a path is an iterable of text, too
        self, pictures: Picture, *, channel_order: ChannelOrder = ...
    ) -> RankedImage: ...

    @overload
    def __call__(
        self, pictures: Iterable[Picture], *, channel_order: ChannelOrder = ...
    ) -> list[RankedImage]: ...

    def __call__(
        self, pictures: Picture | Iterable[Picture], *, channel_order: ChannelOrder = "bgr"
    ) -> RankedImage | list[RankedImage]:
        """Rank the objects of one or more pictures.

        Args:
            pictures: one picture, or an iterable of pictures. A picture is a path, a PIL image of any mode, a
                uint8 array (H, W, 3), or a uint8 tensor (3, H, W) or (H, W, 3).
            channel_order: of arrays and tensors: "bgr", as OpenCV and detectron2 have it, or "rgb".

        Returns:
            The result for one picture, or a list of results in the order of the pictures.

        Raises:
            ImageReadError: a file that cannot be read; a ``ValueError``.
            ValueError: something that is no picture.
        """
        if is_picture(pictures):
            return next(self._run([("picture", pictures)], channel_order))
        return list(self.stream(pictures, channel_order=channel_order))  # type: ignore[arg-type]

    def prepare(self, pictures: int) -> None:
        """Convert the model to OpenVINO where that saves time for this many pictures.

        Only with ``runtime="auto"``, for CenterMask on a CPU, from a weight file, with OpenVINO installed.
        One picture is timed. If the conversion fails, PyTorch stays, with a warning.
        """
        if not conversion_pays(self.cfg, self._convertible, pictures, self):
            return
        weights, self._convertible = self._convertible, ""
        if (model := try_conversion(self.cfg, weights, self.class_names)) is not None:
            with self._lock:
                self.model = model

    def stream(
        self, pictures: Iterable[Picture], *, channel_order: ChannelOrder = "bgr"
    ) -> Iterator[RankedImage]:
        """Yield results one after another, in the order of the pictures.

        A few batches of pictures are read at a time, so any number of them takes the same memory.

        Args:
            pictures, channel_order: as for calling the predictor.
        """
        named = ((f"pictures[{number}]", picture) for number, picture in enumerate(pictures))
        while chunk := list(islice(named, _BATCHES_AHEAD * self.batch_size)):
            yield from self._run(chunk, channel_order)
            release_free_memory()

    def salience_maps(
        self, picture: Picture, *, channel_order: ChannelOrder = "bgr"
    ) -> list[NDArray[np.float32]]:
        """Return the foreground probabilities by which Salience-DETR selects tokens.

        Args:
            picture, channel_order: as for calling the predictor.

        Returns:
            (h, w) in [0, 1] for each feature map of the model, finest first.

        Raises:
            ValueError: a model without such maps, or something that is no picture.
        """
        self.check_salience_maps()
        item = self._input(to_bgr(picture, channel_order), resize=True)
        with self._lock:
            model: Any = self.model
            return [part.float().cpu().numpy() for part in model.salience_maps(item["image"])]

    def check_salience_maps(self) -> None:
        """Raise ValueError if the model has no :meth:`salience_maps`."""
        if getattr(self.model, "salience_maps", None) is None:
            expected = "a model with salience maps (Salience-DETR, ContrastRanker)"
            found = self.cfg.MODEL.META_ARCHITECTURE
            raise ValueError(f"MODEL.META_ARCHITECTURE: expected {expected}, found {found}")

    def _run(self, named: Sequence[tuple[str, Any]], channel_order: ChannelOrder) -> Iterator[RankedImage]:
        """Yield the results of pictures; their names are for errors."""
        pictures = [to_bgr(picture, channel_order, name) for name, picture in named]
        resize = not getattr(self.model, "resizes_images", False)
        inputs = [self._input(picture, resize) for picture in pictures]
        found: dict[int, tuple[Instances, bool]] = {}
        for rows in self._batches(inputs):
            found.update(zip(rows, self._predict([inputs[i] for i in rows]), strict=True))
        for i, ((_, source), picture) in enumerate(zip(named, pictures, strict=True)):
            file = os.fspath(source) if isinstance(source, (str, os.PathLike)) else None
            yield self._result(file, picture, *found.pop(i))

    def _input(self, picture: NDArray[np.uint8], resize: bool) -> dict[str, Any]:
        """Return detectron2's input dict."""
        rgb = picture[:, :, ::-1]
        image = rgb if self.cfg.INPUT.FORMAT == "RGB" else picture
        if resize:
            options = self.cfg.INPUT
            image = resize_shortest_edge(image, options.MIN_SIZE_TEST, options.MAX_SIZE_TEST)
        tensor = torch.as_tensor(np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32))
        item = {"image": tensor, "height": picture.shape[0], "width": picture.shape[1]}
        if getattr(self.model, "needs_original", False):
            item["original"] = torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))
        return item

    def _batches(self, inputs: Sequence[dict[str, Any]]) -> Iterator[list[int]]:
        """Yield rows of ``inputs`` that share a padded size, ``batch_size`` at most."""
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for i, item in enumerate(inputs):
            groups[_padded_size(self.model, *item["image"].shape[-2:])].append(i)
        for rows in groups.values():
            for start in range(0, len(rows), self.batch_size):
                yield rows[start : start + self.batch_size]

    @torch.no_grad()
    def _predict(self, inputs: list[dict[str, Any]]) -> list[tuple[Instances, bool]]:
        """Return for each picture the instances, and whether the model ranks."""
        with self._lock:
            outputs = self.model(inputs)
        if len(outputs) != len(inputs):
            raise ValueError(f"model: expected {len(inputs)} outputs, found {len(outputs)}")
        found = [output["instances"] for output in outputs]
        ranked = [instances.has("pred_ranks") for instances in found]
        return [(self._sorted(instances), has) for instances, has in zip(found, ranked, strict=True)]

    def _sorted(self, instances: Instances) -> Instances:
        """Return the confident instances on the CPU, ranked ones first, most salient first."""
        for name in ("pred_boxes", "scores"):
            if not instances.has(name):
                raise ValueError(f"model: expected instances with {name}, found none")
        if not instances.has("pred_ranks"):  # a plain detector
            instances.pred_ranks = torch.full_like(instances.scores, -1, dtype=torch.int64)
            instances.pred_rank_scores = instances.scores
        # Large masks stay on the device unless they are needed.
        instances = instances[instances.scores >= self.min_score].to(torch.device("cpu"))
        if not instances.has("pred_masks"):  # a detector that does not segment
            instances.pred_masks = _box_masks(instances)
        # All unranked objects are equal; between equal ranks, the rank score decides.
        keys = (instances.scores, instances.pred_rank_scores, instances.pred_ranks.clamp(min=-1))
        order = np.lexsort([-key.numpy() for key in keys])
        return instances[torch.as_tensor(order)]

    def _result(
        self, file: str | None, picture: NDArray[np.uint8], instances: Instances, ranks_objects: bool
    ) -> RankedImage:
        height, width = picture.shape[:2]
        masks = instances.pred_masks.numpy()
        if masks.shape[1:] != (height, width):
            raise ValueError(f"model: expected masks of {height} x {width} pixels, found shape {masks.shape}")
        ranked = int((instances.pred_ranks >= 0).sum())
        ranks = [i + 1 if i < ranked else None for i in range(len(instances))]
        classes = instances.pred_classes.tolist() if instances.has("pred_classes") else [0] * len(instances)
        names = dict(enumerate(self.class_names))
        labels = [names.get(number, str(number)) for number in classes]
        scores = (instances.pred_rank_scores.tolist(), instances.scores.tolist())
        boxes = map(tuple, instances.pred_boxes.tensor.tolist())
        names_of_places = ("pred_rank_probabilities", "pred_expected_rank", "pred_first_probability")
        if all(instances.has(name) for name in names_of_places):
            first, *others = (instances.get(name).tolist() for name in names_of_places)
            places: list[Sequence[Any]] = [[tuple(values) for values in first], *others]
        else:
            places = [[None] * len(instances)] * len(names_of_places)
        columns = zip(ranks, *scores, boxes, masks, classes, labels, *places, strict=True)
        objects = tuple(RankedObject(*fields) for fields in columns)
        return RankedImage(file, height, width, objects, instances, picture, ranks_objects)


def demo_predictor(
    path: str | os.PathLike[str], opts: Sequence[str], *, batch_size: int = 4, threshold: float | None = None
) -> SORPredictor:
    """Return a predictor for a command line, where random weights must be asked for.

    Args:
        path, opts: see :meth:`SORPredictor.from_config_file`.
        batch_size: see :class:`SORPredictor`.
        threshold: detections of a lower confidence are neither ranked nor in the result; None: the
            thresholds of the config.

    Raises:
        ValueError: no weights given; see also :class:`SORPredictor`.
    """
    cfg = load_with_weights(path, opts)
    if threshold is not None:
        for node, key in score_threshold_keys(cfg):
            # With several views the mean confidence decides, so single views keep lower ones.
            node[key] = min(node[key], threshold) if cfg.TEST.AUG.ENABLED else threshold
    return SORPredictor(cfg, batch_size=batch_size, min_score=threshold or 0.0)


def load_with_weights(path: str | os.PathLike[str], opts: Sequence[str]) -> CfgNode:
    """Return the configuration of a command; raise ConfigError if it says nothing about weights."""
    cfg = load_config(path, opts)
    check_weights_named(cfg, opts)
    return cfg


def _exported(
    source: str | os.PathLike[str], config: str | os.PathLike[str] | None, options: Sequence[str]
) -> dict[str, Any]:
    """Return the arguments of a predictor for an exported model."""
    if config is not None:
        raise ConfigError(f"{source}: expected no config file for an exported model, found {config}")
    device = dict(zip(options[::2], options[1::2], strict=False)).get("MODEL.DEVICE", "cuda")
    graph = load_graph(source, device=device, threads=torch.get_num_threads())
    cfg = parse_config(graph.info.config, os.fspath(source), options)
    stored = parse_config(graph.info.config, os.fspath(source), ()) if options else cfg
    for key in options[::2]:
        if key == "MODEL.DEVICE" or not key.startswith(("MODEL.", "TEST.AUG.")):
            continue
        fixed, found = attrgetter(key)(stored), attrgetter(key)(cfg)
        if found != fixed:
            raise ConfigError(f"{key}: expected {fixed!r}, which is fixed in {source}, found {found!r}")
    check_gives_objects(cfg)
    return {"cfg": cfg, "model": ExportedRanker(graph), "class_names": graph.info.class_names}


def class_names_of(cfg: CfgNode, weights: str) -> tuple[str, ...]:
    """Return the class names in a weight file, else those of the first training dataset, if registered."""
    info = read_checkpoint_info(weights) if os.path.isfile(weights) else None
    if info is not None and info.class_names:
        return info.class_names
    name = next(iter(cfg.DATASETS.TRAIN), "")
    return tuple(MetadataCatalog.get(name).get("thing_classes", ())) if name in MetadataCatalog.list() else ()


def _padded_size(model: Any, height: int, width: int) -> tuple[int, int]:
    """Return the size to which the model pads a single picture."""
    backbone = getattr(model, "backbone", None)
    constraints = getattr(backbone, "padding_constraints", None) or {}
    square = int(constraints.get("square_size", 0))
    if square > 0:
        return square, square
    step = max(int(constraints.get("size_divisibility", getattr(backbone, "size_divisibility", 1))), 1)
    return round_up(height, step), round_up(width, step)


def _box_masks(instances: Instances) -> torch.Tensor:
    """(N, H, W) bool, true where the center of a pixel lies in the box."""
    height, width = instances.image_size
    left, top, right, bottom = instances.pred_boxes.tensor[:, :, None].unbind(1)
    x, y = torch.arange(width) + 0.5, torch.arange(height) + 0.5
    columns, rows = (x >= left) & (x < right), (y >= top) & (y < bottom)
    return rows[:, :, None] & columns[:, None]
