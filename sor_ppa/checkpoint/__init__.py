"""Weight files: safe reading, published names -> ours, loading into a model."""

from .convert import SYSTEMS, convert_published
from .errors import CheckpointError
from .read import Checkpoint, read_checkpoint, read_weights
from .safetensors_file import write_safetensors

__all__ = [
    "SYSTEMS",
    "Checkpoint",
    "CheckpointError",
    "convert_published",
    "read_checkpoint",
    "read_weights",
    "write_safetensors",
]
