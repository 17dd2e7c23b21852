"""Ending processes together with the process that started them."""

from __future__ import annotations

import os
import time
from multiprocessing import parent_process
from threading import Thread

__all__ = ["exit_with_parent"]


def exit_with_parent(worker: int = 0) -> None:
    """End this process within about a second of the end of its parent, however that ended.

    Args:
        worker: number of a worker of torch's ``DataLoader``, which calls this as its ``worker_init_fn``. Its
            own watch misses a parent that ends while a worker starts.
    """
    parent, pid = parent_process(), os.getppid()  # pid is another one if a fork server started this process

    def watch() -> None:
        # a forked process does not see the first, a process that torchrun started has only the second
        while (parent is None or parent.is_alive()) and os.getppid() == pid:
            time.sleep(1)
        os._exit(1)

    Thread(target=watch, name="exit_with_parent", daemon=True).start()
