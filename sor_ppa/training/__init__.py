"""Parts of the trainer: one iteration, and the checkpoints of a run."""

from .checkpoints import BestCheckpointHook, TrainingCheckpointer, has_checkpoint
from .errors import NonFiniteError
from .norms import synchronize_norms
from .parallel import replicate, share_buffers, split_parameters, splits_parameters
from .step import TrainingStep, amp_dtype, half_precision

__all__ = [
    "BestCheckpointHook",
    "NonFiniteError",
    "TrainingCheckpointer",
    "TrainingStep",
    "amp_dtype",
    "half_precision",
    "has_checkpoint",
    "replicate",
    "share_buffers",
    "split_parameters",
    "splits_parameters",
    "synchronize_norms",
]
