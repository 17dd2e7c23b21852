"""Loading weight files into a model, and saving training states."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, TypeVar

import detectron2.utils.comm as comm
import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from torch import nn

from ..layers import gathered, split_like
from .errors import CheckpointError, quoted
from .info import INFO_KEY, CheckpointInfo
from .match import Fit, fit_to_model
from .read import Checkpoint, read_checkpoint
from .write import save_safetensors, save_torch, write_file

__all__ = ["SORCheckpointer"]

_log = logging.getLogger(__name__)
T = TypeVar("T")
_HEURISTICS = "?matching_heuristics=True"  # detectron2's query behind a path
_LONGEST_TAG = 4096


class SORCheckpointer(DetectionCheckpointer):
    """detectron2's checkpointer that reads files safely and maps published names.

    ``docs/checkpoints.md`` lists the files that ``load`` takes.

    Attributes:
        fit: what the last ``load`` put where; None before.
        loaded_info: what the last loaded file was trained with, where it says so.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        info: CheckpointInfo | None = None,
        save_to_disk: bool | None = None,
        system: str | None = None,
        allow_non_finite: bool = False,
        save_safetensors: bool = False,
        **checkpointables: Any,
    ) -> None:
        """Set up; nothing is read yet.

        Args:
            model: the model, or the same in DistributedDataParallel.
            save_dir: where ``save`` writes.
            info: what the model is trained with; written into every checkpoint.
            save_to_disk: default: only on the main process.
            system: whose published names files may have (see ``convert_published``); default: the model's
                ``checkpoint_system`` attribute, else ``sor``.
            allow_non_finite: accept NaN and infinite parameters.
            save_safetensors: write the model a second time as ``<name>.safetensors``.
            checkpointables: objects with ``state_dict`` and ``load_state_dict`` to save and resume.
        """
        super().__init__(model, save_dir, save_to_disk=save_to_disk, **checkpointables)
        self.info = info
        self.system = str(system or getattr(self.model, "checkpoint_system", "sor"))
        self.allow_non_finite = allow_non_finite
        self.save_safetensors = save_safetensors
        self.fit: Fit | None = None
        self.loaded_info: CheckpointInfo | None = None

    def load(
        self, path: str, checkpointables: list[str] | None = None, *, complete: bool = False
    ) -> dict[str, Any]:
        """Load a file into the model and, if it is a training state, into the checkpointables.

        Either every process loads, or every process raises the same error.

        Args:
            path: a local file, a URL or a ``detectron2://`` path; empty: nothing is loaded.
            checkpointables: which of them to load; default: all that the file has.
            complete: refuse a file that leaves a parameter of the model at its initialization.

        Returns:
            What the file holds beside the model and the loaded checkpointables.

        Raises:
            CheckpointError: in one line, if the file is unsafe, damaged, or does not belong to the model.
        """
        if not path:
            _log.info("No weights given: the model starts from its initialization")
            return {}
        checkpoint, fit = _on_all_processes(lambda: self._read_and_fit(path, complete))
        own = self.model.state_dict()
        loaded = {name: split_like(tensor, own[name]) for name, tensor in fit.loaded.items()}
        self.model.load_state_dict(loaded, strict=False)
        # without the values, which would keep the file's content in memory
        self.fit = replace(fit, loaded={name: tensor.to("meta") for name, tensor in fit.loaded.items()})
        self.loaded_info = checkpoint.info
        self._log_fit(path, checkpoint, fit)
        rest = dict(checkpoint.extras)
        for key in self.checkpointables if checkpointables is None else checkpointables:
            if key in rest:
                self._load_state(key, rest.pop(key), path)
        return rest

    def resume_or_load(self, path: str, *, resume: bool = True, complete: bool = False) -> dict[str, Any]:
        """Resume from the last checkpoint of ``save_dir`` if there is one, else load the weights at ``path``.

        Args and returned value are those of ``load``; with ``path``, the checkpointables are left alone.

        Raises:
            CheckpointError: as ``load``; a resumed file must hold every parameter and checkpointable.
        """
        if not (resume and self.has_checkpoint()):
            return self.load(path, checkpointables=[], complete=complete)
        last = _on_all_processes(self.get_checkpoint_file)
        rest = self.load(last, checkpointables=[], complete=True)
        if lacking := [key for key in self.checkpointables if key not in rest]:
            raise CheckpointError(
                f"holds no {quoted(lacking[0])}, expected a training state (to start a training with these "
                "weights, give them as MODEL.WEIGHTS without --resume)",
                last,
            )
        for key in self.checkpointables:
            self._load_state(key, rest.pop(key), last)
        return rest

    def get_checkpoint_file(self) -> str:
        """Return the file that ``last_checkpoint`` in ``save_dir`` names.

        Raises:
            CheckpointError: if there is ``last_checkpoint`` but no such file.
        """
        tag = os.path.join(self.save_dir, "last_checkpoint")
        try:
            with self.path_manager.open(tag, "rb") as file:
                name = file.read(_LONGEST_TAG).decode("utf-8", "replace").strip()
        except OSError as error:
            reason = error.strerror or error
            raise CheckpointError(f"cannot be read ({reason}), expected a file name", tag) from None
        path = os.path.join(self.save_dir, name)
        if not name or not self.path_manager.isfile(path):
            others = sorted(name for name in self.path_manager.ls(self.save_dir) if name.endswith(".pth"))
            found = f"{quoted(name)}, which is not there" if name else "nothing"
            expected = ", ".join(others[-4:]) or "no files"
            raise CheckpointError(f"names {found}, expected one of {expected}", tag)
        return path

    def save(self, name: str, **kwargs: Any) -> None:
        """Write model, checkpointables and info as ``<name>.pth``, whole or not at all.

        Of a model that is split among processes, all of them must call; one writes.

        Args:
            name: file name without suffix.
            kwargs: more to save, such as ``iteration``.

        Raises:
            CheckpointError: if the file cannot be written.
        """
        if not self.save_dir:
            return
        states = {key: item.state_dict() for key, item in self.checkpointables.items()} | kwargs
        model = {name: gathered(tensor) for name, tensor in self.model.state_dict().items()}
        data = {"model": model} | {key: _plain(state, key) for key, state in states.items()}
        if not self.save_to_disk:
            return
        if self.info is not None:
            data[INFO_KEY] = asdict(self.info)
        target = os.path.join(self.save_dir, name)
        self._check_state(f"{target}.pth", data)
        _log.info("Saving checkpoint to %s.pth", target)
        save_torch(f"{target}.pth", data)
        if self.save_safetensors:
            save_safetensors(f"{target}.safetensors", data["model"], self.info)
        self.tag_last_checkpoint(f"{name}.pth")

    def _check_state(self, path: str, data: dict[str, Any]) -> None:
        """Raise an error if ``data`` must not be written to ``path``; here everything may."""

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Write ``last_checkpoint``, whole or not at all."""
        with write_file(os.path.join(self.save_dir, "last_checkpoint")) as file:
            file.write_text(last_filename_basename)

    def _load_state(self, key: str, state: Any, path: str) -> None:
        _log.info("Loading %s from %s", key, path)
        try:
            self.checkpointables[key].load_state_dict(state)
        except Exception as error:  # an optimizer or a hook may raise anything for the state of another one
            reason = f"{type(error).__name__}: {error}"
            raise CheckpointError(
                f"its {key} cannot be resumed ({reason}), expected one of this model", path
            ) from error

    def _load_file(self, filename: str) -> dict[str, Any]:
        """Read a file for tools that call this hook of detectron2."""
        checkpoint = read_checkpoint(filename, allow_non_finite=self.allow_non_finite)
        return {**checkpoint.extras, "model": checkpoint.tensors}

    def _read_and_fit(self, path: str, complete: bool) -> tuple[Checkpoint, Fit]:
        local = self._local(path.removesuffix(_HEURISTICS))
        checkpoint = read_checkpoint(local, allow_non_finite=self.allow_non_finite)
        if path.endswith(_HEURISTICS):
            checkpoint.extras["matching_heuristics"] = True
        try:
            fit = fit_to_model(checkpoint, self.model.state_dict(), self.system)
            if complete and fit.incomplete:
                names = ", ".join(repr(name) for name in fit.incomplete[:2])
                count = f"{len(fit.incomplete)} parameters of this model ({names} ...)"
                raise CheckpointError(f"lacks {count}, expected all of them")
            if complete and fit.surplus:
                raise CheckpointError(fit.surplus_line())
        except CheckpointError as error:
            raise error.at(path) from None
        return checkpoint, fit

    def _local(self, path: str) -> str:
        if os.path.exists(path) or "://" not in path:
            return path
        try:
            return self.path_manager.get_local_path(path)
        except Exception as error:  # the handler of an address may raise anything
            raise CheckpointError(f"cannot be fetched ({type(error).__name__}: {error})", path) from None

    def _log_fit(self, path: str, checkpoint: Checkpoint, fit: Fit) -> None:
        _log.info(
            "Weights from %s (%s, %s): %d tensors loaded\n%s",
            *(path, checkpoint.format, fit.origin, len(fit.loaded), fit.table()),
        )
        if fit.surplus:
            _log.warning("%s: %s", path, fit.surplus_line())
        # Caffe2's bottlenecks have the stride in their 1x1 convolution, torchvision's do not
        first = (m for name, m in self.model.named_modules() if name.endswith("res3.0.conv1"))
        if "ResNet" in fit.origin and any(tuple(getattr(m, "stride", ())) == (2, 2) for m in first):
            _log.warning(
                "These ResNet weights need MODEL.RESNETS.STRIDE_IN_1X1 False (and RGB input), found True: "
                "features will be off"
            )


def _on_all_processes(action: Callable[[], T]) -> T:
    """Do something on every process; raise on all of them if one cannot."""
    result, error = None, ""
    try:
        result = action()
    except CheckpointError as caught:
        error = str(caught)
    errors = [e for e in (error, *comm.all_gather(error)) if e]
    if result is None or errors:
        raise CheckpointError(errors[0])
    return result


def _plain(value: Any, where: str) -> Any:
    """Copy a training state as containers, tensors, arrays and scalars; leave out the rest with a warning."""
    if isinstance(value, dict):
        items = {k: _plain(v, f"{where}.{k}") for k, v in value.items() if isinstance(k, (str, int, float))}
        kept = {k: v for k, v in items.items() if v is not None or value[k] is None}
        return Counter(kept) if isinstance(value, Counter) else kept
    if isinstance(value, (list, tuple)):
        values = [_plain(v, f"{where}[{i}]") for i, v in enumerate(value)]
        return tuple(values) if isinstance(value, tuple) else values
    if isinstance(value, (set, frozenset)):
        return {v for v in value if isinstance(v, (str, int, float))}
    if isinstance(value, torch.Tensor):
        return gathered(value.detach())
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biuf":
        return np.array(value) if value.ndim else value.item()
    if value is not None and type(value) not in (bool, int, float, str, bytes, torch.dtype, torch.device):
        _log.warning("%s is a %s and is not saved: only plain values are", where, type(value).__name__)
        return None
    return value
