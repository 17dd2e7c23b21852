"""Measuring a model: parameters, operations, time and memory, of the whole and of its parts."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from numpy.typing import NDArray
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count, sdpa_flop_count

from .building import build_checked_model
from .checkpoint import SORCheckpointer
from .cpu_inference import tune_for_inference
from .inference_model import wrap_for_inference

__all__ = ["PartProfile", "Profile", "count_flops", "peak_memory", "profile_model"]

_WARM_UP = 2  # runs before the first that is timed
_PART_RUNS = 5  # at most, for the time of parts
_BILINEAR = 8  # four corners, a multiplication and an addition each


@dataclass(frozen=True)
class PartProfile:
    """What one module takes, without the modules below it that are parts of their own.

    Attributes:
        name: of the module; empty for the model itself.
        parameters: their number.
        flops: of one forward pass of the batch; a multiplication and an addition are two.
        seconds: mean time of one forward pass of the batch.
    """

    name: str
    parameters: int
    flops: int
    seconds: float


@dataclass(frozen=True)
class Profile:
    """What a model takes for batches of one size.

    Attributes:
        height, width, batch: of the input, in pixels and images.
        device: "cpu", or the name of the GPU.
        threads: of PyTorch on the CPU.
        objects: mean number of objects found in an image; None for a model that finds none.
        median, percentile_90: seconds of one forward pass of the batch.
        loaded_bytes, peak_bytes: memory with the loaded model, and at most during a forward pass. On a CPU,
            all of a process that does nothing else; on a GPU, what PyTorch has allocated.
        parts: every figure of theirs sums to that of the whole. Their time was measured in runs of its own,
            which on a GPU wait for each part and so take longer than ``median``.
    """

    height: int
    width: int
    batch: int
    device: str
    threads: int
    objects: float | None
    median: float
    percentile_90: float
    loaded_bytes: int
    peak_bytes: int
    parts: tuple[PartProfile, ...]

    @property
    def total(self) -> PartProfile:
        """The sum of the parts."""
        columns = [(part.parameters, part.flops, part.seconds) for part in self.parts]
        parameters, flops, seconds = map(sum, zip(*columns, strict=True))
        return PartProfile("total", int(parameters), int(flops), seconds)

    def to_json(self) -> dict[str, Any]:
        """Return all figures with their sums."""
        return {**asdict(self), "total": asdict(self.total)}


def profile_model(
    cfg: CfgNode,
    size: tuple[int, int],
    batch: int = 1,
    *,
    repeats: int = 10,
    depth: int = 2,
    image: NDArray[np.uint8] | None = None,
) -> Profile:
    """Build a model and measure its inference, as ``SORPredictor`` runs it.

    Parameters and operations are those of the published layers, before :func:`tune_for_inference` merges
    some; time and memory are those of the tuned model.

    Args:
        cfg: a complete configuration; ``MODEL.WEIGHTS`` may be empty.
        size: height and width in pixels of the images that the model gets. Some models resize them.
        batch: images in a forward pass.
        repeats: forward passes that are timed.
        depth: levels of submodules that are parts; 0 for the whole alone.
        image: (h, w, 3) uint8 in the order of ``INPUT.FORMAT``, resized to ``size``; default: noise.

    Raises:
        ConfigError: see :func:`build_checked_model`.
    """
    if min(*size, batch, repeats) < 1 or depth < 0:
        found = f"{size[0]} x {size[1]}, batch {batch}, {repeats} repeats, depth {depth}"
        raise ValueError(f"profile: expected positive numbers, found {found}")
    on_cpu = cfg.clone()
    on_cpu.defrost()
    on_cpu.MODEL.DEVICE = "cpu"  # fused kernels of a GPU cannot be counted
    inputs = _inputs(cfg, size, batch, image)
    plain = _build(on_cpu, tuned=False)
    names = _part_names(plain, depth)
    parameters = _count_parameters(plain, names)
    flops = count_flops(plain, inputs, names)
    del plain

    device = torch.device(cfg.MODEL.DEVICE)
    if device.type == "cuda":
        model = _build(cfg)
        memory = _cuda_memory(model, inputs, device)
    else:
        memory = peak_memory(_prepared_run, cfg, inputs)
        model = _build(cfg)
    read = _clock(device)
    outputs = [_run_once(model, inputs) for _ in range(_WARM_UP)]
    durations = [_duration(read, model, inputs) for _ in range(repeats)]
    names = _part_names(model, depth)
    runs = min(repeats, _PART_RUNS)
    with _attributed(names, read) as seconds:
        for _ in range(runs):
            _run_once(model, inputs)
    counts = [len(o["instances"]) for o in outputs[-1] if isinstance(o, dict) and "instances" in o]
    shown = [name for name in parameters if parameters[name] or flops[name] or seconds[name]]
    return Profile(
        *size,
        batch,
        torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        torch.get_num_threads(),
        sum(counts) / len(counts) if counts else None,
        float(np.median(durations)),
        float(np.percentile(durations, 90)),
        *memory,
        tuple(PartProfile(n, parameters[n], int(flops[n]), seconds[n] / runs) for n in shown),
    )


def count_flops(model: nn.Module, inputs: Any, names: dict[nn.Module, str] | None = None) -> Counter[str]:
    """Return the operations of a forward pass on a CPU; a multiplication and an addition are two.

    Counted are convolutions (also deformable ones), linear layers, matrix products, attention and bilinear
    sampling (``grid_sample``, ``embedding_bag``). Not counted are element-wise operations, normalization,
    pooling, resizing, ROIAlign, NMS and sorting.

    Args:
        model: without parameters that require gradients.
        inputs: its argument.
        names: the part of each module; default: all belongs to the part "".
    """
    aten = torch.ops.aten
    mapping: dict[Any, Any] = {
        aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
        aten._embedding_bag: _bag_flops,
        aten._embedding_bag_forward_only: _bag_flops,
        aten.grid_sampler_2d: _sampler_flops,
        torch.ops.torchvision.deform_conv2d: _deformable_flops,
    }
    if torch.backends.mkldnn.is_available():  # in a saliency model that refines masks, which is always tuned
        mapping[torch.ops.mkldnn._linear_pointwise] = _linear_flops
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one kernel that cannot be counted
    try:
        counter = FlopCounterMode(display=False, depth=0, custom_mapping=mapping)
        with counter, _attributed(names or {}, counter.get_total_flops) as flops:
            _run_once(model, inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return Counter({name: int(count) for name, count in flops.items()})


Shape = Sequence[int]


def _attention_flops(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _linear_flops(features: Shape, weight: Shape, *_: Any, **__: Any) -> int:
    return 2 * math.prod(features) * weight[0]


def _bag_flops(table: Shape, indices: Shape, *_: Any, **__: Any) -> int:
    return 2 * math.prod(indices) * table[-1]


def _sampler_flops(*_: Any, out_shape: Shape, **__: Any) -> int:
    return _BILINEAR * math.prod(out_shape)


def _deformable_flops(image: Shape, weight: Shape, *_: Any, out_shape: Shape, **__: Any) -> int:
    samples = out_shape[0] * math.prod(out_shape[2:]) * image[1] * math.prod(weight[2:])
    return conv_flop_count(list(image), list(weight), list(out_shape)) + _BILINEAR * samples


def peak_memory(prepare: Callable[..., Callable[[], Any]], *arguments: Any) -> tuple[int, int]:
    """Measure the memory of a call in a new process, so that nothing else is in the figures.

    Args:
        prepare: returns the call that is measured. It and its arguments are sent to the process.

    Returns:
        The bytes of the process before the call and its peak until the call ended, both in physical memory.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_measured_call, prepare, arguments).result()


def _measured_call(prepare: Callable[..., Callable[[], Any]], arguments: Sequence[Any]) -> tuple[int, int]:
    call = prepare(*arguments)
    before = process_memory("VmRSS")
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # what prepare() needed is not part of the peak
    call()
    return before, process_memory("VmHWM")


def process_memory(field: str) -> int:
    """Return a field of /proc/self/status in bytes; the peak on systems without that file.

    On Linux, ``ru_maxrss`` of a new process starts with the memory of the process that started it.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    lines = (line.split() for line in status.read_text().splitlines())
    return next(int(words[1]) * 1024 for words in lines if words[0] == f"{field}:")


def _prepared_run(cfg: CfgNode, inputs: Any) -> Callable[[], Any]:
    model = _build(cfg)
    return lambda: _run_once(model, inputs)


def _cuda_memory(model: nn.Module, inputs: Any, device: torch.device) -> tuple[int, int]:
    """Return what PyTorch has allocated on a GPU before a forward pass and at most during it."""
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    _run_once(model, inputs)
    return before, torch.cuda.max_memory_allocated(device)


def _build(cfg: CfgNode, tuned: bool = True) -> nn.Module:
    """Return a model in evaluation mode with its wrappers, and with ``MODEL.WEIGHTS`` if there are any."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # random weights are the same in every measurement
        model = build_checked_model(cfg)
    if cfg.MODEL.WEIGHTS:
        SORCheckpointer(model).load(cfg.MODEL.WEIGHTS, checkpointables=[])
    model = wrap_for_inference(cfg, tune_for_inference(model) if tuned else model)
    return model.eval().requires_grad_(False)


def _inputs(
    cfg: CfgNode, size: tuple[int, int], batch: int, image: NDArray[np.uint8] | None
) -> list[dict[str, Any]]:
    """Return the argument of a model."""
    height, width = size
    if image is None:
        image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    image = np.asarray(cv2.resize(image, (width, height)), np.uint8)
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    if cfg.MODEL.META_ARCHITECTURE == "SiameseDETR":  # the pre-training takes two views with shared regions
        count = cfg.MODEL.SIAMESE_DETR.PRETRAIN.NUM_REGIONS
        boxes = torch.tensor([0.0, 0.0, width / 2, height / 2]).expand(2, count, 4)
        return [{"views": torch.stack([pixels, pixels]), "boxes": boxes}] * batch
    inputs = {"image": pixels, "height": height, "width": width}
    return [inputs] * batch


@torch.no_grad()
def _run_once(model: nn.Module, inputs: Any) -> Any:
    return model(inputs)


def _duration(read: Callable[[], float], model: nn.Module, inputs: Any) -> float:
    start = read()
    _run_once(model, inputs)
    return read() - start


def _clock(device: torch.device) -> Callable[[], float]:
    """Return a function that waits for the device and then returns the time in seconds."""

    def read() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    return read


def _part_names(model: nn.Module, depth: int) -> dict[nn.Module, str]:
    """Return the part that each module belongs to: the first ``depth`` words of its name."""
    return {module: ".".join(name.split(".")[:depth]) for name, module in model.named_modules()}


def _count_parameters(model: nn.Module, names: dict[nn.Module, str]) -> Counter[str]:
    """Return the parameters of each part; a shared parameter is counted once."""
    counts = Counter(dict.fromkeys(names.values(), 0))
    for name, parameter in model.named_parameters():
        counts[names[model.get_submodule(name.rpartition(".")[0])]] += parameter.numel()
    return counts


@contextmanager
def _attributed(names: dict[nn.Module, str], read: Callable[[], float]) -> Iterator[Counter[str]]:
    """Give how much ``read()`` grows in each part, that of the innermost running module.

    What grows outside of all modules belongs to the part "", so the amounts sum to the whole.
    """
    amounts: Counter[str] = Counter()
    running = [""]
    last = read()

    def close(part: str) -> None:
        nonlocal last
        now = read()
        amounts[part] += now - last  # type: ignore[assignment]  # also seconds
        last = now

    def enter(module: nn.Module, _: Any) -> None:
        if names[module] != running[-1]:
            close(running[-1])
        running.append(names[module])

    def leave(*_: Any) -> None:
        part = running.pop()
        if part != running[-1]:
            close(part)

    hooks = [module.register_forward_pre_hook(enter) for module in names]
    hooks += [module.register_forward_hook(leave) for module in names]
    try:
        yield amounts
    finally:
        close(running[-1])
        for hook in hooks:
            hook.remove()
