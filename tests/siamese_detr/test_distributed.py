"""Several workers compute what one worker with the whole batch computes."""

from __future__ import annotations

import torch
import torch.distributed as dist

from sor_ppa.layers.detr.matching import BoxTargets
from sor_ppa.siamese_detr.heads import GlobalDiscriminationHead
from tests.distributed import run_processes

SAMPLES, CHANNELS = 8, 6


def head_step(rank: int | None = None, size: int = 1) -> dict[str, torch.Tensor]:
    """Loss, gradients and running statistics of the head, averaged over the workers as DDP does."""
    torch.manual_seed(0)
    head = GlobalDiscriminationHead(CHANNELS, CHANNELS).train()
    first, second = torch.randn(2, SAMPLES, CHANNELS)
    if dist.is_initialized():
        rank, size = dist.get_rank(), dist.get_world_size()
        share = slice(rank * SAMPLES // size, (rank + 1) * SAMPLES // size)
        first, second = first[share], second[share]
    loss = head(first, second)
    loss.backward()
    result = {"loss": loss.detach(), **{n: p.grad for n, p in head.named_parameters()}}
    if size > 1:
        for value in result.values():
            dist.all_reduce(value)
            value /= size
    return result | {n: b for n, b in head.named_buffers() if "running" in n}


def targets_of_this_worker() -> torch.Tensor:
    counts = [1, 4] if dist.get_rank() else [0, 1]
    return BoxTargets.pad([torch.zeros(n, 4) for n in counts], [torch.zeros(n) for n in counts]).mean_count()


def test_global_discrimination_spans_all_workers():
    whole = head_step()
    for part in run_processes(2, head_step):
        for name, value in whole.items():
            torch.testing.assert_close(part[name], value, atol=2e-5, rtol=1e-4, msg=name)


def test_targets_are_averaged_over_the_workers():
    assert run_processes(2, targets_of_this_worker) == [3.0, 3.0]
