"""Prediction: one picture, batches of mixed sizes, and the cost of size, batch and objects.

The published CenterMask code takes one picture of about 480 x 640 at a time. For an InSPyReNet configuration,
``--published`` is a checkout of the published InSPyReNet, which needs kornia and easydict.
"""

from __future__ import annotations

import sys
import tempfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

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
        theirs, mine = (_published_saliency, _our_saliency) if saliency else (published, _ours_by_size)
        variants = [Variant("published", theirs, arguments)] if options.published else []
        variants.append(Variant("ours", mine, arguments))
        if not saliency:
            variants.append(Variant("ours, bfloat16", _ours_by_size, (*arguments, torch.bfloat16)))
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
    ranks = [r["instances"].pred_ranks.long().tolist() for r in found if len(r["instances"])]
    return {"objects": sum(map(len, ranks)), "checksum of the ranks": zlib.crc32(str(ranks).encode())}


def main_tasks(predict: Callable[..., dict[str, Any]], options: Options) -> dict[str, Task]:
    """Return one picture and a batch of mixed sizes as tasks."""
    pictures = main_pictures(options)
    first = pictures[0]
    return {
        f"one picture of {first['height']} x {first['width']}": partial(predict, pictures[:1]),
        f"{len(pictures)} pictures of mixed sizes": partial(predict, pictures),
    }


def main_pictures(options: Options) -> list[dict[str, Any]]:
    """Return the pictures of the main tasks."""
    return _pictures([(64, 96)] if options.quick else SIZES)


def published(options: Options, weights: str) -> dict[str, Task]:
    """Return the main tasks of the published model, whose weights are written."""
    words = ["MODEL.WEIGHTS", "", *DETECTIONS, *options.opts]
    model = load_published(options.published, options.config, words)[0].eval()
    _add_detections(model)
    torch.save({"model": model.state_dict()}, weights)
    return main_tasks(partial(predict, model, batch=1), options)


def our_model(options: Options, weights: str) -> Any:
    """Return our model with the weights of the first variant; the first one writes them."""
    model = load_ours(options.config, [*DETECTIONS, *options.opts], weights)[0].eval()
    if not Path(weights).exists():
        _add_detections(model)
        torch.save({"model": model.state_dict()}, weights)
    return model


def ours(options: Options, weights: str) -> dict[str, Task]:
    """Return the main tasks of our model."""
    from sor_ppa.cpu_inference import tune_for_inference

    return main_tasks(partial(predict, tune_for_inference(our_model(options, weights))), options)


def _ours_by_size(options: Options, weights: str, dtype: torch.dtype | None = None) -> dict[str, Task]:
    from sor_ppa.cpu_inference import tune_for_inference

    model = tune_for_inference(our_model(options, weights))

    def run(pictures: list[dict[str, Any]]) -> dict[str, Any]:
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            return predict(model, pictures)

    tasks = main_tasks(run, options)
    if dtype is not None:
        return tasks
    side = 64 if options.quick else 480
    for height in (side // 2, side, 2 * side):
        tasks[f"pixels={height * height * 4 // 3}"] = partial(run, _pictures([(height, height * 4 // 3)]))
    for count in (1, 2, 4, 8):
        tasks[f"pictures in a batch={count}"] = partial(run, _pictures([(side, side * 4 // 3)] * count))
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


def _network(options: Options) -> tuple[Any, list[tuple[str, Tensor, Tensor, bool]]]:
    """Return a random InSPyReNet and its tasks: name, small and full-size input, whether both are blended.

    Its saliency heads are scaled so that maps have edges, as those of a trained one: the share of an image
    near edges decides how many tiles of a high-resolution pass are skipped.
    """
    from sor_ppa.inspyrenet.network import InSPyReNetNetwork, build_encoder

    encoder = load_ours(options.config, options.opts)[1].MODEL.INSPYRENET.BACKBONE
    network = InSPyReNetNetwork(build_encoder(encoder)).eval()
    small = torch.nn.functional.interpolate(torch.randn(1, 3, 12, 12), (384, 384), mode="bicubic")
    with torch.no_grad():
        for name in ("attention2", "attention1", "attention0"):
            attention = getattr(network, name)
            for branch in (attention.conv_key, attention.conv_value):
                branch[0].conv.weight.div_(attention.grid[0] * attention.grid[1])
        network.decoder.conv5.conv.weight.mul_(5 / network(small).saliency[0].std())
    large = torch.nn.functional.interpolate(small, (1024, 1280), mode="bicubic")
    tasks = [("one pass of 384 x 384", small, small, False), ("1024 x 1280, blended", small, large, True)]
    return network, tasks[:1] if options.quick else tasks


def _published_saliency(options: Options, weights: str) -> dict[str, Task]:
    network, tasks = _network(options)
    torch.save(network.state_dict(), weights)
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


def _our_saliency(options: Options, weights: str) -> dict[str, Task]:
    from sor_ppa.cpu_inference import tune_for_inference
    from sor_ppa.inspyrenet.network import predict_blended

    network, tasks = _network(options)
    if Path(weights).exists():
        network.load_state_dict(torch.load(weights, weights_only=True))
    fast: Any = tune_for_inference(network)

    def run(small: Tensor, large: Tensor, blended: bool) -> Tensor:
        if not blended:
            return fast(large).saliency[-1].sigmoid()
        return predict_blended(fast, fast(small).saliency[-1], large).saliency[-1].sigmoid()

    return {
        name: partial(_map_facts, partial(run, small, large, blended))
        for name, small, large, blended in tasks
    }


@torch.no_grad()
def _map_facts(run: Callable[[], Any], key: str | None = None) -> dict[str, Any]:
    """Run; return the mean of the map (that under ``key``), scaled to [0, 1] as the published code does."""
    found = run() if key is None else run()[key]
    return {"mean of the map": round(float((found - found.min()).mean() / (found.max() - found.min())), 5)}
