"""The command ``sor-ppa``: ``sor-ppa --help`` and the choice of a sub-command.

It stands beside the package, because importing ``sor_ppa`` imports torch, which takes seconds.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

__all__ = ["COMMANDS", "main"]

# sub-command, a module of ``sor_ppa.cli`` -> the line of help; modules are imported when they are used
COMMANDS = {
    "rank": "rank the salient objects of photos",
    "video": "rank the objects of a video, frame by frame, with steady badges",
    "crop": "crop photos to an aspect and keep the most salient objects",
    "export": "write a model for ONNX Runtime or OpenVINO",
    "models": "list published models and fetch them",
    "data": "fetch, check, show, measure, convert and label ranking datasets",
    "evaluate": "score saved results of any method",
    "compare": "compare saved results of several methods: intervals, tests and a report",
    "profile": "measure parameters, operations, time and memory of a model",
    "serve": "open a page to see and correct ranks; answer programs over HTTP",
    "train": "train or evaluate a model; the options of train_net.py",
}
_EXAMPLES = """\
examples:
  sor-ppa rank holiday.jpg                    pictures and JSON in the folder ranked/
  sor-ppa models                              what can be fetched
  sor-ppa models get ppa-v39                  fetch the published ranker
  sor-ppa rank photos/ --model ppa-v39        use it

Each sub-command explains its options: sor-ppa rank --help
"""


def _module(name: str) -> Any:
    return import_module(f"sor_ppa.cli.{name}")


def get_parser(only: str | None = None) -> argparse.ArgumentParser:
    """Return the command line.

    Args:
        only: the sub-command to fill with its options; the others get their line of help alone.
    """
    parser = argparse.ArgumentParser(
        prog="sor-ppa",
        description="Find the objects in a photo that catch the eye, and rank them.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, line in COMMANDS.items():
        raw = argparse.RawDescriptionHelpFormatter
        own = commands.add_parser(
            name, help=line, description=f"{line[0].upper()}{line[1:]}.", formatter_class=raw
        )
        if name == only:
            _module(name).add_arguments(own)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a sub-command.

    Returns:
        0 if all was done, 1 if something could not be done, 2 for unusable arguments.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    name = given[0] if given and given[0] in COMMANDS else None
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        if name in ("evaluate", "train"):  # these bring a whole command line of their own
            return _module(name).main(given[1:])
        options = get_parser(name).parse_args(given)
        return _module(options.command).run(options)
    except (ImportError, OSError, ValueError) as error:
        sys.stderr.write(f"sor-ppa {name}: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write(f"sor-ppa {name}: interrupted; what was written is complete\n")
        return 130
