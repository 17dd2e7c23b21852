"""Prediction: one picture, batches of mixed sizes, and the cost of size, batch and objects.

The published CenterMask code takes one picture of about 480 x 640 at a time. For an InSPyReNet configuration,
``--published`` is a checkout of the published InSPyReNet, which needs kornia and easydict. For Salience-DETR
it is a checkout of that code, which needs accelerate and terminaltables.
"""

from __future__ import annotations

import sys
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from runpy import run_path
from typing import Any
from unittest import mock

import torch
from models import load_ours, load_published, smooth_picture
from timing import Options, Row, Task, Variant, compare
from torch import Tensor

# mixed sizes that the published code supports: all are padded to 480 x 640
SIZES = [(480, 640), (470, 630), (460, 620), (480, 610), (450, 640), (480, 625), (455, 615), (475, 640)]
DETECTIONS = ["MODEL.FCOS.INFERENCE_TH_TEST", "0.02"]
NETWORKS = {"res2net50": "InSPyReNet_Res2Net50", "swin_b": "InSPyReNet_SwinB"}


def measure(options: Options) -> list[Row]:
    """Measure the model of the configuration, beside the published code where its folder is given."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = (options, f"{folder}/weights.pth")
        saliency = "inspyrenet" in options.config
        mine = our_saliency if saliency else ours
        variants = [Variant("published", published, arguments)] if options.published else []
        variants.append(Variant("ours", mine, arguments))
        variants.append(Variant("ours, bfloat16", mine, (*arguments, torch.bfloat16)))
        if not saliency and not options.size:
            variants.append(Variant("ours by size", _by_size, arguments))
        return compare(variants, options)


def _pictures(sizes: list[tuple[int, int]]) -> list[dict[str, Any]]:
    return [
        {"image": smooth_picture(*size, seed), "height": size[0], "width": size[1]}
        for seed, size in enumerate(sizes)
    ]


def _add_detections(model: Any) -> None:
    """Give the classifier of an untrained model weights of a usual size, so that it detects objects."""
    generator = torch.Generator().manual_seed(0)
    for name, value in model.state_dict().items():
        if value.ndim > 1 and ".cls_logits." in name:
            value.copy_(torch.randn(value.shape, generator=generator) * 0.03)


@torch.no_grad()
def predict(model: Any, pictures: list[dict[str, Any]], batch: int = 64) -> dict[str, Any]:
    """Predict; return the number of objects and a checksum of their ranks."""
    found = [
        r for i in range(0, len(pictures), batch) for r in model(list(map(dict, pictures[i : i + batch])))
    ]
    objects = [result["instances"] for result in found]
    ranks = [x.pred_ranks.long().tolist() for x in objects if len(x) and x.has("pred_ranks")]
    return {"objects": sum(map(len, objects)), "checksum of the ranks": zlib.crc32(str(ranks).encode())}


def main_tasks(predict: Callable[..., dict[str, Any]], options: Options) -> dict[str, Task]:
    """Return one picture and a batch of mixed sizes as tasks."""
    pictures = main_pictures(options)
    first = pictures[0]
    tasks: dict[str, Task] = {
        f"one picture of {first['height']} x {first['width']}": partial(predict, pictures[:1])
    }
    if len(pictures) > 1:
        tasks[f"{len(pictures)} pictures of mixed sizes"] = partial(predict, pictures)
    return tasks


def main_pictures(options: Options) -> list[dict[str, Any]]:
    """Return the pictures of the main tasks."""
    if options.size:
        return _pictures([(options.size[0], options.size[1])])
    return _pictures([(64, 96)] if options.quick else SIZES)


def published(options: Options, weights: str) -> dict[str, Task]:
    """Return the main tasks of the published model, whose weights are written."""
    if "inspyrenet" in options.config:
        return _published_saliency(options, weights)
    if "salience_detr" in options.config:
        return _published_salience_detr(options, weights)
    words = ["MODEL.WEIGHTS", "", *DETECTIONS, *options.opts]
    model = load_published(options.published, options.config, words)[0].eval()
    _add_detections(model)
    _share_weights(model, weights)
    return main_tasks(partial(predict, model, batch=1), options)


def _share_weights(model: Any, weights: str) -> None:
    """Load the file if an earlier run kept it, else write it."""
    if Path(weights).exists():
        model.load_state_dict(torch.load(weights)["model"])
    else:
        torch.save({"model": model.state_dict()}, weights)


def _published_salience_detr(options: Options, weights: str) -> dict[str, Task]:
    sys.modules.pop("models")  # its package has the name of our module
    sys.path = [options.published, *(path for path in sys.path if Path(path) != Path(__file__).parent)]
    with mock.patch("torch.hub.load_state_dict_from_url", return_value={}):  # the published file
        config = f"{options.published}/configs/salience_detr/salience_detr_resnet50_800_1333.py"
        model = run_path(config)["model"].eval()
    _share_weights(model, weights)

    @torch.no_grad()
    def run(pictures: list[dict[str, Any]]) -> dict[str, Any]:
        return {"objects": sum(len(model([picture["image"]])[0]["scores"]) for picture in pictures)}

    return main_tasks(run, options)


def our_model(options: Options, weights: str) -> Any:
    """Return our model with the weights of the first variant; the first one writes them."""
    model = load_ours(options.config, [*DETECTIONS, *options.opts], weights)[0].eval()
    if not Path(weights).exists():
        _add_detections(model)
        torch.save({"model": model.state_dict()}, weights)
    return model


def ours(options: Options, weights: str, dtype: torch.dtype | None = None) -> dict[str, Task]:
    """Return the main tasks of our model, in float32 or with mixed precision."""
    from sor_ppa.cpu_inference import tune_for_inference

    model = tune_for_inference(our_model(options, weights))

    def run(pictures: list[dict[str, Any]]) -> dict[str, Any]:
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            return predict(model, pictures)

    return main_tasks(run, options)


def _by_size(options: Options, weights: str) -> dict[str, Task]:
    """Return pictures and batches of growing size, with at most 10 objects a picture, and more objects."""
    from sor_ppa.cpu_inference import tune_for_inference

    options = replace(options, opts=[*options.opts, "MODEL.FCOS.POST_NMS_TOPK_TEST", "10"])
    model = tune_for_inference(our_model(options, weights))
    side = 64 if options.quick else 480
    tasks: dict[str, Task] = {}
    for height in (side // 2, side, side * 3 // 2, side * 2):
        pictures = _pictures([(height, height * 4 // 3)])
        tasks[f"megapixels={height * height * 4 / 3e6:.4g}"] = partial(predict, model, pictures)
    for count in (1, 2, 4, 8):
        pictures = _pictures([(side, side * 4 // 3)] * count)
        tasks[f"pictures in a batch={count}"] = partial(predict, model, pictures)
    if hasattr(model, "detect"):
        for count in (1, 10, 50, 100):
            tasks[f"objects={count}"] = partial(_heads, model, side, count)
    return tasks


@torch.no_grad()
def _heads(model: Any, side: int, objects: int) -> None:
    """Segment and rank given boxes."""
    from detectron2.structures import Boxes, Instances

    corner = torch.rand(objects, 2, generator=torch.Generator().manual_seed(0)) * side / 2
    given = Instances((side, side * 4 // 3), pred_boxes=Boxes(torch.cat([corner, corner + side / 4], 1)))
    given.scores, given.pred_classes = torch.ones(objects), torch.zeros(objects, dtype=torch.int64)
    model.inference(_pictures([(side, side * 4 // 3)]), [given])


def saliency_network(options: Options, weights: str) -> tuple[Any, list[tuple[str, Tensor, Tensor, bool]]]:
    """Return an InSPyReNet and its tasks: name, small and full-size input, whether both are blended.

    It has the weights of the first variant, or random ones. The tasks are those of :func:`saliency_tasks`.

    Its saliency heads are scaled so that maps have edges, as those of a trained one: the share of an image
    near edges decides how many tiles of a high-resolution pass are skipped.
    """
    from sor_ppa.inspyrenet.network import InSPyReNetNetwork, build_encoder

    encoder = load_ours(options.config, options.opts)[1].MODEL.INSPYRENET.BACKBONE
    network = InSPyReNetNetwork(build_encoder(encoder)).eval()
    height, width = options.size or (384, 384)
    small = torch.nn.functional.interpolate(torch.randn(1, 3, 12, 12), (height, width), mode="bicubic")
    with torch.no_grad():
        for name in ("attention2", "attention1", "attention0"):
            attention = getattr(network, name)
            for branch in (attention.conv_key, attention.conv_value):
                branch[0].conv.weight.div_(attention.grid[0] * attention.grid[1])
        network.decoder.conv5.conv.weight.mul_(5 / network(small).saliency[0].std())
    large = torch.nn.functional.interpolate(small, (1024, 1280), mode="bicubic")
    _share_weights(network, weights)
    tasks = [(f"one pass of {height} x {width}", small, small, False)]
    if not options.quick and not options.size:
        tasks.append(("1024 x 1280, blended", small, large, True))
    return network, tasks


def _published_saliency(options: Options, weights: str) -> dict[str, Task]:
    network, tasks = saliency_network(options, weights)
    sys.path.insert(0, options.published)
    from lib import InSPyReNet as published

    encoder = load_ours(options.config, options.opts)[1].MODEL.INSPYRENET.BACKBONE
    runs: dict[str, Task] = {}
    for name, small, large, blended in tasks:
        theirs = getattr(published, NETWORKS[encoder])(
            64, False, [384, 384], threshold=1 if blended else None
        )
        theirs.load_state_dict(network.state_dict(), strict=False)
        run = partial(theirs.eval(), {"image": large, "image_resized": small})
        runs[name] = partial(_map_facts, run, "pred")
    return runs


def our_saliency(options: Options, weights: str, dtype: torch.dtype | None = None) -> dict[str, Task]:
    """Return one pass and a blend of two passes as tasks of our InSPyReNet."""
    from sor_ppa.cpu_inference import tune_for_inference

    network, tasks = saliency_network(options, weights)
    return saliency_tasks(tune_for_inference(network), tasks, dtype)


def saliency_tasks(
    network: Any, tasks: list[tuple[str, Tensor, Tensor, bool]], dtype: torch.dtype | None = None
) -> dict[str, Task]:
    """Return the tasks of :func:`saliency_network`, done by a network of the same interface."""
    from sor_ppa.inspyrenet.network import predict_blended

    def run(small: Tensor, large: Tensor, blended: bool) -> Tensor:
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            if not blended:
                return network(large).saliency[-1].float().sigmoid()
            low = network(small).saliency[-1]
            return predict_blended(network, low, large).saliency[-1].float().sigmoid()

    return {
        name: partial(_map_facts, partial(run, small, large, blended))
        for name, small, large, blended in tasks
    }


@torch.no_grad()
def _map_facts(run: Callable[[], Any], key: str | None = None) -> dict[str, Any]:
    """Run; return the mean of the map (that under ``key``), scaled to [0, 1] as the published code does."""
    found = run() if key is None else run()[key]
    return {"mean of the map": round(float((found - found.min()).mean() / (found.max() - found.min())), 5)}
