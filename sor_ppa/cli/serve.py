"""``sor-ppa serve``: a page to see and correct ranks, and an HTTP interface."""

from __future__ import annotations

import argparse
import sys
import webbrowser
from pathlib import Path

from ._model import add_model_arguments, chosen_model, load_predictor

_EPILOG = """\
examples:
  sor-ppa serve                                     a page on this machine; what it saves goes to serve/
  sor-ppa serve photos/ --model ppa-v39
  sor-ppa serve photos/ --host 0.0.0.0 --token SECRET --no-browser
  curl -H 'Content-Type: image/jpeg' --data-binary @photo.jpg http://127.0.0.1:8000/rank

FOLDER/annotations/rank_train.json is a dataset of what was corrected:
  sor-ppa data check mine=coco:serve/annotations/rank_train.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the sub-command."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=Path("serve"),
        metavar="FOLDER",
        help="of photos and rankings (default: serve)",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: this machine alone)"
    )
    parser.add_argument("--port", type=int, default=8000, help="default: 8000; 0: a free one")
    parser.add_argument("--token", metavar="T", help="that clients must know; needed with --host")
    parser.add_argument("--no-browser", action="store_true", help="do not open the page")
    add_model_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Run the sub-command and return its exit status."""
    try:
        from ..serving.models import ModelList
        from ..serving.server import serve
    except ImportError as error:
        raise ImportError(
            f"expected fastapi and uvicorn, found none of {error.name} (pip install 'sor_ppa[serve]')"
        ) from None
    model = chosen_model(options)

    def ready(address: str) -> None:
        sys.stdout.write(f"{address}  (Ctrl-C ends)\n")
        sys.stdout.flush()
        if not options.no_browser:
            webbrowser.open(address)

    models = ModelList(model, load_predictor(options, model))
    serve(options.folder, models, host=options.host, port=options.port, token=options.token, ready=ready)
    return 0
