"""A server around a model that needs no weights, without a socket, and documents to send it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from fastapi.testclient import TestClient
from numpy.typing import NDArray

from sor_ppa.predictor import SORPredictor
from sor_ppa.serving.app import create_app
from sor_ppa.serving.batching import BatchingRanker
from sor_ppa.serving.dataset import DatasetWriter
from sor_ppa.serving.documents import Document
from sor_ppa.serving.limits import Limits
from sor_ppa.serving.models import ModelList
from sor_ppa.serving.services import Services
from sor_ppa.serving.workspace import Workspace
from tests.fake_model import fake_predictor, picture

JPEG = {"Content-Type": "image/jpeg"}


def encoded(height: int = 60, width: int = 80, seed: int = 0, suffix: str = ".png") -> bytes:
    """A picture file of noise."""
    return cv2.imencode(suffix, picture(height, width, seed))[1].tobytes()


def services(folder: Path, predictor: SORPredictor | None = None, **limits: Any) -> Services:
    """The parts of a server with a fake model."""
    bounds = Limits(**limits)
    models = ModelList("fake", predictor or fake_predictor())
    workspace = Workspace(folder, bounds)
    return Services(workspace, models, BatchingRanker(models.load, bounds), DatasetWriter(workspace), bounds)


@contextmanager
def running(
    folder: Path, *, token: str | None = None, predictor: SORPredictor | None = None, **limits: Any
) -> Iterator[TestClient]:
    """A client of a server with a fake model."""
    app = create_app(services(folder, predictor, **limits), token)
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


def square_mask(left: int, top: int, side: int, height: int = 60, width: int = 80) -> NDArray[np.bool_]:
    """A mask with one square."""
    mask = np.zeros((height, width), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def document(*objects: dict[str, Any], annotator: str = "me", **fields: Any) -> Document:
    """A document of a photo of 60 x 80 pixels; an object is a square of ``left`` and maybe other fields."""
    from sor_ppa.data.masks import encode_mask

    items = [
        {
            "id": f"o{number}",
            "mask": encode_mask(square_mask(item.get("left", 0), 10, item.get("side", 10))),
            **{key: value for key, value in item.items() if key not in ("left", "side")},
        }
        for number, item in enumerate(objects, 1)
    ]
    given = {"annotator": annotator, "height": 60, "width": 80, "edited": True, **fields}
    return Document.model_validate({**given, "objects": items})
