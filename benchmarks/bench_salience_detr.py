#!/usr/bin/env python
"""Measure the seconds per image of Salience-DETR's forward pass, in total and by part."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from detectron2.modeling import build_model

from sor_ppa.config import ConfigError, load_config
from sor_ppa.cpu_inference import tune_for_inference


def _clock(device: torch.device, process: bool) -> Callable[[], float]:
    if device.type == "cuda":

        def synchronized() -> float:
            torch.cuda.synchronize(device)
            return time.perf_counter()

        return synchronized
    return time.process_time if process else time.perf_counter


def measure(model: Any, image: torch.Tensor, runs: int, clock: Callable[[], float]) -> dict[str, float]:
    """Return the median seconds of the forward pass and of its parts."""
    parts = {
        "encoder": model.transformer.encoder,
        "token fusion": model.transformer.neck,
        "decoder": model.transformer.decoder,
    }
    spent: dict[str, list[float]] = {name: [] for name in ("total", "features", *parts)}
    started: dict[str, float] = {}
    handles = []
    for name, module in parts.items():

        def before(*_: Any, name: str = name) -> None:
            started[name] = clock()

        def after(*_: Any, name: str = name) -> None:
            spent[name].append(clock() - started[name])

        handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    with torch.no_grad():
        for _ in range(runs + 1):
            start = clock()
            batch = model.batch([image])
            maps, levels = model.feature_maps(batch)
            spent["features"].append(clock() - start)
            model.results(model.transformer(maps, levels), batch, [{"image": image}])
            spent["total"].append(clock() - start)
    for handle in handles:
        handle.remove()
    return {name: statistics.median(values[1:]) for name, values in spent.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--config-file", default="configs/salience_detr/salience_detr_R_50_4scale.yaml", metavar="FILE"
    )
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="after one that is not counted")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="on a CPU")
    parser.add_argument(
        "--process-time", action="store_true", help="processor time, for a machine that does other work"
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config options")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    try:
        cfg = load_config(args.config_file, args.opts)
    except ConfigError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    cfg.MODEL.SALIENCE_DETR.TEST_RESIZE = []
    torch.manual_seed(0)
    model: Any = tune_for_inference(build_model(cfg))
    image = torch.randint(0, 256, (3, *args.size), dtype=torch.uint8).to(model.device)
    medians = measure(model, image, args.runs, _clock(model.device, args.process_time))
    height, width = args.size
    sys.stdout.write(f"{height} x {width}, {model.device}, {args.threads} thread(s), median of {args.runs}\n")
    for name, seconds in medians.items():
        sys.stdout.write(f"{name:<14} {seconds:8.4f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
