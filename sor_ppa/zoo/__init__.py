"""Published checkpoints and datasets: where their authors keep them, and fetching them on request."""

from .catalog import Entry, ZooError, catalog
from .store import cache_folder, get_model, installed, resolve

__all__ = ["Entry", "ZooError", "cache_folder", "catalog", "get_model", "installed", "resolve"]
