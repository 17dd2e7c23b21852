"""The command ``sor-ppa``: one sub-command a module."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from importlib import import_module

__all__ = ["main"]

# sub-command -> module and the line of help; modules are imported when they are used
COMMANDS = {
    "rank": "rank the salient objects of photos",
    "video": "rank the objects of a video, frame by frame, with steady badges",
    "crop": "crop photos to an aspect and keep the most salient objects",
    "export": "write a model for ONNX Runtime or OpenVINO",
    "models": "list published models and fetch them",
    "data": "fetch, check, show, measure, convert and label ranking datasets",
    "evaluate": "score saved results of any method",
    "profile": "measure parameters, operations, time and memory of a model",
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
            import_module(f".{name}", __name__).add_arguments(own)
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
            return import_module(f".{name}", __name__).main(given[1:])
        options = get_parser(name).parse_args(given)
        return import_module(f".{options.command}", __name__).run(options)
    except (ImportError, OSError, ValueError) as error:
        sys.stderr.write(f"sor-ppa {name}: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write(f"sor-ppa {name}: interrupted; what was written is complete\n")
        return 130
