"""Running a function in several processes that talk by gloo."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from sor_ppa.launching import leave_group


def _worker(rank: int, size: int, folder: str, function: Callable[..., Any], args: tuple) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", world_size=size, rank=rank)
    try:
        torch.save(function(*args), os.path.join(folder, f"{rank}.pt"))
        dist.barrier()
    finally:
        gc.collect()  # a parallel model in the traceback of an error keeps threads of the group
        leave_group()


def run_processes(size: int, function: Callable[..., Any], *args: Any) -> list[Any]:
    """What a module-level function returns in each of ``size`` processes."""
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_worker, nprocs=size, args=(size, folder, function, args))
        return [torch.load(os.path.join(folder, f"{rank}.pt"), weights_only=False) for rank in range(size)]
