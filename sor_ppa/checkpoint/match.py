"""Fitting the tensors of a file to the parameters of a model, by name and shape."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch

from .backbones import foreign_backbones, from_caffe2
from .convert import convert_published
from .errors import CheckpointError, quoted
from .read import Checkpoint
from .rename import without_prefixes

__all__ = ["CLASS_LAYERS", "Fit", "count_table", "fit_to_model", "part_of", "renamings"]

Shape = tuple[int, ...]
Tensors = Mapping[str, torch.Tensor]

# Layers whose first dimension is the number of classes; they may differ between a file and a model.
CLASS_LAYERS = re.compile(
    r"(?:^|\.)(?:fcos_head\.cls_logits|mask_head\.predictor|maskiou_head\.maskiou"
    r"|box_predictor\.cls_score|box_predictor\.bbox_pred|class_embed(?:\.\d+)?)\.(?:weight|bias)$"
)
# Constants that the config sets, and ones that older detectron2 stored.
_CONSTANTS = re.compile(r"^pixel_(?:mean|std)$|^criterion\.empty_weight$|anchor_generator\.cell_anchors")
# Statistics of norms: files of folded or frozen norms lack them, or have some that the model does not need.
_STATISTICS = re.compile(r"\.(?:running_mean|running_var|num_batches_tracked)$")
# The number of a layer among its siblings, as in ``stage2.blocks.3.``
_NUMBER = re.compile(r"(?<=\.)\d+\.")
# Offsets of deformable convolutions.
_OFFSETS = re.compile(r"\.conv\d?_offset\.")
# Attributes under which training programs keep the whole network.
_HOLDERS = ("model.", "net.", "network.", "detector.", "ema_model.")
# A file of which less than this part fits, or of the model where that is smaller, belongs to another model.
_RELATED = 0.5


@dataclass(frozen=True)
class Fit:
    """Which tensors of a file go into a model.

    Attributes:
        origin: what the names of the file were taken for.
        loaded: name in the model -> tensor.
        missing: parameters of the model that the file lacks.
        unused: names in the file that the model lacks.
        resized: class layers left out: name -> (shape in the file, shape in the model).
        surplus: those of ``unused`` that stand between loaded layers: the file is of a larger network.
    """

    origin: str
    loaded: dict[str, torch.Tensor]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    resized: dict[str, tuple[Shape, Shape]]
    surplus: tuple[str, ...] = ()

    @property
    def incomplete(self) -> tuple[str, ...]:
        """Parameters that stay at initialization, without the statistics of folded norms."""
        return (*(name for name in self.missing if not self._is_folded(name)), *self.resized)

    def _is_folded(self, name: str) -> bool:
        return _is_statistic(name) and f"{name.rpartition('.')[0]}.weight" in self.loaded

    def surplus_line(self) -> str:
        """Return one line on the layers that the model lacks, where there are any."""
        return (
            f"of a network with more layers: {len(self.surplus)} parameters between loaded ones, such as "
            f"{quoted(self.surplus[0])}, have no place in the model, whose results will be wrong"
        )

    def table(self) -> str:
        """Return what was loaded, what was not, and why; a line for each part of the model."""
        rows = [(part_of(name), "loaded") for name in self.loaded]
        for name in self.missing:
            folded = self._is_folded(name)
            fate = "folded into weight and bias" if folded else "stays at initialization"
            rows.append((part_of(name), f"not in the file, {fate}"))
        for name, (shape, expected) in self.resized.items():
            state = f"left out: {shape[0]} rows in the file, {expected[0]} in the model"
            rows.append((name.rpartition(".")[0], state))
        rows += [
            (part_of(n), "in the file, not used by the model") for n in self.unused if not _is_statistic(n)
        ]
        rows += [("statistics of norms", "in the file, not needed") for n in self.unused if _is_statistic(n)]
        return count_table(rows, "state")


def part_of(name: str) -> str:
    """Return the first two components of a parameter's name, such as ``backbone.fpn_lateral*``."""
    return re.sub(r"\d+$", "*", ".".join(name.split(".")[:-1][:2]) or name)


def count_table(rows: Iterable[tuple[str, str]], head: str = "") -> str:
    """Return a table with a line for each different row (part, state) and how often it occurs."""
    counts = [("part", "tensors", head), *((part, n, state) for (part, state), n in Counter(rows).items())]
    width = max(len(part) for part, _, _ in counts)
    return "\n".join(f"{part:<{width}}  {count:>7}  {state}".rstrip() for part, count, state in counts)


def renamings(checkpoint: Checkpoint, system: str = "sor") -> dict[str, dict[str, torch.Tensor]]:
    """Rename the tensors of a file in every way that its names allow.

    Returns:
        What the names are taken for -> our names -> tensors. First the published names of ``system``; then,
        if recognized, a foreign backbone and Caffe2 blobs. The last one is the most specific.

    Raises:
        CheckpointError: if two names of the file become one.
    """
    tensors = checkpoint.tensors
    found = {"published or own names": convert_published(tensors, system), **foreign_backbones(tensors)}
    if checkpoint.format == "pickle" and any(name.endswith("_w") for name in tensors):
        found["Caffe2 blobs"] = from_caffe2(tensors)
    return found


def fit_to_model(checkpoint: Checkpoint, model: Tensors, system: str = "sor") -> Fit:
    """Fit a file to a model and refuse one that does not belong to it.

    Args:
        checkpoint: the file.
        model: the model's state dict.
        system: see ``convert_published``.

    Returns:
        What goes where.

    Raises:
        CheckpointError: if another layer's shape differs, or less than half of the file and of the model fit.
    """
    holders = [prefix for prefix in _HOLDERS if not any(name.startswith(prefix) for name in model)]
    checkpoint = replace(checkpoint, tensors=without_prefixes(checkpoint.tensors, holders))
    by_suffix = checkpoint.extras.get("matching_heuristics") is True or checkpoint.location == "model_state"
    fits = []
    for origin, renamed in renamings(checkpoint, system).items():
        fits.append(_fit(origin, renamed, _with_prefix(renamed, model), model))
        if by_suffix or origin == "Caffe2 blobs":
            fits.append(_fit(origin, renamed, _by_suffix(renamed, model), model))
    fit = max(fits, key=lambda fit: len(fit.loaded) + len(fit.resized))
    found = len(fit.loaded) + len(fit.resized)
    if not fit.loaded or found < _RELATED * min(len(checkpoint.tensors), len(model)):
        sample = ", ".join(quoted(name, 60) for name in (fit.unused or tuple(checkpoint.tensors))[:2])
        wanted = ", ".join(repr(name) for name in (fit.missing or tuple(model))[:2])
        raise CheckpointError(
            f"other weights: {found} of {len(checkpoint.tensors)} tensors fit one of {len(model)}, "
            f"found {sample} ..., expected {wanted} ..."
        )
    for name, (shape, expected) in fit.resized.items():
        if not CLASS_LAYERS.search(name) or shape[1:] != expected[1:] or not 0 < len(shape) == len(expected):
            raise CheckpointError(f"parameter {quoted(name)}: shape {shape} in the file, expected {expected}")
    for name, tensor in fit.loaded.items():
        _check_type(name, tensor, model[name].dtype)
    return fit


def _check_type(name: str, tensor: torch.Tensor, wanted: torch.dtype) -> None:
    """Refuse numbers whose values the model's type cannot hold."""
    if not wanted.is_floating_point:
        return
    if tensor.is_complex() or (tensor.ndim and not tensor.is_floating_point()):
        raise CheckpointError(f"parameter {quoted(name)}: {tensor.dtype} in the file, expected {wanted}")
    if tensor.element_size() <= wanted.itemsize:
        return
    lost = tensor[torch.isfinite(tensor) & ~torch.isfinite(tensor.to(wanted))]
    if len(lost):
        raise CheckpointError(
            f"parameter {quoted(name)}: {lost[0]:.3g} in the file, more than {wanted} holds"
        )


def _fit(origin: str, renamed: Tensors, placed: dict[str, str], model: Tensors) -> Fit:
    """Compare tensors with a model; ``placed`` maps their names to the model's."""
    if len(set(placed.values())) != len(placed):
        raise CheckpointError("two parameters of the file have one name in the model, expected one each")
    tensors = {new: renamed[old] for old, new in placed.items() if not _CONSTANTS.search(new)}
    common = [name for name in tensors if name in model]
    loaded = {name: tensors[name] for name in common if tensors[name].shape == model[name].shape}
    used = {old for old, new in placed.items() if new in tensors and new in model}
    surplus = _surplus(list(placed), used)
    return Fit(
        origin,
        loaded,
        missing=tuple(n for n in model if n not in tensors and not _CONSTANTS.search(n)),
        unused=tuple(n for n in tensors if n not in model),
        resized={n: (tuple(tensors[n].shape), tuple(model[n].shape)) for n in common if n not in loaded},
        surplus=tuple(placed[n] for n in surplus if placed[n] in tensors),
    )


def _surplus(names: list[str], used: set[str]) -> list[str]:
    """Return learned parameters without a use whose numbered siblings are used, such as blocks of a stage.

    Layers behind everything that is used, such as those before a classifier, do not count.

    Args:
        names: of one file, in its order.
        used: those of them that a model takes.
    """
    last = {prefix: i for i, name in enumerate(names) if name in used for prefix, _ in _splits(name)}

    def is_between(i: int, name: str) -> bool:
        if _OFFSETS.search(name) and last.get("", -1) > i:
            return True
        for number in _NUMBER.finditer(name):
            row, layer = name[: number.start()], name[: number.end()]
            around = "".join(f"{part}." for part in row.split(".")[:-3])
            if row in last and layer not in last and last.get(around, -1) > i:
                return True
        return False

    return [n for i, n in enumerate(names) if n not in used and not _is_statistic(n) and is_between(i, n)]


def _is_statistic(name: str) -> bool:
    return _STATISTICS.search(name) is not None


def _with_prefix(renamed: Tensors, model: Tensors) -> dict[str, str]:
    """Place names behind the prefix that most of them lack: ``backbone.bottom_up.`` for a bare backbone."""
    votes = Counter(prefix for name in model for prefix, rest in _splits(name) if rest in renamed)
    prefix = max(votes, key=lambda p: (votes[p], -len(p)), default="")
    return {name: prefix + name if prefix + name in model else name for name in renamed}


def _by_suffix(renamed: Tensors, model: Tensors) -> dict[str, str]:
    """Place names as detectron2's ``matching_heuristics``: a parameter takes the longest name it has."""
    placed: dict[str, str] = {}
    for name in model:
        source = next((rest for _, rest in _splits(name) if rest in renamed), None)
        if source is not None and placed.setdefault(source, name) != name:
            raise CheckpointError(
                f"{quoted(source)} fits both {placed[source]!r} and {name!r}, expected one parameter"
            )
    return {name: placed.get(name, name) for name in renamed}


def _splits(name: str) -> list[tuple[str, str]]:
    """Split at each dot: ``a.b.c`` -> ("", "a.b.c"), ("a.", "b.c"), ("a.b.", "c")."""
    starts = [0, *(m.end() for m in re.finditer(r"\.", name))]
    return [(name[:start], name[start:]) for start in starts]
