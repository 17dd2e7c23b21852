"""Region proposals from the files of the published box generator: one ``.npy`` an image."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from ..pickled_types import PLAIN_TYPES
from ..restricted_pickle import load_pickle

__all__ = ["SavedProposals", "read_proposals"]

_DEPTH = 3  # levels of folders, at most, that an image and its file have in common

_Dtype: Any = PLAIN_TYPES["numpy.dtype"]
_Numbers: Any = PLAIN_TYPES["numpy.ndarray"]


class _ObjectDtype:  # in place of numpy.dtype("O")
    def __setstate__(self, state: Any) -> None:
        pass


class _SavedArray:  # in place of numpy.ndarray: an array of numbers, or the one object in an array
    def __init__(self, *_: object) -> None:
        self.value: Any = None

    def __setstate__(self, state: Any) -> None:
        if isinstance(state[2], _ObjectDtype):
            (self.value,) = state[4]
        else:
            self.value = _Numbers()
            self.value.__setstate__(state)


def _dtype(code: Any, *rest: object) -> Any:
    return _ObjectDtype() if code in ("O", "O8") else _Dtype(code, *rest)


_NAMES = PLAIN_TYPES | {name: _dtype for name in PLAIN_TYPES if name == "numpy.dtype"}
_NAMES |= {name: _SavedArray for name, known in PLAIN_TYPES.items() if known is _Numbers}


def read_proposals(path: str | os.PathLike[str]) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Return the boxes and scores of a file.

    Args:
        path: ``.npy`` with ``{"box": (N, 4), "score": (N,) or (N, 1)}``, as the published generator writes
            it, without "score", as its selective search does, or with the boxes alone. Nothing in it runs.

    Returns:
        (N, 4) corners (x1, y1, x2, y2) in pixels, and (N,) scores, 0 if the file has none.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or holds something else.
    """
    try:
        found = _read(Path(path))
    except (ValueError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path}: expected saved boxes, found {error}") from None
    boxes, scores = (found.get("box"), found.get("score")) if isinstance(found, dict) else (found, None)
    boxes, scores = (array.value if isinstance(array, _SavedArray) else array for array in (boxes, scores))
    if not isinstance(boxes, np.ndarray) or boxes.dtype.kind not in "iuf" or boxes.shape[1:] != (4,):
        raise ValueError(f"{path}: expected numbers of shape (N, 4), found {_described(boxes)}")
    if not (np.isfinite(boxes).all() and (boxes[:, :2] <= boxes[:, 2:]).all() and (boxes >= 0).all()):
        raise ValueError(f"{path}: expected corners x1, y1, x2, y2 in pixels, found other values")
    if scores is None:
        scores = np.zeros(len(boxes))
    if not isinstance(scores, np.ndarray) or scores.dtype.kind not in "iuf" or scores.size != len(boxes):
        raise ValueError(f"{path}: expected {len(boxes)} scores, found {_described(scores)}")
    return np.array(boxes), np.array(scores, np.float32).reshape(-1)


def _read(path: Path) -> Any:
    with path.open("rb") as file:
        version = npy_format.read_magic(file)
        if version == (1, 0):  # as of every array of objects
            _, _, dtype = npy_format.read_array_header_1_0(file)
            if dtype.hasobject:
                saved = load_pickle(file.read(), _NAMES)
                return saved.value if isinstance(saved, _SavedArray) else saved
    return np.load(path, allow_pickle=False)


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    return "nothing" if value is None else type(value).__name__


@dataclass(frozen=True)
class SavedProposals:
    """The boxes of an image file from a folder; can be sent to other processes.

    The file of ``train2017/000001.jpg`` is ``train2017/000001.npy`` or ``000001.npy``: the end of the path
    of the image, as long as possible, with its name up to the first dot.

    Args:
        folder: the published ``unsup_boxes_root`` or a folder above it.
        max_boxes: boxes kept per image.

    Raises:
        FileNotFoundError: the folder does not exist.
    """

    folder: str
    max_boxes: int = 512

    def __post_init__(self) -> None:
        if not os.path.isdir(self.folder):
            raise FileNotFoundError(
                f"INPUT.TWO_VIEWS.PROPOSALS.FOLDER: expected a folder of .npy files, found {self.folder!r}"
            )

    def __call__(self, path: str) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Return (N, 4) corners in pixels, best first, and (N,) scores.

        Raises:
            FileNotFoundError: the image has no file in the folder.
            ValueError: see :func:`read_proposals`.
        """
        parts = Path(path).parts[-_DEPTH:]
        names = [Path(*parts[i:-1], f"{parts[-1].split('.')[0]}.npy") for i in range(len(parts))]
        files = [Path(self.folder, name) for name in names]
        file = next((file for file in files if file.is_file()), None)
        if file is None:
            raise FileNotFoundError(f"{self.folder}: expected {names[-1]} for {path}, found no such file")
        boxes, scores = read_proposals(file)
        return boxes[: self.max_boxes], scores[: self.max_boxes]
