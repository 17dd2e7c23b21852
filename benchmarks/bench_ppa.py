#!/usr/bin/env python
"""Measure inference of the full ranking model, ours in several runtimes and optionally the published code's.

All load the same weights and process the same pictures alternately, in separate processes, so that other
load on the machine affects all equally. The published code takes one picture at a time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

CONFIG = "configs/sor/ppa.yaml"
RUNTIMES = ("pytorch", "onnx", "openvino", "openvino-bf16")
# Mixed sizes that the published code supports: all are padded to 480 x 640.
SIZES = [(480, 640), (470, 630), (460, 620), (480, 610), (450, 640), (480, 625), (455, 615), (475, 640)]


def published(checkout: str, config: str, options: Sequence[str]) -> Any:
    """Return the published model (folder ``sor_ppa`` of a checkout) on the CPU, with random weights."""
    sys.path.insert(0, checkout)

    def keep_device(self: Any, *_: Any, **__: Any) -> Any:
        return self

    torch.Tensor.cuda = keep_device  # type: ignore[method-assign] # its position maps call .cuda()
    import centermask
    from centermask.config import get_cfg
    from detectron2.modeling import build_model

    assert centermask.__file__.startswith(checkout)
    cfg = get_cfg()
    cfg.merge_from_file(f"{checkout}/{config}")
    cfg.merge_from_list(["MODEL.DEVICE", "cpu", *options])
    return build_model(cfg).eval()


def ours(config: str, options: Sequence[str]) -> Any:
    """Return our model on the CPU, with random weights."""
    from detectron2.modeling import build_model

    from sor_ppa.config import load_config

    return build_model(load_config(config, ["MODEL.DEVICE", "cpu", *options])).eval()


def exported(model: Any, args: argparse.Namespace) -> Any:
    """Return our model in the runtime that the worker names."""
    from sor_ppa.config import load_config
    from sor_ppa.cpu_inference import fold_for_inference
    from sor_ppa.export.model import ExportedRanker
    from sor_ppa.export.runtime import load_graph
    from sor_ppa.export.writer import describe, save_onnx, save_openvino, trace

    runtime, _, precision = args.worker.partition("-")
    info = describe(load_config(args.config, args.opts), model, (), precision or "fp32")
    proto = trace(fold_for_inference(model), info)
    path = Path(args.weights).with_name("model.onnx" if runtime == "onnx" else args.worker)
    if runtime == "onnx":
        save_onnx(proto, info, path)
    else:
        save_openvino(proto, info, path)
    del proto
    return ExportedRanker(load_graph(path, threads=args.threads))


def add_detections(model: Any) -> None:
    """Give the classifier of an untrained model weights of a usual size, so that it detects objects."""
    generator = torch.Generator().manual_seed(0)
    for name, value in model.state_dict().items():
        if value.ndim > 1 and ".cls_logits." in name:
            value.copy_(torch.randn(value.shape, generator=generator) * 0.03)


def pictures() -> list[dict[str, Any]]:
    """Return smooth random pictures of different sizes."""
    generator = torch.Generator().manual_seed(0)
    items = []
    for height, width in SIZES:
        coarse = torch.rand(1, 3, 12, 16, generator=generator)
        image = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0].clamp(0, 1) * 255
        items.append({"image": image, "height": height, "width": width})
    return items


def work(args: argparse.Namespace) -> None:
    """Run a worker process: for each input line ('one' picture or 'all') print the seconds as JSON."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    if args.worker == "published":
        model, batch = published(args.published, args.config, args.opts), 1
        add_detections(model)
        torch.save({"model": model.state_dict()}, args.weights)
    else:
        from sor_ppa.checkpoint import SORCheckpointer
        from sor_ppa.cpu_inference import tune_for_inference

        model, batch = ours(args.config, args.opts), args.batch
        if Path(args.weights).exists():
            SORCheckpointer(model).load(args.weights, checkpointables=[])
        else:
            add_detections(model)
        if args.worker == "pytorch":
            tune_for_inference(model)
        else:
            model = exported(model, args)
    items = pictures()
    objects = 0
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        chosen = items[:1] if line.strip() == "one" else items
        start = time.perf_counter()
        with torch.no_grad():
            found = [
                r
                for i in range(0, len(chosen), batch)
                for r in model([dict(c) for c in chosen[i : i + batch]])
            ]
        seconds = time.perf_counter() - start
        objects = sum(len(r["instances"]) for r in found)
        ranks = [r["instances"].pred_ranks.long().tolist() for r in found if len(r["instances"])]
        sys.stdout.write(json.dumps({"seconds": seconds, "objects": objects, "ranks": ranks}) + "\n")
        sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--published", metavar="DIR", help="folder sor_ppa of a checkout of the published code"
    )
    parser.add_argument(
        "--config", default=CONFIG, metavar="FILE", help="below the working folder and below DIR"
    )
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="after one that is not counted")
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    parser.add_argument("--batch", type=int, default=8, metavar="N", help="pictures at once (ours)")
    parser.add_argument(
        "--runtime",
        nargs="+",
        choices=RUNTIMES,
        default=["pytorch"],
        metavar="NAME",
        help=f"of our model: {', '.join(RUNTIMES)} (default: pytorch)",
    )
    parser.add_argument("--worker", choices=("published", *RUNTIMES), help=argparse.SUPPRESS)
    parser.add_argument("--weights", default="", help=argparse.SUPPRESS)
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config options")
    args = parser.parse_args(argv)
    if args.worker:
        work(args)
        return 0

    kinds = (["published"] if args.published else []) + args.runtime
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--config", args.config, "--threads", str(args.threads), "--batch", str(args.batch)]
        flags += ["--weights", f"{folder}/weights.pth"]
        flags += ["--published", args.published] if args.published else []
        options = ["MODEL.WEIGHTS", "", "MODEL.FCOS.INFERENCE_TH_TEST", "0.02", *args.opts]
        workers: dict[str, Any] = {}
        for kind in kinds:
            words = [sys.executable, __file__, *flags, "--worker", kind, *options]
            workers[kind] = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            while (line := workers[kind].stdout.readline()) != "ready\n":
                if not line:
                    return 1
        for task, name in (
            ("one", "one picture, 480 x 640"),
            ("all", f"{len(SIZES)} pictures of mixed sizes"),
        ):
            answers: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
            for _ in range(args.runs + 1):
                for kind, worker in workers.items():
                    worker.stdin.write(task + "\n")
                    worker.stdin.flush()
                    answers[kind].append(json.loads(worker.stdout.readline()))
            medians = {k: statistics.median(a["seconds"] for a in v[1:]) for k, v in answers.items()}
            best = {k: min(a["seconds"] for a in v[1:]) for k, v in answers.items()}
            sys.stdout.write(
                f"{name}, {answers[kinds[-1]][0]['objects']} objects, median (fastest) of {args.runs}\n"
            )
            for kind in kinds:
                line = f"  {kind:14}{medians[kind]:8.3f} s ({best[kind]:.3f})"
                if kind != kinds[0]:
                    same = answers[kinds[0]][0]["ranks"] == answers[kind][0]["ranks"]
                    line += f"  {medians[kinds[0]] / medians[kind]:.2f} times as fast as {kinds[0]}"
                    line += f"; same ranks: {'yes' if same else 'no'}"
                sys.stdout.write(f"{line}\n")
        for worker in workers.values():
            worker.stdin.close()
            worker.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
