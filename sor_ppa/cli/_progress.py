"""A progress bar for downloads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

__all__ = ["download_progress"]


@contextmanager
def download_progress(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """Give a function that shows the bytes so far and the total."""
    with tqdm(desc=name, unit="B", unit_scale=True, unit_divisor=1024) as bar:

        def show(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show
