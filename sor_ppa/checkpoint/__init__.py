"""Weight files: safe reading, published names -> ours, loading into a model."""

from .checkpointer import SORCheckpointer
from .convert import SYSTEMS, convert_published
from .errors import CheckpointError
from .match import Fit, fit_to_model
from .read import Checkpoint, read_checkpoint, read_weights
from .safetensors_file import write_safetensors

__all__ = [
    "SYSTEMS",
    "Checkpoint",
    "CheckpointError",
    "Fit",
    "SORCheckpointer",
    "convert_published",
    "fit_to_model",
    "read_checkpoint",
    "read_weights",
    "write_safetensors",
]
