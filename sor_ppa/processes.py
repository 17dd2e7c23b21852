"""Ending processes together with the process that started them."""

from __future__ import annotations

import os
import time
from multiprocessing import parent_process
from threading import Thread

__all__ = ["TRAINING", "exit_with_parent"]

TRAINING = "SOR_PPA_TRAINING"  # variable of the environment of a training command and what it starts


def exit_with_parent(worker: int = 0) -> None:
    """End this process within about a second of the end of its parent, however that ended.

    Args:
        worker: number of a worker of torch's ``DataLoader``, which calls this as its ``worker_init_fn``. Its
            own watch misses a parent that ends while a worker starts.
    """
    pid = os.getppid()  # not that of the parent process below if a fork server started this one

    def watch() -> None:
        # the parent process is known once a spawned process has imported its modules; it tells whether the
        # parent ended before. A forked process, or one of torchrun, has only the number.
        while os.getppid() == pid and ((parent := parent_process()) is None or parent.is_alive()):
            time.sleep(1)
        os._exit(1)

    Thread(target=watch, name="exit_with_parent", daemon=True).start()
