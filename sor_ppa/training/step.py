"""One iteration of a training: forward and backward passes, the check for divergence, the update."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import get_total_norm

from ..config import ConfigError
from ..data.train_loader import seed_all
from ..layers import local_part, split_like
from ..layers.winograd import FastConvolutions
from .errors import NonFiniteError

__all__ = ["TrainingStep", "amp_dtype", "half_precision"]

_log = logging.getLogger(__name__)
_MOST_NAMES = 8  # images in an error
_GRADIENT = "largest gradient"


@dataclass(frozen=True)
class _Report:
    """What a process says about its part of an iteration."""

    numbers: dict[str, float]  # losses and the largest gradient
    data_time: float  # seconds
    images: list[str]  # file names, if a number is not finite

    @property
    def losses(self) -> dict[str, float]:
        return {name: value for name, value in self.numbers.items() if name != _GRADIENT}


def _is_finite(numbers: dict[str, float]) -> bool:
    return all(map(math.isfinite, numbers.values()))


def half_precision(device_type: str) -> torch.dtype:
    """Return the usual 16-bit number format of a device: bfloat16 on a CPU, float16 on a GPU."""
    return torch.bfloat16 if device_type == "cpu" else torch.float16


def amp_dtype(cfg: CfgNode, device_type: str) -> torch.dtype:
    """Return the number format of mixed precision, ``SOLVER.AMP.DTYPE``.

    Raises:
        ConfigError: bfloat16 on a GPU without it.
    """
    name = cfg.SOLVER.AMP.DTYPE
    if name == "auto":
        return half_precision(device_type)
    if name == "bfloat16" and device_type == "cuda" and not torch.cuda.is_bf16_supported():
        raise ConfigError("SOLVER.AMP.DTYPE: expected 'float16' for this GPU, found 'bfloat16'")
    return torch.bfloat16 if name == "bfloat16" else torch.float16


def _largest_magnitude(values: list[Tensor]) -> Tensor:
    """Return the largest absolute value; NaN if there is one."""
    if not values or values[0].device.type != "cpu":
        return get_total_norm(values, norm_type=torch.inf)
    # the same; torch's infinity norm takes ten times as long on a CPU
    return torch.stack([end for value in values for end in value.aminmax()]).abs().amax()


class TrainingStep(SimpleTrainer):
    """detectron2's trainer with mixed precision, accumulated gradients, and a check of every update.

    Random numbers of an iteration depend on the seed, the iteration and the process alone, so a resumed
    training draws those of an uninterrupted one.

    Args:
        model: returns a dictionary of losses; or the same in DistributedDataParallel or split by FSDP.
        data_loader: batches of this process.
        optimizer: of the model's parameters.
        seed: of the random numbers.
        dtype: number format of the forward pass; float32: no mixed precision.
        accumulate: parts into which a batch is split. The losses are averaged over the parts.
        max_skipped: iterations in a row without an update because of a loss or gradient that is not finite.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[list[dict[str, Any]]],
        optimizer: torch.optim.Optimizer,
        *,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        accumulate: int = 1,
        max_skipped: int = 0,
    ) -> None:
        super().__init__(model, data_loader, optimizer)
        self.seed = seed
        self.dtype = dtype
        self.accumulate = accumulate
        self.max_skipped = max_skipped
        self.skipped = 0
        self.device_type = next(model.parameters()).device.type
        self.grad_scaler = torch.amp.GradScaler(self.device_type, enabled=dtype == torch.float16)

    def run_step(self) -> None:
        """Run one iteration.

        Raises:
            NonFiniteError: more than ``max_skipped`` iterations in a row were not finite; nothing is updated.
        """
        start = time.perf_counter()
        batch = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        seed_all(self.seed, self.iter, comm.get_rank())
        # running statistics take part in the forward pass, which a skipped iteration must undo
        buffers = [buffer.clone() for buffer in self.model.buffers()] if self.max_skipped else []
        self.optimizer.zero_grad()
        numbers = self._numbers(self._losses_with_gradients(batch))
        images = [] if _is_finite(numbers) else [str(image.get("file_name", "?")) for image in batch]
        reports = comm.all_gather(_Report(numbers, data_time, images))
        if any(report.images for report in reports):
            self._skip(reports)
            for buffer, before in zip(self.model.buffers(), buffers, strict=True):
                buffer.copy_(before)
            return
        self.skipped = 0
        self._write(reports)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def _fast_convolutions(self) -> AbstractContextManager:
        exact = self.dtype == torch.float32
        return FastConvolutions() if exact and self.device_type == "cpu" else nullcontext()

    def _losses_with_gradients(self, batch: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Return the losses of a batch; their gradients are added up in the parameters."""
        total: dict[str, Tensor] = {}
        size = math.ceil(len(batch) / self.accumulate)
        for first in range(0, len(batch), size):
            waits = isinstance(self.model, DistributedDataParallel) and first + size < len(batch)
            with self._fast_convolutions(), self.model.no_sync() if waits else nullcontext():
                with torch.autocast(self.device_type, self.dtype, enabled=self.dtype != torch.float32):
                    losses = self.model(batch[first : first + size])
                losses = {name: loss / self.accumulate for name, loss in losses.items()}
                self.grad_scaler.scale(sum(losses.values())).backward()
            for name, loss in losses.items():
                total[name] = total.get(name, 0) + loss.detach()
        return total

    def _numbers(self, losses: dict[str, Tensor]) -> dict[str, float]:
        """Return the losses and the largest gradient as numbers, copied from the device at once.

        Scaled gradients may be infinite; the scaler skips such updates by itself, so they are left out.
        """
        values = dict(losses)
        if not self.grad_scaler.is_enabled():
            gradients = [local_part(p.grad) for p in self.model.parameters() if p.grad is not None]
            gradients = [part for part in gradients if part.numel()]  # parts of small ones are empty
            values[_GRADIENT] = _largest_magnitude(gradients).to(self.device_type)
        stacked = torch.stack([value.float() for value in values.values()])
        return dict(zip(values, stacked.tolist(), strict=True))

    def _skip(self, reports: list[_Report]) -> None:
        """Log an iteration that is not finite; raise if there were too many in a row."""
        # a gradient that is not finite spreads to all processes, a loss does not
        sources = [report for report in reports if not _is_finite(report.losses)] or reports
        names = [name for report in sources for name in report.images]
        images = ", ".join(names[:_MOST_NAMES])
        if len(names) > _MOST_NAMES:
            images += f" and {len(names) - _MOST_NAMES} more"
        found = ", ".join(f"{name} {value:g}" for name, value in sources[0].numbers.items())
        line = f"iteration {self.iter}: expected finite losses and gradients, found {found} for {images}"
        self.skipped += 1
        if self.skipped > self.max_skipped:
            raise NonFiniteError(line)
        _log.warning("%s; skipped (%d in a row, at most %d)", line, self.skipped, self.max_skipped)

    def _write(self, reports: list[_Report]) -> None:
        """Write the losses, averaged over the processes, as detectron2 does."""
        if not comm.is_main_process():
            return
        storage = get_event_storage()
        storage.put_scalar("data_time", max(report.data_time for report in reports))
        losses = {name: float(np.mean([r.losses[name] for r in reports])) for name in reports[0].losses}
        storage.put_scalar("total_loss", sum(losses.values()))
        if len(losses) > 1:
            storage.put_scalars(**losses)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for parameter, state in self.optimizer.state.items():
            tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
            state |= {name: split_like(value, parameter) for name, value in tensors.items()}
        if self.grad_scaler.is_enabled() and state_dict.get("grad_scaler"):
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
