"""Convolutions of OpenVINO models in 8-bit integers, by NNCF. Needs the extra ``sor_ppa[int8]``."""

from __future__ import annotations

import io
import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any

from numpy.typing import NDArray

__all__ = ["check_nncf", "quantize"]

_CONVOLUTIONS = ("Convolution", "GroupConvolution")
_COLORS = 3  # channels of a picture
_LEAST_EXTENT = 2e-3  # NNCF makes ranges at least 1.6e-3 wide


def check_nncf() -> None:
    """Raise ImportError, with what to install, where NNCF is missing."""
    os.environ.setdefault("NNCF_CI", "1")  # else it sends statistics of its use
    try:
        with redirect_stdout(io.StringIO()):
            import nncf  # noqa: F401
    except ImportError as error:
        raise ImportError(f"int8: {error}; pip install 'sor_ppa[int8]'") from None
    logging.getLogger("nncf").setLevel(logging.ERROR)  # nncf.set_log_level changes handlers of others, too
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it misses a GPU


def quantize(model: Any, inputs: Sequence[Mapping[str, NDArray[Any]]], kept: set[str]) -> Any:
    """Return an ``openvino.Model`` with convolutions in 8-bit integers.

    Args:
        model: in float32.
        inputs: of the model; the values that they cause give the ranges of the integers.
        kept: names of tensors whose convolutions stay as they are.
    """
    check_nncf()
    import nncf
    from nncf.quantization.advanced_parameters import OverflowFix
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    nodes = model.get_ordered_ops()
    floating = [node.get_friendly_name() for node in nodes if not _quantizable(node, kept)]
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():  # progress bars, ranges without extent
        warnings.simplefilter("ignore", RuntimeWarning)
        quantized = nncf.quantize(
            model,
            nncf.Dataset(inputs),
            subset_size=len(inputs),
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(names=floating, validate=False),
            # Measured (docs/export.md): corrected biases and ranges that cut extremes off cost many ranks.
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                # weights of 7 bits: CPUs without VNNI add products in 16 bits, which 8 bits overflow
                overflow_fix=OverflowFix.ENABLE,
                disable_bias_correction=True,
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
            ),
        )
    _leave_unseen(quantized)
    _leave_shared(quantized)
    return quantized


def _leave_unseen(model: Any) -> None:
    """Leave inputs in floating point, in place, that were empty or zero in all of the calibration.

    NNCF gives them a range of NaN or one near 0. The mask head has such inputs if no picture shows an object.
    """
    for node in model.get_ops():
        if node.get_type_name() == "FakeQuantize":
            low, high = (node.input_value(number).get_node().data for number in (1, 2))
            if not (high - low > _LEAST_EXTENT).all():
                node.output(0).replace(node.input_value(0))


def _leave_shared(model: Any) -> None:
    """Leave convolutions in floating point, in place, whose result both quantized and other layers read.

    Where a convolution has no bias and a free size, OpenVINO 2026.4 scales the result for the others, but
    the quantized ones expect it without the scale.
    """
    for node in model.get_ops():
        if node.get_type_name() not in _CONVOLUTIONS:
            continue
        source = node.input_value(0).get_node()
        readers = {target.get_node().get_type_name() for target in node.output(0).get_target_inputs()}
        quantized = source.get_type_name() == "FakeQuantize"
        if quantized and "FakeQuantize" in readers and len(readers) > 1:
            node.input(0).replace_source_output(source.input_value(0))


def _quantizable(node: Any, kept: set[str]) -> bool:
    """Return whether a node is a convolution that is neither kept nor the first one, of the colors."""
    if node.get_type_name() not in _CONVOLUTIONS:
        return False
    followers = [target.get_node() for target in node.output(0).get_target_inputs()]  # that add the bias
    names = set().union(*(x.output(0).get_names() for x in (node, *followers)))
    return not names & kept and node.get_input_partial_shape(0)[1].get_min_length() > _COLORS
