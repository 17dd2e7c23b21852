"""``sor-ppa models``: list published models and fetch them."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from ..zoo import catalog, get_model, installed
from ._progress import download_progress

_EPILOG = """\
examples:
  sor-ppa models                                    all models
  sor-ppa models list --task rank
  sor-ppa models get ppa-v39
  sor-ppa models get ppa-v39 --file model.pth       a file that you downloaded in a browser

Figures in the list are the authors', measured with their code. Nothing is downloaded unless you ask for it.
The files are kept in ~/.cache/sor_ppa, or in $SOR_PPA_CACHE.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the sub-command."""
    parser.epilog = _EPILOG
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    listing = actions.add_parser("list", help="list the models (default)")
    listing.add_argument("--task", choices=("rank", "detect", "saliency", "pretrain"))
    listing.add_argument("--json", action="store_true", help="as JSON, with addresses and configs")
    getting = actions.add_parser("get", help="fetch a model")
    getting.add_argument("name")
    getting.add_argument("--file", metavar="FILE", help="a published checkpoint downloaded by hand")
    getting.add_argument(
        "--force", action="store_true", help="fetch again; accept a file other than the first one seen"
    )


def run(options: argparse.Namespace) -> int:
    """Run the sub-command and return its exit status."""
    if options.action == "get":
        with download_progress(options.name) as progress:
            path = get_model(options.name, file=options.file, force=options.force, progress=progress)
        sys.stdout.write(f"{options.name}: {path}\n")
        return 0
    task = getattr(options, "task", None)
    entries = [entry for entry in catalog().values() if task in (None, entry.task)]
    if getattr(options, "json", False):
        rows = [asdict(e) | {"installed": str(installed(e.name) or "") or None} for e in entries]
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
        return 0
    row = "{:30} {:9} {:>8}  {:24} {:10} {}\n"
    sys.stdout.write(row.format("model", "task", "MB", "license", "", "what; what its authors report"))
    sys.stdout.write(
        row.format("contrast", "rank", "0", "Apache-2.0", "here", "training-free, needs no file")
    )
    for entry in entries:
        state = "here" if installed(entry.name) else "" if entry.url else "by hand"
        text = entry.title + (f"; {entry.reported}" if entry.reported else "")
        size = f"~{entry.megabytes:.0f}"
        sys.stdout.write(row.format(entry.name, entry.task, size, entry.license, state, text))
    sys.stdout.write("\nFetch one with: sor-ppa models get NAME\n")
    return 0
