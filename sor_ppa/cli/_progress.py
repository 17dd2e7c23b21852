"""Progress bars of the commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from tqdm import tqdm

__all__ = ["count_progress", "download_progress"]


@contextmanager
def count_progress(**options: Any) -> Iterator[Callable[[int, int | None], None]]:
    """Give a function that shows how many are done and the total; options are those of ``tqdm``."""
    with tqdm(**options) as bar:

        def show(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


def download_progress(name: str) -> AbstractContextManager[Callable[[int, int | None], None]]:
    """Give a function that shows the bytes so far and the total."""
    return count_progress(desc=name, unit="B", unit_scale=True, unit_divisor=1024)
