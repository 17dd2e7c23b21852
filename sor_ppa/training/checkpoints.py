"""The checkpoints of a run: which are written, kept and resumed from."""

from __future__ import annotations

import glob
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from detectron2.engine.hooks import BestCheckpointer
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from torch import nn

from ..atomic import write_json
from ..checkpoint import CheckpointError, SORCheckpointer
from .errors import NonFiniteError

__all__ = ["BestCheckpointHook", "TrainingCheckpointer", "has_checkpoint"]

_log = logging.getLogger(__name__)
_BEST = "model_best"


def has_checkpoint(folder: str) -> bool:
    """Return whether a training can be resumed from a folder: it has ``last_checkpoint`` or a checkpoint."""
    return PathManager.exists(os.path.join(folder, "last_checkpoint")) or bool(_newest_first(folder))


def _newest_first(folder: str) -> list[str]:
    """Return the periodic and final checkpoints of a folder."""
    found = glob.glob(os.path.join(glob.escape(folder), "model_[0-9f]*.pth"))
    return sorted(found, key=lambda file: (os.path.getmtime(file), file), reverse=True)


class TrainingCheckpointer(SORCheckpointer):
    """Checkpoints of a training: never one with NaN or infinities, only the last few, resumed if damaged.

    Args:
        model: see :class:`SORCheckpointer`.
        save_dir: folder of the checkpoints.
        keep: number of periodic checkpoints to keep; 0: all.
        options: of :class:`SORCheckpointer`.
    """

    def __init__(self, model: nn.Module, save_dir: str = "", *, keep: int = 0, **options: Any) -> None:
        super().__init__(model, save_dir, **options)
        self.keep = keep
        self._resumed = ""

    def has_checkpoint(self) -> bool:
        """See :func:`has_checkpoint`."""
        return has_checkpoint(self.save_dir)

    def get_checkpoint_file(self) -> str:
        """Return the checkpoint to resume from; see :meth:`resume_or_load`."""
        return self._resumed or super().get_checkpoint_file()

    def resume_or_load(self, path: str, *, resume: bool = True, complete: bool = False) -> dict[str, Any]:
        """Resume from the newest whole checkpoint of ``save_dir`` if there is one, else load ``path``.

        The newest is the one that ``last_checkpoint`` names; where it is missing or damaged, a warning says
        which one is taken.

        Raises:
            CheckpointError: as for :class:`SORCheckpointer`, of the newest one, if none is whole.
        """
        if not resume:
            return super().resume_or_load(path, resume=False, complete=complete)
        files, problem = self._candidates()
        first: CheckpointError | None = None
        for self._resumed in files:
            if problem:
                _log.warning("%s; resuming from %s", problem, self._resumed)
            try:
                return super().resume_or_load(path, resume=True, complete=complete)
            except CheckpointError as error:
                first, problem = first or error, str(error)
            finally:
                self._resumed = ""
        if first is not None:
            raise first
        return super().resume_or_load(path, resume=True, complete=complete)

    def _candidates(self) -> tuple[list[str], str]:
        """Return checkpoints, the best to resume from first, and what is wrong with ``last_checkpoint``."""
        others, problem = _newest_first(self.save_dir), ""
        try:
            last = [super().get_checkpoint_file()]
        except CheckpointError as error:
            last, problem = [], str(error)
        files = last + [file for file in others if file not in last]
        return comm.all_gather((files, problem if files else ""))[0]

    def save(self, name: str, **kwargs: Any) -> None:
        """Write a checkpoint, and remove old ones as ``keep`` says.

        Raises:
            NonFiniteError: a value of the model or of the optimizer is NaN or infinite; nothing is written.
            CheckpointError: the file cannot be written.
        """
        super().save(name, **kwargs)
        if self.keep and self.save_dir and self.save_to_disk:
            numbered = glob.glob(os.path.join(glob.escape(self.save_dir), "model_[0-9]*.pth"))
            for file in sorted(numbered)[: -self.keep]:
                for path in (file, f"{file}.sha256"):
                    Path(path).unlink(missing_ok=True)

    def _check_state(self, path: str, data: dict[str, Any]) -> None:
        for where, tensor in _tensors(data):
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise NonFiniteError(f"{path}: expected finite values, found NaN or infinity in {where}")

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Write ``last_checkpoint``, but not for the best one: a training resumes from the last."""
        if not last_filename_basename.startswith(_BEST):
            super().tag_last_checkpoint(last_filename_basename)


def _tensors(state: Any, where: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Yield every tensor of nested dictionaries and lists, with its place."""
    if isinstance(state, torch.Tensor):
        yield where, state
    elif isinstance(state, (dict, list, tuple)):
        for key, value in state.items() if isinstance(state, dict) else enumerate(state):
            yield from _tensors(value, f"{where}.{key}".lstrip("."))


class BestCheckpointHook(BestCheckpointer):
    """detectron2's hook for the best checkpoint that also knows the best one of a resumed training.

    ``model_best.json`` beside ``model_best.pth`` says its ``metric``, ``value`` and ``iteration``.
    """

    def __init__(self, period: int, checkpointer: TrainingCheckpointer, metric: str, mode: str) -> None:
        super().__init__(period, checkpointer, metric, mode, _BEST)
        self.metric = metric
        self.file = Path(checkpointer.save_dir) / f"{_BEST}.json"

    def before_train(self) -> None:
        """Read the best value so far of a resumed training."""
        if self.trainer.start_iter > 0 and self.file.is_file():
            best = json.loads(self.file.read_text())
            if best["metric"] == self.metric:
                self.best_metric, self.best_iter = best["value"], best["iteration"]

    def _update_best(self, val: float, iteration: int) -> bool:
        """Remember a value; return whether it is finite."""
        is_finite = bool(super()._update_best(val, iteration))
        if is_finite and comm.is_main_process():
            write_json(self.file, {"metric": self.metric, "value": val, "iteration": iteration})
        return is_finite
