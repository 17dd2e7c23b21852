"""Loading weight files into a model, and saving training states."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import detectron2.utils.comm as comm
import torch
from detectron2.checkpoint import DetectionCheckpointer
from torch import nn

from .errors import CheckpointError, shown
from .match import CLASS_LAYERS, Fit, fit_to_model
from .plain import plain_state
from .read import Checkpoint, read_checkpoint
from .safetensors_file import write_safetensors

__all__ = ["SORCheckpointer"]

_log = logging.getLogger(__name__)
T = TypeVar("T")
_HEURISTICS = "matching_heuristics"
_LONGEST_TAG = 4096


class SORCheckpointer(DetectionCheckpointer):
    """detectron2's checkpointer with safe reading, published names and a verdict before any training.

    ``load`` takes the published SOR and CenterMask2 checkpoints, detectron2's model zoo, bare backbones of
    torchvision and timm, and files of our own; see ``docs/checkpoints.md``.

    Attributes:
        fit: what the last ``load`` put where; None before.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        save_to_disk: bool | None = None,
        system: str | None = None,
        class_layers: re.Pattern[str] = CLASS_LAYERS,
        allow_non_finite: bool = False,
        save_safetensors: bool = False,
        **checkpointables: Any,
    ) -> None:
        """Set up; nothing is read yet.

        Args:
            model: the model, or the same in DistributedDataParallel.
            save_dir: where ``save`` writes.
            save_to_disk: default: only on the main process.
            system: whose published names files may have (see ``convert_published``); default: the model's
                ``checkpoint_system`` attribute, else ``sor``.
            class_layers: parameters whose first dimension, the number of classes, may differ from the file's.
            allow_non_finite: accept NaN and infinite parameters.
            save_safetensors: write the model a second time as ``<name>.safetensors``.
            checkpointables: objects with ``state_dict`` and ``load_state_dict`` to save and resume.
        """
        super().__init__(model, save_dir, save_to_disk=save_to_disk, **checkpointables)
        self.system = str(system or getattr(self.model, "checkpoint_system", "sor"))
        self.class_layers = class_layers
        self.allow_non_finite = allow_non_finite
        self.save_safetensors = save_safetensors
        self.fit: Fit | None = None

    def load(
        self, path: str, checkpointables: list[str] | None = None, *, complete: bool = False
    ) -> dict[str, Any]:
        """Load a file into the model and, if it is a training state, into the checkpointables.

        Either every process loads, or every process raises the same error.

        Args:
            path: a local file, a URL or a ``detectron2://`` path; empty: nothing is loaded.
            checkpointables: which of them to load; default: all that the file has.
            complete: refuse a file that leaves a parameter of the model at its initialisation.

        Returns:
            What the file holds beside the model and the loaded checkpointables.

        Raises:
            CheckpointError: in one line, if the file is unsafe, damaged, or does not belong to the model.
        """
        if not path:
            _log.info("No weights given: the model starts from its initialisation")
            return {}
        checkpoint, fit = _agree(lambda: self._read_and_fit(path, complete))
        self.model.load_state_dict(dict(fit.loaded), strict=False)
        self.fit = fit.without_numbers()
        self._log_fit(path, checkpoint, fit)
        rest = dict(checkpoint.extras)
        for key in self.checkpointables if checkpointables is None else checkpointables:
            if key in rest:
                _log.info("Loading %s from %s", key, path)
                self._load_state(key, rest.pop(key), path)
        return rest

    def resume_or_load(self, path: str, *, resume: bool = True, complete: bool = False) -> dict[str, Any]:
        """Resume from the last checkpoint of ``save_dir`` if there is one, else load the weights at ``path``.

        Args:
            path: weights to start from, without optimizer and iteration.
            resume: look for a last checkpoint at all.
            complete: as for ``load``.

        Returns:
            As ``load``.

        Raises:
            CheckpointError: as ``load``; a resumed file must hold every parameter.
        """
        if not (resume and self.has_checkpoint()):
            return self.load(path, checkpointables=[], complete=complete)
        last = _agree(self.get_checkpoint_file)
        rest = self.load(last, checkpointables=[], complete=True)
        if lacking := [key for key in self.checkpointables if key not in rest]:
            raise CheckpointError(
                f"holds no {shown(lacking[0])}, expected a training state (to start a training with these "
                "weights, give them as MODEL.WEIGHTS without --resume)",
                last,
            )
        for key in self.checkpointables:
            _log.info("Loading %s from %s", key, last)
            self._load_state(key, rest.pop(key), last)
        return rest

    def get_checkpoint_file(self) -> str:
        """The file that ``last_checkpoint`` in ``save_dir`` names.

        Raises:
            CheckpointError: if there is ``last_checkpoint`` but no such file.
        """
        tag = os.path.join(self.save_dir, "last_checkpoint")
        try:
            with self.path_manager.open(tag, "rb") as file:
                name = file.read(_LONGEST_TAG).decode("utf-8", "replace").strip()
        except OSError as error:
            raise CheckpointError(
                f"cannot be read ({error.strerror or error}), expected a file name", tag
            ) from None
        path = os.path.join(self.save_dir, name)
        if not name or "\0" in name or not self.path_manager.isfile(path):
            others = sorted(name for name in self.path_manager.ls(self.save_dir) if name.endswith(".pth"))
            found = f"{shown(name)}, which is not there" if name else "nothing"
            raise CheckpointError(
                f"names {found}, expected one of {', '.join(others[-4:]) or 'no files'}", tag
            )
        return path

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Write ``last_checkpoint``, whole or not at all."""
        if not os.path.isdir(self.save_dir):  # a remote folder
            super().tag_last_checkpoint(last_filename_basename)
            return
        tag = os.path.join(self.save_dir, "last_checkpoint")
        _write_whole(tag, lambda file: file.write(last_filename_basename.encode()))

    def _load_state(self, key: str, state: Any, path: str) -> None:
        try:
            self.checkpointables[key].load_state_dict(state)
        except Exception as error:  # whatever an optimizer or a hook does with a state that is not its own
            raise CheckpointError(
                f"its {key} cannot be resumed ({type(error).__name__}: {error}), expected one of this model",
                path,
            ) from error

    def save(self, name: str, **kwargs: Any) -> None:
        """Save model and checkpointables as ``<name>.pth``, whole or not at all.

        Args:
            name: file name without suffix.
            kwargs: more to save, such as ``iteration``.

        Raises:
            CheckpointError: if the file cannot be written.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        data: dict[str, Any] = {"model": self.model.state_dict()}
        states = {key: item.state_dict() for key, item in self.checkpointables.items()} | kwargs
        data |= {key: plain_state(state, key) for key, state in states.items()}
        target = os.path.join(self.save_dir, f"{name}.pth")
        _log.info("Saving checkpoint to %s", target)
        self._write(data, target)
        if self.save_safetensors:
            write_safetensors(data["model"], os.path.join(self.save_dir, f"{name}.safetensors"))
        self.tag_last_checkpoint(f"{name}.pth")

    def _write(self, data: dict[str, Any], target: str) -> None:
        if not os.path.isdir(self.save_dir):  # a remote folder
            with self.path_manager.open(target, "wb") as file:
                torch.save(data, file)
            return
        _write_whole(target, lambda file: torch.save(data, file))

    def _load_file(self, filename: str) -> dict[str, Any]:
        """detectron2's hook, for tools that call it: the same safe reading."""
        checkpoint = read_checkpoint(filename, allow_non_finite=self.allow_non_finite)
        return {**checkpoint.extras, "model": checkpoint.tensors}

    def _read_and_fit(self, path: str, complete: bool) -> tuple[Checkpoint, Fit]:
        path, heuristics = _split_query(path)
        local = self._local(path)
        checkpoint = read_checkpoint(local, allow_non_finite=self.allow_non_finite)
        if heuristics:
            checkpoint.extras[_HEURISTICS] = True
        try:
            fit = fit_to_model(checkpoint, self.model.state_dict(), self.system, self.class_layers)
        except CheckpointError as error:
            raise error.at(path) from None
        if complete and fit.incomplete:
            names = ", ".join(repr(name) for name in fit.incomplete[:2])
            raise CheckpointError(
                f"lacks {len(fit.incomplete)} parameters of this model ({names} ...), expected all of them",
                path,
            )
        if complete and fit.surplus:
            raise CheckpointError(fit.surplus_line(), path)
        return checkpoint, fit

    def _local(self, path: str) -> str:
        if os.path.exists(path) or "://" not in path:
            return path
        try:
            return self.path_manager.get_local_path(path)
        except Exception as error:  # whatever the handler of this kind of address raises
            raise CheckpointError(f"cannot be fetched ({type(error).__name__}: {error})", path) from None

    def _log_fit(self, path: str, checkpoint: Checkpoint, fit: Fit) -> None:
        _log.info(
            "Weights from %s (%s, %s): %d tensors loaded\n%s",
            *(path, checkpoint.format.value, fit.origin, len(fit.loaded), fit.table()),
        )
        if fit.resized:
            _log.warning("%s", fit.resized_line())
        if fit.surplus:
            _log.warning("%s: %s", path, fit.surplus_line())
        if "ResNet" in fit.origin and self._strides_first():
            _log.warning(
                "These ResNet weights need MODEL.RESNETS.STRIDE_IN_1X1 False (and RGB input), found True: "
                "features will be off"
            )

    def _strides_first(self) -> bool:
        """Whether bottlenecks stride in their 1x1 convolution, as Caffe2's do and torchvision's do not."""
        convolutions = (m for name, m in self.model.named_modules() if name.endswith("res3.0.conv1"))
        return any(tuple(getattr(m, "stride", ())) == (2, 2) for m in convolutions)


def _agree(action: Callable[[], T]) -> T:
    """Do something on every process; raise on all of them if one cannot."""
    result: list[T] = []
    error = ""
    try:
        result.append(action())
    except CheckpointError as caught:
        error = str(caught)
    errors = [e for e in comm.all_gather(error) if e]
    if not result or errors:
        raise CheckpointError(error or errors[0])
    return result[0]


def _write_whole(target: str, write: Callable[[Any], object]) -> None:
    """Write a file that is the old one or the new one at every moment, also after a power cut."""
    temporary = Path(f"{target}.part")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"cannot be written ({error})", target) from None
    finally:
        temporary.unlink(missing_ok=True)


def _split_query(path: str) -> tuple[str, bool]:
    """Take detectron2's ``?matching_heuristics=True`` off a path; other queries belong to the address."""
    if _HEURISTICS not in path:
        return path, False
    parts = urlsplit(path)
    query = parse_qsl(parts.query)
    rest = [(key, value) for key, value in query if key != _HEURISTICS]
    return urlunsplit(parts._replace(query=urlencode(rest))), (_HEURISTICS, "True") in query
