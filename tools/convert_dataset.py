#!/usr/bin/env python
"""Convert a ranking dataset between formats; the same as ``sor-ppa data convert``.

Example:
    python tools/convert_dataset.py assr_train --to coco --output datasets/my_assr
"""

from __future__ import annotations

import sys

from sor_ppa.cli import main as run


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return the exit status (1: the dataset cannot be read or written)."""
    return min(1, run(["data", "convert", *(sys.argv[1:] if arguments is None else arguments)]))


if __name__ == "__main__":
    sys.exit(main())
