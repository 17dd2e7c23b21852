"""Fitting the tensors of a file to the parameters of a model, by name and shape."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch

from .backbones import foreign_backbones, from_caffe2
from .convert import convert_published
from .errors import CheckpointError, shown
from .formats import Format
from .read import Checkpoint

__all__ = ["CLASS_LAYERS", "Fit", "count_parts", "fit_to_model", "renamings"]

Shape = tuple[int, ...]

# Layers whose first dimension is the number of classes; they may differ between a file and a model.
CLASS_LAYERS = re.compile(
    r"(?:^|\.)(?:fcos_head\.cls_logits|mask_head\.predictor|maskiou_head\.maskiou"
    r"|box_predictor\.cls_score|box_predictor\.bbox_pred|class_embed(?:\.\d+)?)\.(?:weight|bias)$"
)
# Constants that the config sets, and ones that older detectron2 stored.
_CONSTANTS = re.compile(r"^pixel_(?:mean|std)$|anchor_generator\.cell_anchors")
# Statistics that files of folded or frozen norms lack or have beside what the model needs.
_STATISTICS = re.compile(r"\.(?:running_mean|running_var|num_batches_tracked)$")
# A number in a name: one of a row of layers.
_NUMBER = re.compile(r"(?<=\.)\d+\.")
# Offsets of deformable convolutions, without which those are others.
_OFFSETS = re.compile(r"\.conv\d?_offset\.")
# Attributes under which training programs keep the whole network.
_HOLDERS = ("model.", "net.", "network.", "detector.", "ema_model.")
# A file of which less than this part fits, seen from the smaller side, belongs to another model.
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
        surplus: those of ``unused`` that lie amidst loaded layers: the file is of another network, of which
            the model would compute only a part.
    """

    origin: str
    loaded: dict[str, torch.Tensor]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    resized: dict[str, tuple[Shape, Shape]]
    surplus: tuple[str, ...] = ()

    @property
    def incomplete(self) -> tuple[str, ...]:
        """Parameters that stay at initialisation although they matter: all but statistics of folded norms."""
        return (*(n for n in self.missing if not _is_folded(n, self.loaded)), *self.resized)

    def resized_line(self) -> str:
        """One line on the class layers left out; empty if there are none."""
        if not self.resized:
            return ""
        layers = ", ".join(self._resized_layers())
        return f"Class layers of another size left out, they stay at initialisation: {layers}"

    def surplus_line(self) -> str:
        """One line on the layers that the model lacks; empty if there are none."""
        if not self.surplus:
            return ""
        return (
            f"of a network with more layers: {len(self.surplus)} parameters amidst others, such as "
            f"{shown(self.surplus[0])}, have no place in the model, whose answers will be off"
        )

    def without_numbers(self) -> Fit:
        """The same without the tensors, which would keep the file's content in memory."""
        return replace(self, loaded={name: t.to("meta") for name, t in self.loaded.items()})

    def _resized_layers(self) -> dict[str, list[tuple[Shape, Shape]]]:
        layers: dict[str, list[tuple[Shape, Shape]]] = {}
        for name, shapes in self.resized.items():
            layers.setdefault(name.rpartition(".")[0], []).append(shapes)
        return layers

    def table(self) -> str:
        """What was loaded, what was not, and why; a line for each part of the model."""
        rows = [(part, n, "loaded") for part, n in count_parts(self.loaded)]
        rows += [
            (part, n, _MISSING) for part, n in count_parts(n for n in self.missing if n in self.incomplete)
        ]
        rows += [
            (part, n, _FOLDED) for part, n in count_parts(n for n in self.missing if n not in self.incomplete)
        ]
        for layer, shapes in self._resized_layers().items():
            found, wanted = (shape[0] for shape in shapes[0])
            rows.append((layer, len(shapes), f"left out: {found} rows in the file, {wanted} in the model"))
        rows += [
            (part, n, _UNUSED) for part, n in count_parts(n for n in self.unused if not _STATISTICS.search(n))
        ]
        if statistics := sum(_STATISTICS.search(n) is not None for n in self.unused):
            rows.append(("statistics of norms", statistics, "in the file, not needed"))
        width = max([len("part"), *(len(part) for part, _, _ in rows)])
        lines = [f"{'part':<{width}}  tensors  state"]
        lines += [f"{part:<{width}}  {count:>7}  {state}" for part, count, state in rows]
        return "\n".join(lines)


_MISSING = "not in the file, stays at initialisation"
_FOLDED = "not in the file, folded into weight and bias"
_UNUSED = "in the file, not used by the model"


def renamings(checkpoint: Checkpoint, system: str = "sor") -> dict[str, dict[str, torch.Tensor]]:
    """What the names of a file may be, each with the tensors under our names.

    Args:
        checkpoint: the file.
        system: see ``convert_published``.

    Returns:
        First the published names of ``system``; then, if their names are recognised, a foreign backbone and
        Caffe2 blobs (which then are what the file is).

    Raises:
        CheckpointError: if two names of the file become one.
    """
    tensors = checkpoint.tensors
    candidates = {"published or own names": convert_published(tensors, system), **foreign_backbones(tensors)}
    if checkpoint.format is Format.PICKLE and any(name.endswith("_w") for name in tensors):
        candidates["Caffe2 blobs"] = from_caffe2(tensors)
    return candidates


def _best_fit(checkpoint: Checkpoint, model: Mapping[str, torch.Tensor], system: str) -> Fit:
    """The renaming that fits most tensors; names without the prefix of the model (bare backbones) get it."""
    by_suffix = checkpoint.extras.get("matching_heuristics") is True or checkpoint.location == "model_state"
    fits = []
    for origin, renamed in renamings(checkpoint, system).items():
        fits.append(_fit(origin, renamed, _with_prefix(renamed, model), model))
        if by_suffix or origin == "Caffe2 blobs":
            fits.append(_fit(origin, renamed, _by_suffix(renamed, model), model))
    return max(fits, key=lambda fit: len(fit.loaded) + len(fit.resized))


def fit_to_model(
    checkpoint: Checkpoint,
    model: Mapping[str, torch.Tensor],
    system: str = "sor",
    class_layers: re.Pattern[str] = CLASS_LAYERS,
) -> Fit:
    """Fit a file to a model and refuse one that does not belong to it.

    Args:
        checkpoint: the file.
        model: the model's state dict.
        system: see ``convert_published``.
        class_layers: names whose first dimension may differ; those are left out.

    Returns:
        What goes where.

    Raises:
        CheckpointError: if another layer's shape differs, or less than half of the file and of the model fit.
    """
    checkpoint = replace(checkpoint, tensors=_unwrapped(checkpoint.tensors, model))
    fit = _best_fit(checkpoint, model, system)
    clashes = {n: s for n, s in fit.resized.items() if not _is_class_layer(n, *s, class_layers)}
    found = len(fit.loaded) + len(fit.resized)
    smaller = min(len(checkpoint.tensors), len(model))
    if found < _RELATED * smaller or not fit.loaded:
        sample = ", ".join(shown(n, 60) for n in (fit.unused or tuple(checkpoint.tensors))[:2])
        wanted = ", ".join(repr(n) for n in (fit.missing or tuple(model))[:2])
        raise CheckpointError(
            f"other weights: {found} of {len(checkpoint.tensors)} tensors fit one of {len(model)}, "
            f"found {sample} ..., expected {wanted} ..."
        )
    if clashes:
        name, (shape, wanted_shape) = next(iter(clashes.items()))
        more = f" and {len(clashes) - 1} more" if len(clashes) > 1 else ""
        raise CheckpointError(
            f"parameter {shown(name)}{more}: shape {shape} in the file, expected {wanted_shape}"
        )
    for name, tensor in fit.loaded.items():
        _check_type(name, tensor, model[name].dtype)
    return fit


def _unwrapped(
    tensors: Mapping[str, torch.Tensor], model: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Take off the attribute under which a training program keeps the network (``model.`` of Lightning)."""
    result = dict(tensors)
    for prefix in _HOLDERS:
        if all(n.startswith(prefix) for n in result) and not any(n.startswith(prefix) for n in model):
            result = {name.removeprefix(prefix): tensor for name, tensor in result.items()}
    return result


def _check_type(name: str, tensor: torch.Tensor, wanted: torch.dtype) -> None:
    """Raise for numbers that would become others in the model's type."""
    if not wanted.is_floating_point:
        return
    if tensor.is_complex() or (tensor.ndim and not tensor.is_floating_point()):
        raise CheckpointError(f"parameter {shown(name)}: {tensor.dtype} in the file, expected {wanted}")
    if tensor.element_size() > wanted.itemsize:
        lost = torch.isfinite(tensor) & ~torch.isfinite(tensor.to(wanted))
        if lost.any():
            value = tensor[lost][0].item()
            raise CheckpointError(
                f"parameter {shown(name)}: {value:.3g} in the file, more than {wanted} holds"
            )


def _fit(
    origin: str,
    before: Mapping[str, torch.Tensor],
    renamed: Mapping[str, torch.Tensor],
    model: Mapping[str, torch.Tensor],
) -> Fit:
    if len(before) != len(renamed):
        raise CheckpointError("two parameters of the file have one name in the model, expected one each")
    loaded: dict[str, torch.Tensor] = {}
    resized: dict[str, tuple[Shape, Shape]] = {}
    for name, tensor in renamed.items():
        if name not in model or _CONSTANTS.search(name):
            continue
        if tensor.shape == model[name].shape:
            loaded[name] = tensor
        else:
            resized[name] = (tuple(tensor.shape), tuple(model[name].shape))
    names = list(zip(before, renamed, strict=True))
    unused = tuple(n for n in renamed if n not in model and not _CONSTANTS.search(n))
    amidst = _amidst(
        [old for old, _ in names], {old for old, new in names if new in loaded or new in resized}
    )
    return Fit(
        origin,
        loaded,
        tuple(n for n in model if n not in loaded and n not in resized and not _CONSTANTS.search(n)),
        unused,
        resized,
        tuple(n for old, n in names if old in amidst and n in unused),
    )


def _amidst(names: list[str], used: set[str]) -> set[str]:
    """Learnt parameters without a use that belong to a row of layers of which some are used.

    A row are the numbered parts of one module: the blocks of a stage, the layers of an encoder. What
    comes behind everything that is used, such as the layers before a classifier, changes nothing.

    Args:
        names: of one file, in its order.
        used: those of them that a model takes.
    """
    last: dict[str, int] = {}
    for i, name in enumerate(names):
        if name in used:
            last.update((prefix, i) for prefix, _ in _splits(name))
    rows = {name[: m.start()] for name in used for m in _NUMBER.finditer(name)}
    found = set()
    for i, name in enumerate(names):
        if name in used or _STATISTICS.search(name):
            continue
        for m in _NUMBER.finditer(name):
            row = name[: m.start()]
            around = ".".join(row.split(".")[:-3])
            behind = last.get(around + "." if around else "", -1) > i
            if behind and row in rows and name[: m.end()] not in last:
                found.add(name)
        if _OFFSETS.search(name) and last.get("", -1) > i:
            found.add(name)
    return found


def _with_prefix(renamed: Mapping[str, torch.Tensor], model: Mapping[str, object]) -> dict[str, torch.Tensor]:
    """Put before all names the prefix that most of them lack: ``backbone.bottom_up.`` for a bare backbone."""
    votes = Counter(prefix for name in model for prefix, rest in _splits(name) if rest in renamed)
    prefix = max(votes, key=lambda p: (votes[p], -len(p)), default="")
    return {prefix + name if prefix + name in model else name: t for name, t in renamed.items()}


def _by_suffix(renamed: Mapping[str, torch.Tensor], model: Mapping[str, object]) -> dict[str, torch.Tensor]:
    """detectron2's ``matching_heuristics``: a parameter takes the longest name of the file it ends with."""
    target: dict[str, str] = {}
    for name in model:
        source = next((rest for _, rest in _splits(name) if rest in renamed), None)
        if source is not None and target.setdefault(source, name) != name:
            raise CheckpointError(
                f"{shown(source)} fits both {target[source]!r} and {name!r}, expected one parameter"
            )
    return {target.get(name, name): tensor for name, tensor in renamed.items()}


def _splits(name: str) -> list[tuple[str, str]]:
    """``a.b.c`` -> ("", "a.b.c"), ("a.", "b.c"), ("a.b.", "c")."""
    starts = [0, *(m.end() for m in re.finditer(r"\.", name))]
    return [(name[:start], name[start:]) for start in starts]


def _is_class_layer(name: str, found: Shape, wanted: Shape, class_layers: re.Pattern[str]) -> bool:
    return class_layers.search(name) is not None and len(found) == len(wanted) > 0 and found[1:] == wanted[1:]


def _is_folded(name: str, loaded: Mapping[str, object]) -> bool:
    """A norm's statistic whose weight was loaded."""
    return _STATISTICS.search(name) is not None and name.rpartition(".")[0] + ".weight" in loaded


def count_parts(names: Iterable[str]) -> list[tuple[str, int]]:
    """Count parameters by the first two components of their names, numbers at the end folded.

    Args:
        names: parameter names.

    Returns:
        (part, such as ``backbone.fpn_lateral*``; number of parameters), in the order of the names.
    """
    counts = Counter(re.sub(r"\d+$", "*", ".".join(name.split(".")[:-1][:2]) or name) for name in names)
    return list(counts.items())
