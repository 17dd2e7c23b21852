"""Salient object detection measures (MAE, S, E, F, weighted F) through pysodmetrics, averaged exactly."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

MEASURES = (
    "mae",
    "s_measure",
    "weighted_f",
    "f_adaptive",
    "f_mean",
    "f_max",
    "e_adaptive",
    "e_mean",
    "e_max",
)
_SCALARS = ("mae", "s_measure", "weighted_f", "f_adaptive", "e_adaptive")


def sod_measures(saliency_map: ArrayLike, gt_mask: ArrayLike) -> dict[str, float]:
    """The measures of one image.

    Args:
        saliency_map: (H, W) uint8, or float in [0, 1] (then quantised to 256 levels by rounding). It
            is stretched to [0, 1] by its own minimum and maximum unless it is constant.
        gt_mask: (H, W) bool, or uint8 where > 128 is foreground (a mask of 0 and 1 also works).

    Returns:
        ``mae``, ``s_measure`` (alpha 0.5), ``weighted_f`` (beta 1), ``f_adaptive``, ``f_mean``,
        ``f_max`` (beta² 0.3), ``e_adaptive``, ``e_mean``, ``e_max``, all in [0, 1].

    Raises:
        ValueError: wrong shape, type or range.
    """
    scorer = SODScorer()
    scorer.add(saliency_map, gt_mask)
    return scorer.result()


class SODScorer:
    """Averages the measures over images; F and E curves are averaged before mean and maximum are taken."""

    def __init__(self) -> None:
        self.images = 0
        self._sums: dict[str, Any] = dict.fromkeys(_SCALARS, 0.0)
        self._sums["f_curve"] = np.zeros(256)
        self._sums["e_curve"] = np.zeros(256)

    def add(self, saliency_map: ArrayLike, gt_mask: ArrayLike) -> None:
        """Adds one image; arguments as in ``sod_measures``."""
        for name, value in sod_state(saliency_map, gt_mask).items():
            self._sums[name] = self._sums[name] + value
        self.images += 1

    def add_state(self, state: Mapping[str, Any]) -> None:
        """Adds one image by its ``sod_state``."""
        for name in self._sums:
            self._sums[name] = self._sums[name] + np.asarray(state[name])
        self.images += 1

    def merge(self, other: SODScorer) -> SODScorer:
        """Adds the images of another scorer; returns this one."""
        for name in self._sums:
            self._sums[name] = self._sums[name] + other._sums[name]
        self.images += other.images
        return self

    def result(self) -> dict[str, float]:
        """The measures; empty without images."""
        if self.images == 0:
            return {}
        mean = {name: value / self.images for name, value in self._sums.items()}
        values = {name: float(mean[name]) for name in _SCALARS}
        for letter in "fe":
            curve = mean[f"{letter}_curve"]
            values[f"{letter}_mean"], values[f"{letter}_max"] = float(curve.mean()), float(curve.max())
        return {name: values[name] for name in MEASURES}


def sod_state(saliency_map: ArrayLike, gt_mask: ArrayLike) -> dict[str, Any]:
    """What one image adds to the averages: five numbers and the F and E curves of 256 thresholds."""
    import py_sod_metrics

    grey, mask = _check(saliency_map, gt_mask)
    with warnings.catch_warnings():
        # it announces a successor of Fmeasure, which gives the same numbers
        warnings.simplefilter("ignore", UserWarning)
        measures = {
            "mae": py_sod_metrics.MAE(),
            "s_measure": py_sod_metrics.Smeasure(),
            "weighted_f": py_sod_metrics.WeightedFmeasure(),
            "f": py_sod_metrics.Fmeasure(),
            "e": py_sod_metrics.Emeasure(),
        }
    for measure in measures.values():
        measure.step(pred=grey, gt=mask)
    f, e = measures["f"].get_results()["fm"], measures["e"].get_results()["em"]
    return {
        "mae": float(measures["mae"].get_results()["mae"]),
        "s_measure": float(measures["s_measure"].get_results()["sm"]),
        "weighted_f": float(measures["weighted_f"].get_results()["wfm"]),
        "f_adaptive": float(f["adp"]),
        "e_adaptive": float(e["adp"]),
        "f_curve": np.asarray(f["curve"], np.float64),
        "e_curve": np.asarray(e["curve"], np.float64),
    }


def _check(saliency_map: ArrayLike, gt_mask: ArrayLike) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    grey, mask = np.asarray(saliency_map), np.asarray(gt_mask)
    if grey.ndim != 2 or grey.size == 0:
        raise ValueError(f"saliency_map: expected shape (H, W), found {grey.shape}")
    if mask.shape != grey.shape:
        raise ValueError(f"gt_mask: expected the shape of saliency_map, {grey.shape}, found {mask.shape}")
    if np.issubdtype(grey.dtype, np.floating):
        low, high = grey.min(), grey.max()
        if not (low >= 0 and high <= 1):
            raise ValueError(f"saliency_map: expected values in [0, 1], found {low:g} to {high:g}")
        grey = np.rint(grey * 255).astype(np.uint8)
    if grey.dtype != np.uint8:
        raise ValueError(f"saliency_map: expected uint8 or float, found {grey.dtype}")
    if mask.dtype == np.bool_ or (mask.dtype == np.uint8 and mask.max() <= 1):
        mask = mask.astype(np.uint8) * np.uint8(255)
    if mask.dtype != np.uint8:
        raise ValueError(f"gt_mask: expected bool or uint8, found {mask.dtype}")
    return grey, mask
