"""Weight files: safe reading, published names -> ours, loading into a model."""

from .convert import SYSTEMS, convert_published
from .errors import CheckpointError

__all__ = ["SYSTEMS", "CheckpointError", "convert_published"]
