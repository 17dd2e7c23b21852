"""The published checkpoints that this package can run, read from ``models.yaml``."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

__all__ = ["Entry", "ZooError", "catalog", "entry_of_file"]


class ZooError(ValueError):
    """A model or dataset that cannot be fetched or found; one line for the user."""


@dataclass(frozen=True)
class Entry:
    """One published checkpoint; ``models.yaml`` explains the fields."""

    name: str
    task: str
    title: str
    config: str
    page: str
    license: str
    params: float
    group: str = ""
    options: tuple[str, ...] = ()
    system: str | None = None
    url: str | None = None
    reported: str | None = None
    hash: str | None = None
    file: str | None = None
    classes: tuple[str, ...] | str = ()

    @property
    def megabytes(self) -> float:
        """Size of the float32 parameters in MB; a published file may hold more."""
        return 4 * self.params


@functools.cache
def catalog() -> Mapping[str, Entry]:
    """Return every entry by name, rankers first."""
    content = yaml.safe_load(Path(__file__).with_name("models.yaml").read_text("utf-8"))
    entries = {}
    for name, fields in content["models"].items():
        merged = content["groups"][fields["group"]] | fields
        for key in ("options", "classes"):
            if isinstance(merged.get(key), list):
                merged[key] = tuple(merged[key])
        entries[name] = Entry(name=name, **merged)
    return entries


def entry_of_file(path: str) -> Entry | None:
    """Return the entry of this name, or else that of a published file with the file name of ``path``."""
    if path in catalog():
        return catalog()[path]
    name = Path(path).name
    return next((e for e in catalog().values() if name in (e.file, (e.url or "").rsplit("/", 1)[-1])), None)
