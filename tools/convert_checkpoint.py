#!/usr/bin/env python
"""Convert a published weight file to safetensors with the names of this project.

Nothing in the file can run code. Without a config every tensor is written under its name here; with one, only
those that the configured model takes; the table says what is missing, unused or of another size, and the
file carries the config.

Example:
    python tools/convert_checkpoint.py model_final.pth ppa.safetensors --config-file configs/sor/ppa.yaml
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from sor_ppa.checkpoint import (
    SYSTEMS,
    Checkpoint,
    CheckpointError,
    CheckpointInfo,
    fit_to_model,
    read_checkpoint,
    save_safetensors,
)
from sor_ppa.checkpoint.match import count_table, part_of, renamings

SUFFIX = ".safetensors"


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("input", metavar="IN", help="weight file of any format that MODEL.WEIGHTS takes")
    parser.add_argument("output", metavar=f"OUT{SUFFIX}", help="file to write")
    parser.add_argument("--system", choices=list(SYSTEMS), default="sor", help="whose names (default: sor)")
    parser.add_argument("--config-file", help="write only what this config's model takes")
    parser.add_argument("--part", metavar="NAME", help="write only this part, such as backbone.bottom_up")
    parser.add_argument("--allow-non-finite", action="store_true", help="accept NaN and infinite weights")
    parser.add_argument("--opts", nargs="+", default=[], help="KEY VALUE pairs that change the config")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Convert and return the exit status."""
    args = get_parser().parse_args(arguments)
    try:
        report = convert(args)
    except ValueError as error:  # CheckpointError, and mistakes in a config
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(report + "\n")
    return 0


def convert(args: argparse.Namespace) -> str:
    """Read, rename and write; return the table.

    Raises:
        CheckpointError: if the file is refused or belongs to another model than the config's.
    """
    if Path(args.output).suffix != SUFFIX:
        raise CheckpointError(f"found suffix {Path(args.output).suffix!r}, expected {SUFFIX!r}", args.output)
    checkpoint = read_checkpoint(args.input, allow_non_finite=args.allow_non_finite)
    info: CheckpointInfo | None
    if args.config_file:
        tensors, table, origin, info = _for_model(args, checkpoint)
    else:
        info = checkpoint.info
        origin, tensors = list(renamings(checkpoint, args.system).items())[-1]
        renamed = sum(name not in checkpoint.tensors for name in tensors)
        table = f"{_counts(tensors)}\n{renamed} of {len(tensors)} renamed"
    if args.part:
        tensors = _below(tensors, args.part, args.input)
        table = _counts(tensors)
        info = None  # a part is no model of the config
    save_safetensors(args.output, tensors, info)
    head = f"{args.input} ({checkpoint.format}, {origin}) -> {args.output}: {len(tensors)} tensors"
    return f"{head}\n{table}"


def _for_model(
    args: argparse.Namespace, checkpoint: Checkpoint
) -> tuple[dict[str, torch.Tensor], str, str, CheckpointInfo]:
    """Return the tensors that the configured model takes, the table, what the names are, and the config."""
    from sor_ppa.building import build_checked_model
    from sor_ppa.config import load_config

    cfg = load_config(args.config_file, args.opts)
    names = checkpoint.info.class_names if checkpoint.info else ()
    info = CheckpointInfo(cfg.dump(), names)
    cfg.defrost()
    cfg.MODEL.DEVICE = "cpu"
    model = build_checked_model(cfg)
    try:
        fit = fit_to_model(checkpoint, model.state_dict(), args.system)
    except CheckpointError as error:
        raise error.at(args.input) from None
    if fit.surplus:
        raise CheckpointError(fit.surplus_line(), args.input)
    return fit.loaded, fit.table(), fit.origin, info


def _below(tensors: dict[str, torch.Tensor], part: str, path: str) -> dict[str, torch.Tensor]:
    """Return the tensors of one module under the names they have in it."""
    prefix = part.rstrip(".") + "."
    found = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    if not found:
        known = ", ".join(sorted({name.split(".")[0] for name in tensors})[:8])
        raise CheckpointError(f"--part: found nothing below {part!r}, expected a part of {known}", path)
    return found


def _counts(tensors: dict[str, torch.Tensor]) -> str:
    return count_table((part_of(name), "") for name in tensors)


if __name__ == "__main__":
    sys.exit(main())
