"""Starting training processes by detectron2's launcher, torchrun, or gloo on CPUs."""

from __future__ import annotations

import os
import socket
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

__all__ = ["start"]


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
    if "TORCHELASTIC_RUN_ID" in os.environ or {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= os.environ.keys():
        return _under_torchrun(function, args)
    if num_processes * num_machines == 1:
        return function(*args)
    if dist_url == "auto" and num_machines > 1:
        raise ValueError("--dist-url: expected an address for several machines, found 'auto'")
    with tempfile.TemporaryDirectory() as folder:
        arguments = (folder, function, *args)
        try:
            if torch.cuda.is_available():
                return launch(_record_exit, num_processes, num_machines, machine_rank, dist_url, arguments)
            url = f"tcp://127.0.0.1:{_free_port()}" if dist_url == "auto" else dist_url
            mp.spawn(
                _cpu_worker,
                nprocs=num_processes,
                args=(_record_exit, num_processes, num_machines, machine_rank, url, arguments),
            )
        except mp.ProcessExitedException as error:
            # All processes usually stop for the same reason: print it once, without a traceback.
            reasons = sorted({file.read_text() for file in Path(folder).iterdir()})
            if not reasons:
                raise
            sys.stderr.write("\n".join(reasons) + "\n")
            sys.exit(error.exit_code)
    return None


def _record_exit(folder: str, function: Callable[..., Any], *args: Any) -> Any:
    """Call a function; write the message with which it exits into a file for the parent process."""
    try:
        return function(*args)
    except SystemExit as leaving:
        if isinstance(leaving.code, str):
            (Path(folder) / str(os.getpid())).write_text(leaving.code)
            sys.exit(1)
        raise


def _under_torchrun(function: Callable[..., Any], args: tuple) -> Any:
    local_rank, local_size = int(os.environ["LOCAL_RANK"]), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(local_rank)
    dist.init_process_group("nccl" if on_gpu else "gloo")
    _form_local_groups(local_size)
    try:
        return function(*args)
    finally:
        dist.destroy_process_group()


def _cpu_worker(
    local_rank: int,
    function: Callable[..., Any],
    num_processes: int,
    num_machines: int,
    machine_rank: int,
    dist_url: str,
    args: tuple,
) -> None:
    dist.init_process_group(
        "gloo",
        init_method=dist_url,
        world_size=num_processes * num_machines,
        rank=machine_rank * num_processes + local_rank,
    )
    _form_local_groups(num_processes)
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // num_processes))
    try:
        function(*args)
    finally:
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


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
