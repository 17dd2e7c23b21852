"""The sub-commands of ``sor-ppa``, one a module; ``sor_ppa_cli.py`` beside the package calls them."""

from sor_ppa_cli import COMMANDS, main

__all__ = ["COMMANDS", "main"]
