"""The models on this machine: fetched once, converted to safetensors with their config inside."""

from __future__ import annotations

import json
import os
from pathlib import Path

from detectron2.config import CfgNode, get_cfg
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from detectron2.model_zoo import get_config_file as detectron2_config_file

from .. import config
from ..atomic import write_json
from ..checkpoint import CheckpointError, CheckpointInfo, convert_published, read_weights, save_safetensors
from .catalog import Entry, ZooError, catalog
from .download import Progress, check_hash, download, file_hash

__all__ = ["cache_folder", "class_names", "get_model", "installed", "model_config", "resolve"]


def cache_folder() -> Path:
    """Return the folder of fetched files: ``$SOR_PPA_CACHE``, else ``sor_ppa`` in the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sor_ppa"
    return Path(os.environ.get("SOR_PPA_CACHE") or default)


def installed(name: str) -> Path | None:
    """Return the file of a fetched model; None where it was not fetched."""
    path = cache_folder() / "models" / f"{name}.safetensors"
    return path if path.is_file() else None


def resolve(name: str) -> Path:
    """Return the file of a model by its name in the catalog.

    Raises:
        ZooError: there is no such name, or the model was not fetched.
    """
    _entry(name)
    path = installed(name)
    if path is None:
        raise ZooError(f"{name}: expected on this machine, found none; run: sor-ppa models get {name}")
    return path


def get_model(
    name: str,
    *,
    file: str | os.PathLike[str] | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Fetch a published checkpoint, check it, and keep it as safetensors with its config and class names.

    Where the authors publish no hash, the SHA-256 of the first download is recorded. A later download that
    differs from it is refused.

    Args:
        name: in the catalog.
        file: a checkpoint downloaded by hand, instead of downloading.
        force: fetch again, and accept a file that differs from the recorded hash.
        progress: see :func:`download`.

    Returns:
        The safetensors file.

    Raises:
        ZooError: an unknown name, or a file that cannot be fetched or is not the expected one.
    """
    entry = _entry(name)
    target = cache_folder() / "models" / f"{name}.safetensors"
    if target.is_file() and not force and file is None:
        return target
    if file is None and entry.url is None:
        raise ZooError(
            f"{name}: its authors give no direct address; download it from {entry.page}, "
            f"then run: sor-ppa models get {name} --file FILE"
        )
    source = Path(file) if file is not None else target.with_name(f"{name}.download")
    if file is None:
        download(str(entry.url), source, progress=progress)
    elif not source.is_file():
        raise ZooError(f"{source}: expected a checkpoint file, found none")
    try:
        _check_hashes(entry, source, force)
        _save_converted(entry, source, target)
    finally:
        if file is None:
            source.unlink(missing_ok=True)
    return target


def model_config(entry: Entry) -> CfgNode:
    """Return the configuration of an entry, without weights."""
    cfg = get_cfg()
    config.add_sor_config(cfg)
    kind, _, name = entry.config.rpartition(":")
    cfg.merge_from_file(detectron2_config_file(name) if kind else config.get_config_file(name))
    if kind:
        cfg.MODEL.SOR.NAME = ""
    cfg.merge_from_list(list(entry.options))
    cfg.MODEL.WEIGHTS = ""
    return cfg


def class_names(entry: Entry) -> tuple[str, ...]:
    """Return the names of an entry's classes, in the order of its class indices."""
    if entry.classes == "coco":
        return tuple(category["name"] for category in COCO_CATEGORIES if category["isthing"])
    return tuple(entry.classes)


def _entry(name: str) -> Entry:
    if name not in catalog():
        raise ZooError(f"{name}: expected one of {', '.join(catalog())}")
    return catalog()[name]


def _check_hashes(entry: Entry, source: Path, force: bool) -> None:
    if entry.hash:
        check_hash(source, entry.hash)
    seen_file = cache_folder() / "hashes.json"
    seen = json.loads(seen_file.read_text()) if seen_file.is_file() else {}
    if entry.name in seen and not force:
        check_hash(source, seen[entry.name])
    seen[entry.name] = f"sha256:{file_hash(source)}"
    seen_file.parent.mkdir(parents=True, exist_ok=True)
    write_json(seen_file, seen, indent=1)


def _save_converted(entry: Entry, source: Path, target: Path) -> None:
    try:
        state = read_weights(source)
        if entry.system:
            state = convert_published(state, system=entry.system)
        info = CheckpointInfo(config=model_config(entry).dump(), class_names=class_names(entry))
        target.parent.mkdir(parents=True, exist_ok=True)
        save_safetensors(target, state, info)
    except CheckpointError as error:
        raise ZooError(f"{entry.name}: {error}") from error
