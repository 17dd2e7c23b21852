#!/usr/bin/env python
"""Train or evaluate a salient object ranker; arguments as in detectron2's tools."""

import sys

from sor_ppa.cli.train import main

if __name__ == "__main__":
    sys.exit(main())
