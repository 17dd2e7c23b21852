"""Ending processes together with the process that started them."""

from __future__ import annotations

import os
import time
from multiprocessing import parent_process
from threading import Thread

__all__ = ["exit_with_parent"]


def exit_with_parent() -> None:
    """End this process within about a second of the end of its parent, however that ended."""
    parent = parent_process()
    pid = os.getppid() if parent is None or parent.pid is None else parent.pid

    def watch() -> None:
        while os.getppid() == pid:
            time.sleep(1)
        os._exit(1)

    Thread(target=watch, name="exit_with_parent", daemon=True).start()
