"""``python -m sor_ppa``: the command ``sor-ppa``."""

import sys

from .cli import main

sys.exit(main())
