"""A training step: forward and backward pass, the check of the update, and the optimizer."""

from __future__ import annotations

import tempfile
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from models import load_ours, load_published, training_batch
from timing import Options, Row, Task, Variant, compare
from torch import nn

FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def measure(options: Options) -> list[Row]:
    """Measure steps of ours in both number formats, and of the published code where its folder is given."""
    with tempfile.TemporaryDirectory() as folder:
        weights = f"{folder}/weights.pth"
        variants = []
        if options.published:
            variants.append(Variant("published", _published, (options, weights)))
        variants += [Variant(f"ours, {name}", _ours, (options, weights, name)) for name in FORMATS]
        return compare(variants, options)


def _size(options: Options) -> tuple[int, int, int]:
    if options.size:
        return 2, options.size[0], options.size[1]
    return (2, 480, 640) if options.published or not options.quick else (2, 64, 96)


def _without_dropout(model: nn.Module) -> nn.Module:
    """Switch dropout off, so that losses can be compared."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    return model.train()


def _task(trainer: Any, size: tuple[int, int, int]) -> dict[str, Task]:
    """Return the step of a trainer; its facts are the losses before the update."""
    from detectron2.utils.events import EventStorage

    iterations = iter(range(10**6))

    def step() -> dict[str, Any]:
        trainer.iter = next(iterations)
        with EventStorage(trainer.iter) as storage:
            trainer.run_step()
        losses = {name: value for name, (value, _) in storage.latest().items() if "loss" in name}
        return {name: round(value, 6) for name, value in sorted(losses.items()) if name != "total_loss"}

    return {"step of {} images of {} x {}".format(*size): step}


def _published(options: Options, weights: str) -> dict[str, Task]:
    from detectron2.engine import SimpleTrainer
    from detectron2.solver import build_optimizer

    model, cfg = load_published(options.published, options.config, ["MODEL.WEIGHTS", "", *options.opts])
    torch.save({"model": model.state_dict()}, weights)
    size = _size(options)
    batches = repeat(training_batch(*size))
    return _task(SimpleTrainer(_without_dropout(model), batches, build_optimizer(cfg, model)), size)


def _ours(options: Options, weights: str, name: str) -> dict[str, Task]:
    from sor_ppa.cpu_inference import keep_free_memory
    from sor_ppa.solver import build_optimizer
    from sor_ppa.training import TrainingStep

    keep_free_memory()
    model, cfg = load_ours(options.config, options.opts, weights)
    if not Path(weights).exists():
        torch.save({"model": model.state_dict()}, weights)
    size = _size(options)
    batches = repeat(training_batch(*size))
    optimizer = build_optimizer(cfg, model)
    return _task(TrainingStep(_without_dropout(model), batches, optimizer, dtype=FORMATS[name]), size)
