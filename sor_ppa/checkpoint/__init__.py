"""Weight files: safe reading, published names -> ours, loading into a model, saving."""

from .checkpointer import SORCheckpointer
from .convert import SYSTEMS, convert_published
from .errors import CheckpointError
from .info import CheckpointInfo
from .match import Fit, fit_to_model
from .read import Checkpoint, read_checkpoint, read_checkpoint_info, read_weights
from .write import save_safetensors

__all__ = [
    "SYSTEMS",
    "Checkpoint",
    "CheckpointError",
    "CheckpointInfo",
    "Fit",
    "SORCheckpointer",
    "convert_published",
    "fit_to_model",
    "read_checkpoint",
    "read_checkpoint_info",
    "read_weights",
    "save_safetensors",
]
