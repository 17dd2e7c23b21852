"""Parts of the trainer: one iteration, and the checkpoints of a run."""

from .checkpoints import BestCheckpointHook, TrainingCheckpointer, has_checkpoint
from .errors import NonFiniteError
from .norms import synchronize_norms
from .step import TrainingStep, amp_dtype, half_precision

__all__ = [
    "BestCheckpointHook",
    "NonFiniteError",
    "TrainingCheckpointer",
    "TrainingStep",
    "amp_dtype",
    "half_precision",
    "has_checkpoint",
    "synchronize_norms",
]
