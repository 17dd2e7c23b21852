"""Published checkpoints and datasets: where their authors keep them, and fetching them on request."""

from .catalog import Entry, ZooError, catalog, entry_of_file
from .store import cache_folder, get_model, installed, resolve

__all__ = [
    "Entry",
    "ZooError",
    "cache_folder",
    "catalog",
    "entry_of_file",
    "get_model",
    "installed",
    "resolve",
]
