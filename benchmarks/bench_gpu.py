#!/usr/bin/env python
"""Verify every CUDA path against the CPU, measure speed until the memory is full, and train to convergence.

Writes checks.json, speed.json, curve.json and PNG files into a folder. The exit status is 1 if a check fails.
On a machine without network, install the wheels of the pinned requirements first.

Example:
    python benchmarks/bench_gpu.py --output output/gpu
    python benchmarks/bench_gpu.py --output output/gpu --only checks speed
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from models import load_ours, smooth_picture, training_batch
from timing import say
from torch import Tensor, nn

PARTS = ("checks", "speed", "convergence")
GOAL = 0.90  # SA-SOR of the training to convergence


class Check(NamedTuple):
    """A comparison with the CPU; the difference is relative to the largest value."""

    name: str
    difference: float
    allowed: float

    @property
    def passed(self) -> bool:
        return self.difference <= self.allowed


class Settings(NamedTuple):
    """What the command line chooses."""

    device: torch.device
    config: str
    height: int
    width: int
    largest_batch: int
    runs: int
    iterations: int
    scenes: tuple[int, int]  # of training and test
    output: Path


def difference(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Return the largest difference, relative to the largest expected value of each tensor."""
    pairs = [
        (a.detach().double().cpu(), b.detach().double().cpu()) for a, b in zip(found, expected, strict=True)
    ]
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-12)) for a, b in pairs)


def with_gradients(
    run: Callable[..., Tensor], inputs: Sequence[Tensor], device: torch.device
) -> list[Tensor]:
    """Return an output and the gradients of a weighted sum of it, computed on a device."""
    placed = [value.detach().to(device).requires_grad_() for value in inputs]
    output = run(*placed)
    weight = torch.linspace(-1, 1, output.numel(), device=device).view_as(output)
    return [output, *torch.autograd.grad((output * weight).sum(), placed)]


class DensePart(nn.Module):
    """Backbone, pyramid and FCOS head: what does not depend on the number of objects."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.backbone, self.head = model.backbone, model.proposal_generator.fcos_head
        self.names = model.proposal_generator.in_features

    def forward(self, images: Tensor) -> Any:
        """Predict for images (B, 3, H, W)."""
        features = self.backbone(images)
        return self.head([features[name] for name in self.names])


@torch.no_grad()
def _call(model: nn.Module, inputs: Any, dtype: torch.dtype | None, device: str) -> Any:
    with torch.autocast(device, dtype, enabled=dtype is not None, cache_enabled=False):
        return model(inputs)


def check_layers(settings: Settings) -> Iterator[Check]:
    """ROIAlign and deformable attention, forward and backward."""
    from sor_ppa.layers import PyramidROIPooler
    from sor_ppa.layers.detr.deformable_attention import deformable_sampling

    generator = torch.Generator().manual_seed(0)
    levels = [torch.randn(2, 16, 60 // s, 80 // s, generator=generator) for s in (1, 2, 4)]
    corner = torch.rand(2, 20, 2, generator=generator) * 300
    boxes = torch.cat([corner, corner + 20 + torch.rand(2, 20, 2, generator=generator) * 300], 2)
    for kind in ("ROIAlignV2", "ROIAlign"):
        pooler = PyramidROIPooler(14, [8, 16, 32], 0, kind, "ratio")

        def pool(*maps: Tensor, pooler: PyramidROIPooler = pooler) -> Tensor:
            return pooler([maps], list(boxes.to(maps[0].device)), [(480, 640)] * 2)[0]

        pair = [with_gradients(pool, levels, device) for device in (settings.device, torch.device("cpu"))]
        yield Check(f"{kind}, forward and backward", difference(*pair), 1e-4)

    shapes = ((24, 32), (12, 16), (6, 8), (3, 4))
    value = torch.randn(2, sum(h * w for h, w in shapes), 8, 32, generator=generator)
    locations = torch.rand(2, 300, 8, 4, 4, 2, generator=generator) * 1.2 - 0.1
    weights = torch.rand(2, 300, 8, 4, 4, generator=generator)
    methods = ["grid", "triton"] if settings.device.type == "cuda" else ["grid"]
    expected = with_gradients(
        lambda v, at, w: deformable_sampling(v, shapes, at, w, "bag"),
        (value, locations, weights),
        torch.device("cpu"),
    )
    for method in methods:
        found = with_gradients(
            lambda v, at, w, method=method: deformable_sampling(v, shapes, at, w, method),
            (value, locations, weights),
            settings.device,
        )
        yield Check(
            f"deformable attention ({method}), forward and backward", difference(found, expected), 1e-3
        )


def _step_results(model: nn.Module, batch: list[dict[str, Any]]) -> list[Tensor]:
    """Return the losses, and the gradients of some parameters of every part."""
    losses = model(batch)
    model.zero_grad()
    sum(losses.values()).backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None and p.grad.abs().max() > 0]
    chosen = torch.cat([gradient.flatten() for gradient in gradients[:: len(gradients) // 8]])
    return [torch.stack([losses[name].float() for name in sorted(losses)]), chosen]


def _step_checks(name: str, found: list[Tensor], expected: list[Tensor]) -> Iterator[Check]:
    """Compare two results of :func:`_step_results`; batch norms over few cells amplify rounding."""
    yield Check(f"{name}, losses", difference(found[:1], expected[:1]), 1e-3)
    yield Check(f"{name}, gradients", difference(found[1:], expected[1:]), 5e-2)


@contextmanager
def _one_process(device: torch.device) -> Iterator[None]:
    """Set torch.distributed up with this process alone."""
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29511")
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def check_training(settings: Settings) -> Iterator[Check]:
    """A step of the whole model: float32, channels-last, mixed precision, and in DistributedDataParallel."""
    from detectron2.utils.events import EventStorage

    from sor_ppa.training.step import half_precision

    device = settings.device
    reference = load_ours(settings.config, ["MODEL.SOR.TRANSFORMER.DROPOUT", "0.0"])[0].train()
    batch = training_batch(2, settings.height, settings.width)
    with EventStorage():
        expected = _step_results(reference, batch)
        model = copy.deepcopy(reference).to(device)
        yield from _step_checks("training step", _step_results(model, batch), expected)
        last: Any = copy.deepcopy(model).to(memory_format=torch.channels_last)
        yield from _step_checks("the same, channels-last", _step_results(last, batch), expected)
        with torch.autocast(device.type, half_precision(device.type)):
            mixed = _step_results(model, batch)[:1]
        yield Check("losses in mixed precision", difference(mixed, expected[:1]), 5e-2)
        with _one_process(device):
            total = torch.ones(4, device=device)
            dist.all_reduce(total)
            yield Check("all_reduce of one process", difference([total], [torch.ones(4)]), 0.0)
            wrapped = nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
            found = _step_results(wrapped, batch)
            yield Check("training step of one process (DDP)", difference(found[:1], expected[:1]), 5e-3)


def _ranks(results: list[dict[str, Any]]) -> list[Tensor]:
    """Return, per image, the rank of each object in the order of the rank scores."""
    return [
        r["instances"].pred_ranks.cpu()[r["instances"].pred_boxes.tensor[:, 0].cpu().argsort()]
        for r in results
    ]


@torch.no_grad()
def check_inference(settings: Settings) -> Iterator[Check]:
    """Ranks and boxes in float32, logits with AMP; count how often a prediction waits for the device."""
    from sor_ppa.cpu_inference import tune_for_inference
    from sor_ppa.training.step import half_precision

    device = settings.device
    reference = detecting_model(settings)
    model = tune_for_inference(copy.deepcopy(reference).to(device))
    pictures = [{"image": smooth_picture(settings.height, settings.width, seed)} for seed in range(4)]
    expected = tune_for_inference(reference)(pictures)
    found = model(pictures)
    same = [torch.equal(a, b) for a, b in zip(_ranks(found), _ranks(expected), strict=True)]
    yield Check("share of images with other ranks, float32", 1 - statistics.mean(same), 0.0)
    boxes = [[r["instances"].pred_boxes.tensor.sort(0)[0] for r in part] for part in (found, expected)]
    yield Check("boxes, float32", difference(*boxes) if all(same) else float("inf"), 1e-3)
    images = torch.stack([item["image"] for item in pictures]) / 255
    exact = DensePart(reference)(images)[0]
    half = _call(DensePart(model), images.to(device), half_precision(device.type), device.type)[0]
    yield Check("class logits of all cells, AMP", difference(half, exact), 5e-2)
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("warn")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model(pictures)
        torch.cuda.set_sync_debug_mode("default")
        say(f"  {len(caught)} waits for the device in one prediction of 4 images\n")


def detecting_model(settings: Settings) -> nn.Module:
    """Return an untrained model on the CPU that detects some objects."""
    model = load_ours(settings.config, ["MODEL.FCOS.INFERENCE_TH_TEST", "0.02"])[0].eval()
    generator = torch.Generator().manual_seed(0)
    for name, value in model.state_dict().items():
        if value.ndim > 1 and ".cls_logits." in name:
            value.copy_(torch.randn(value.shape, generator=generator) * 0.03)
    return model


def checks(settings: Settings) -> bool:
    """Run all checks; write them and return whether all passed."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    found = []
    for group in (check_layers, check_training, check_inference):
        for check in group(settings):
            found.append(check)
            status = "ok" if check.passed else "FAILED"
            say(f"  {check.name:56}{check.difference:10.1e}  (allowed {check.allowed:.0e})  {status}\n")
    content = [check._asdict() | {"passed": check.passed} for check in found]
    (settings.output / "checks.json").write_text(json.dumps(content, indent=1))
    return all(check.passed for check in found)


def seconds_of(run: Callable[[], Any], settings: Settings) -> float:
    """Return the median seconds of a call, with the device's work."""
    times = []
    for _ in range(settings.runs + 2):
        start = time.perf_counter()
        run()
        if settings.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def _graphed(run: Callable[[], Any]) -> Callable[[], Any]:
    """Return the replay of a CUDA graph of a call."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def limit_of(dtype: torch.dtype, settings: Settings) -> float:
    """Return the TFLOP/s of a large matrix product, the practical limit of the device."""
    side = 8192 if settings.device.type == "cuda" else 512
    a = torch.randn(side, side, device=settings.device, dtype=dtype)
    return 2 * side**3 / seconds_of(lambda: a @ a, settings) / 1e12


def _batches(mode: str, model: nn.Module, settings: Settings) -> Iterator[dict[str, Any]]:
    """Measure a mode with batches of 1, 2, 4 ... images until the memory is full."""
    from sor_ppa.training.step import half_precision

    kind, batch = settings.device.type, 1
    dtype = half_precision(kind) if "AMP" in mode else None
    while batch <= settings.largest_batch:
        images = torch.rand(batch, 3, settings.height, settings.width, device=settings.device) * 255
        inputs = images if not mode.startswith("whole") else [{"image": image} for image in images]
        run: Callable[[], Any] = partial(_call, model, inputs, dtype, kind)
        try:
            took = seconds_of(_graphed(run) if mode.startswith("CUDA graph") else run, settings)
        except torch.OutOfMemoryError:
            return
        peak = torch.cuda.max_memory_allocated() if kind == "cuda" else 0
        say(f"  {mode:18} batch {batch:4}: {took * 1e3:9.2f} ms, {batch / took:9.1f} images/s\n")
        yield {"mode": mode, "batch": batch, "seconds": took, "images a second": batch / took} | {
            "peak GiB": peak / 2**30
        }
        batch *= 2
        if kind == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def speed(settings: Settings) -> None:
    """Measure latency and throughput of the dense part and of the whole model; write and plot them."""
    from sor_ppa.cpu_inference import tune_for_inference
    from sor_ppa.profiling import count_flops
    from sor_ppa.training.step import half_precision

    kind = settings.device.type
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    limits = {dtype: limit_of(dtype, settings) for dtype in (torch.float32, half_precision(kind))}
    say(f"  matrix products, TFLOP/s: {limits}\n")
    model = detecting_model(settings).requires_grad_(False)
    flops = sum(count_flops(DensePart(model), torch.zeros(1, 3, settings.height, settings.width)).values())
    model = tune_for_inference(model.to(settings.device))
    dense: nn.Module = DensePart(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    modes: dict[str, Any] = {"eager": dense, "AMP": dense}
    if kind == "cuda":
        modes["compiled, AMP"] = torch.compile(dense, dynamic=False)
        modes["CUDA graph, AMP"] = dense
    modes |= {"whole model": model, "whole model, AMP": model}
    rows = []
    for mode, part in modes.items():
        for row in _batches(mode, part, settings):
            if not mode.startswith("whole"):
                row["TFLOP/s"] = flops * row["images a second"] / 1e12
                limit = limits[half_precision(kind) if "AMP" in mode else torch.float32]
                row["of the limit"] = row["TFLOP/s"] / limit
            rows.append(row)
    named = {str(dtype): limit for dtype, limit in limits.items()}
    content = {"limits, TFLOP/s": named, "GFLOPs of the dense part": flops / 1e9, "rows": rows}
    (settings.output / "speed.json").write_text(json.dumps(content, indent=1))
    curves = {mode: [(r["batch"], r["images a second"]) for r in rows if r["mode"] == mode] for mode in modes}
    _plot(settings.output / "speed.png", curves, "images in a batch", "images a second")


def convergence(settings: Settings) -> bool:
    """Train on the synthetic benchmark; write the curve and return whether the goal was reached."""
    from detectron2.engine import default_argument_parser

    from sor_ppa.data.synthetic import SyntheticSpec, write_dataset
    from sor_ppa.engine import run

    train, test = settings.scenes
    spec = SyntheticSpec({"train": train, "val": 10, "test": test}, (160, 208, 160, 208))
    write_dataset(settings.output / "datasets/synthetic_sor", spec)
    period = max(settings.iterations // 20, 1)
    options = {
        "MODEL.DEVICE": settings.device.type,
        "DATASETS.ROOT": str(settings.output / "datasets"),
        "OUTPUT_DIR": str(settings.output / "training"),
        "SOLVER.MAX_ITER": str(settings.iterations),
        "SOLVER.WARMUP_ITERS": str(min(200, settings.iterations // 10)),
        "SOLVER.AMP.ENABLED": "True",
        "TEST.EVAL_PERIOD": str(period),
        "SOLVER.CHECKPOINT_PERIOD": str(period),
        "SOLVER.KEEP_CHECKPOINTS": "1",
        "DATALOADER.NUM_WORKERS": str(min(os.cpu_count() or 1, 8) if settings.device.type == "cuda" else 0),
    }
    words = ["--resume", "--config-file", "configs/sor/demo.yaml"]
    run(default_argument_parser().parse_args([*words, *(word for pair in options.items() for word in pair)]))
    curve = []
    for line in (settings.output / "training/metrics.json").read_text().splitlines():
        entry = json.loads(line)
        with suppress(KeyError):
            curve.append((entry["iteration"], entry["sor/SA-SOR"]))
    best = max((value for _, value in curve), default=0.0)
    content = {"goal": GOAL, "best": best, "SA-SOR by iteration": curve}
    (settings.output / "curve.json").write_text(json.dumps(content, indent=1))
    _plot(settings.output / "curve.png", {"SA-SOR": curve}, "iteration", "SA-SOR")
    say(f"  best SA-SOR {best:.3f}, goal {GOAL}\n")
    return best >= GOAL


def _plot(path: Path, curves: dict[str, list[tuple[float, float]]], x: str, y: str) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    plane = figure.subplots()
    for name, points in curves.items():
        if points:
            plane.plot(*zip(*points, strict=True), marker="o", label=name)
    plane.set(xlabel=x, ylabel=y)
    plane.legend()
    figure.savefig(path, dpi=120)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--output", type=Path, default=Path("output/gpu"), metavar="DIR")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="default: all")
    parser.add_argument("--device", default="cuda", help="default: %(default)s")
    parser.add_argument("--config", metavar="FILE", help="a CenterMask model (configs/sor/ppa.yaml)")
    parser.add_argument("--iterations", type=int, default=20_000, metavar="N", help="of the training")
    parser.add_argument("--quick", action="store_true", help="toy sizes, to try the command on a CPU")
    args = parser.parse_args(arguments)
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.stderr.write(
            "--device: expected a GPU that PyTorch can use, found none (--device cpu --quick to try)\n"
        )
        return 2
    args.output.mkdir(parents=True, exist_ok=True)
    device = torch.device(args.device)
    if args.quick:
        config = args.config or "configs/sor/demo.yaml"
        settings = Settings(device, config, 96, 128, 2, 1, min(args.iterations, 2), (4, 2), args.output)
    else:
        config = args.config or "configs/sor/ppa.yaml"
        scenes = (20_000, 1000)
        settings = Settings(device, config, 480, 640, 4096, 10, args.iterations, scenes, args.output)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    say(f"{name}, torch {torch.__version__}\n")
    passed = True
    if "checks" in args.only:
        say("checks (largest relative difference to the CPU)\n")
        passed = checks(settings)
    if "speed" in args.only:
        say(f"speed, {settings.height} x {settings.width}\n")
        speed(settings)
    if "convergence" in args.only:
        say("training to convergence\n")
        convergence(settings)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
