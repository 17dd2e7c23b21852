"""Registries of this package, beside those of detectron2; here because the allowed values name them."""

from __future__ import annotations

from detectron2.utils.registry import Registry

__all__ = ["ROI_MASKIOU_HEAD_REGISTRY", "SOR_HEAD_REGISTRY"]

SOR_HEAD_REGISTRY = Registry("SOR_HEAD")
SOR_HEAD_REGISTRY.__doc__ = "Ranking heads: called with (cfg, input_shape), they return a ``RankingHead``."

ROI_MASKIOU_HEAD_REGISTRY = Registry("ROI_MASKIOU_HEAD")
ROI_MASKIOU_HEAD_REGISTRY.__doc__ = "Mask IoU heads: called with (cfg, input_shape)."
