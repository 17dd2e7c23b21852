"""Means over processes."""

from __future__ import annotations

import torch
import torch.distributed as dist

from sor_ppa.layers import mean_over_processes
from tests.distributed import run_processes


def _mean() -> float:
    return mean_over_processes(torch.tensor(float(dist.get_rank() + 1))).item()


def test_every_process_gets_the_mean() -> None:
    assert run_processes(2, _mean) == [1.5, 1.5]
    assert mean_over_processes(torch.tensor(3.0)).item() == 3.0
