"""Salient object detection measures of saliency maps, through pysodmetrics and as InSPyReNet defines them."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import py_sod_metrics
from numpy.typing import ArrayLike, NDArray

from .boundary import boundary_accuracy, inner_band
from .checks import expect

_CURVES = ("f", "e", "iou", "biou", "tiou")
MEASURES = (
    *("mae", "mse", "s_measure", "weighted_f", "f_adaptive", "e_adaptive", "mba"),
    *(f"{name}_{kind}" for name in _CURVES for kind in ("mean", "max")),
)
_BIOU_REACH, _TIOU_REACH = 0.02, 0.001  # of the image diagonal
State = dict[str, Any]


def sod_measures(saliency_map: ArrayLike, gt_mask: ArrayLike) -> dict[str, float]:
    """Return the measures of one image.

    Args:
        saliency_map: (H, W) uint8, or float in [0, 1] (then quantized to 256 levels by rounding). It
            is stretched to [0, 1] by its own minimum and maximum unless it is constant.
        gt_mask: (H, W) bool, or uint8 where > 128 is foreground (a mask of 0 and 1 also works).

    Returns:
        ``MEASURES`` in [0, 1]: ``s_measure`` has alpha 0.5, ``weighted_f`` beta 1, the other F beta² 0.3;
        the means and maxima are over 256 thresholds. ``biou`` compares the bands along the edges of map
        and mask (0.02 of the diagonal), ``tiou`` the map inside the band of the mask (0.001). ``mba`` is
        the mean boundary accuracy of the map as given, NaN where the mask has no edge.

    Raises:
        InputError: wrong shape, type or range.
    """
    scorer = SODScorer()
    scorer.add(saliency_map, gt_mask)
    return scorer.result()


class SODScorer:
    """Averages ``states``, one ``sod_state`` an image; curves are averaged before mean and maximum."""

    def __init__(self) -> None:
        self.states: list[State] = []

    def add(self, saliency_map: ArrayLike, gt_mask: ArrayLike) -> None:
        """Add one image; arguments as in ``sod_measures``."""
        self.states.append(sod_state(saliency_map, gt_mask))

    def merge(self, other: SODScorer) -> SODScorer:
        """Add the images of another scorer and return this one."""
        self.states += other.states
        return self

    def result(self) -> dict[str, float]:
        """Return the measures; empty without images."""
        if not self.states:
            return {}
        values = {}
        for name in self.states[0]:
            found = [state[name] for state in self.states if state[name] is not None]
            if name in _CURVES:
                curve = [math.fsum(column) / len(found) for column in zip(*found, strict=True)]
                values[f"{name}_mean"], values[f"{name}_max"] = float(np.mean(curve)), max(curve)
            else:
                values[name] = math.fsum(found) / len(found) if found else math.nan
        return {name: values[name] for name in MEASURES}


def sod_state(saliency_map: ArrayLike, gt_mask: ArrayLike) -> State:
    """Return what one image adds to the averages: numbers, and curves of 256 thresholds as lists."""
    gray, mask = _checked_maps(saliency_map, gt_mask)
    results: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about a successor of Fmeasure, with the same numbers
        for kind in ("MAE", "Smeasure", "WeightedFmeasure", "Fmeasure", "Emeasure"):
            measure = getattr(py_sod_metrics, kind)()
            measure.step(pred=gray, gt=mask)
            results |= measure.get_results()
    f, e = results["fm"], results["em"]
    truth, stretched = mask > 128, gray / 255
    if gray.max() > gray.min():
        stretched = (stretched - stretched.min()) / (stretched.max() - stretched.min())
    levels = (stretched * 255).astype(np.uint8)
    wide, narrow = (inner_band(truth.astype(np.uint8), reach) > 0 for reach in (_BIOU_REACH, _TIOU_REACH))
    return {
        "mae": float(results["mae"]),
        "mse": float(np.mean((stretched - truth) ** 2)),
        "s_measure": float(results["sm"]),
        "weighted_f": float(results["wfm"]),
        "f_adaptive": float(f["adp"]),
        "e_adaptive": float(e["adp"]),
        "mba": boundary_accuracy(gray, mask),
        "f": np.asarray(f["curve"], np.float64).tolist(),
        "e": np.asarray(e["curve"], np.float64).tolist(),
        "iou": _iou_curve(levels, truth),
        "biou": _iou_curve(inner_band(levels, _BIOU_REACH), wide),
        "tiou": _iou_curve(levels * narrow, narrow),
    }


def _iou_curve(levels: NDArray[np.uint8], truth: NDArray[np.bool_]) -> list[float]:
    """Return the IoU of levels >= 255, 254, ..., 0 with a mask."""
    hits, misses = (np.cumsum(np.bincount(levels[at], minlength=256)[::-1]) for at in (truth, ~truth))
    return (hits / (max(1, int(truth.sum())) + misses)).tolist()


def _checked_maps(saliency_map: ArrayLike, gt_mask: ArrayLike) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    gray, mask = np.asarray(saliency_map), np.asarray(gt_mask)
    expect(gray.ndim == 2 and gray.size, "saliency_map", "shape (H, W)", gray.shape)
    expect(mask.shape == gray.shape, "gt_mask", f"the shape of saliency_map, {gray.shape}", mask.shape)
    if np.issubdtype(gray.dtype, np.floating):
        low, high = gray.min(), gray.max()
        expect(low >= 0 and high <= 1, "saliency_map", "values in [0, 1]", f"{low:g} to {high:g}")
        gray = np.rint(gray * 255).astype(np.uint8)
    if mask.dtype == np.bool_ or (mask.dtype == np.uint8 and mask.max() <= 1):
        mask = mask.astype(np.uint8) * np.uint8(255)
    expect(gray.dtype == np.uint8, "saliency_map", "uint8 or float", gray.dtype)
    expect(mask.dtype == np.uint8, "gt_mask", "bool or uint8", mask.dtype)
    return gray, mask
