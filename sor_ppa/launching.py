"""Starting training processes by detectron2's launcher, torchrun, or gloo on CPUs."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.engine import launch
from detectron2.utils import comm

from .processes import exit_with_parent

__all__ = ["leave_group", "may_restart", "start"]


def may_restart() -> bool:
    """Return whether this process is started again after a failure: by torchrun, or a queue with submitit.

    ``torchrun`` does so with ``--max-restarts``, and then also when machines leave or join.
    """
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")) > 0 or "SUBMITIT_EXECUTOR" in os.environ


def start(
    function: Callable[..., Any],
    num_processes: int,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
    args: tuple = (),
) -> Any:
    """Run a function in several processes.

    Under ``torchrun`` the environment says how many. Otherwise detectron2's ``launch`` starts GPU processes.
    Without a GPU, this function starts CPU processes that communicate by gloo.

    Args:
        function: called with ``args`` in every process.
        num_processes: on each machine.
        num_machines, machine_rank, dist_url: as for ``detectron2.engine.launch``.
        args: of the function.

    Returns:
        The result of the function if it ran in this process, else None.

    Raises:
        ValueError: several machines without an address.
        SystemExit: the function exited with a message in a child process; it is printed once.
    """
    on_gpu = torch.cuda.is_available()
    if "TORCHELASTIC_RUN_ID" in os.environ or {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= os.environ.keys():
        if on_gpu:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        exit_with_parent()
        local_size = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        return _in_group(local_size, function, args, backend="nccl" if on_gpu else "gloo")
    if num_processes * num_machines == 1:
        return function(*args)
    if dist_url == "auto" and num_machines > 1:
        raise ValueError("--dist-url: expected an address for several machines, found 'auto'")
    with tempfile.TemporaryDirectory() as folder:
        arguments = (folder, function, *args)
        try:
            if on_gpu:
                return launch(_record_exit, num_processes, num_machines, machine_rank, dist_url, arguments)
            url = f"file://{folder}/store" if dist_url == "auto" else dist_url
            numbers = (num_processes, num_machines, machine_rank)
            mp.spawn(_cpu_worker, nprocs=num_processes, args=(*numbers, url, arguments))
        except (mp.ProcessExitedException, mp.ProcessRaisedException):
            # All processes usually stop for the same reason: print it once, without a traceback. Where one
            # stops, the others may fail first because they have lost it.
            reasons = sorted({file.read_text() for file in Path(folder).glob("*.txt")})
            if not reasons:
                raise
            sys.stderr.write("\n".join(reasons) + "\n")
            sys.exit(1)
    return None


def _record_exit(folder: str, function: Callable[..., Any], *args: Any) -> Any:
    """Call a function; write the message with which it exits into a file for the parent process.

    This process ends if its parent does, also by a signal that neither can handle.
    """
    exit_with_parent()
    try:
        return function(*args)
    except SystemExit as leaving:
        if isinstance(leaving.code, str):
            (Path(folder) / f"{os.getpid()}.txt").write_text(leaving.code)
            sys.exit(1)
        raise


def _cpu_worker(
    local_rank: int, num_processes: int, num_machines: int, machine_rank: int, dist_url: str, arguments: tuple
) -> None:
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // num_processes))
    rank, world_size = machine_rank * num_processes + local_rank, num_processes * num_machines
    place = {"backend": "gloo", "init_method": dist_url, "world_size": world_size, "rank": rank}
    _in_group(num_processes, _record_exit, arguments, **place)


def _in_group(local_size: int, function: Callable[..., Any], args: tuple, **place: Any) -> Any:
    """Call a function in a process group; ``place`` goes to ``init_process_group``."""
    dist.init_process_group(**place)
    _form_local_groups(local_size)
    try:
        return function(*args)
    finally:
        leave_group()


def leave_group() -> None:
    """End the process group and its threads; Python may abort if it exits while they run.

    detectron2 keeps groups, whose threads outlive ``destroy_process_group``.
    """
    comm._get_global_gloo_group.cache_clear()
    comm._LOCAL_PROCESS_GROUP = None
    dist.destroy_process_group()


def _form_local_groups(size: int) -> None:
    """Tell detectron2 which processes share a machine; v0.6 has no public function for it."""
    if hasattr(comm, "create_local_process_group"):
        comm.create_local_process_group(size)
        return
    for first in range(0, dist.get_world_size(), size):
        group = dist.new_group(list(range(first, first + size)))
        if first <= dist.get_rank() < first + size:
            comm._LOCAL_PROCESS_GROUP = group
