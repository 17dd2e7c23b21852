"""Serve a folder with a fake model and short limits, in a process of its own, until it is killed."""

from __future__ import annotations

import sys
from pathlib import Path

from sor_ppa.serving.limits import Limits
from sor_ppa.serving.models import ModelList
from sor_ppa.serving.server import serve
from tests.fake_model import fake_predictor

LIMITS = Limits(header_seconds=0.5, body_seconds=1.0, body_bytes=2**20, waiting=4)


def main() -> None:
    """Serve the folder of the first argument."""
    models = ModelList("fake", fake_predictor())
    serve(Path(sys.argv[1]), models, port=0, limits=LIMITS, ready=lambda address: print(address, flush=True))


if __name__ == "__main__":
    main()
