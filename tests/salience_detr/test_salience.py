"""The salience predictor against recorded numbers."""

from __future__ import annotations

from sor_ppa.salience_detr.salience import SaliencePredictor
from tests.salience_detr.units import filled, given, unit


def test_salience_predictor() -> None:
    module = filled(SaliencePredictor(256), "unit/shared/mp.")
    unit().close("mask_predictor", module(given("mask_predictor", "x")))
