"""What an exported model says about itself."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

__all__ = ["FORMATS", "INFO_KEY", "GraphInfo"]

#: Under this key the JSON text is kept: ``metadata_props`` of ONNX, ``rt_info`` of OpenVINO.
INFO_KEY = "sor_ppa"
#: format -> precisions that are worth having in it
FORMATS = {"onnx": ("fp32", "fp16"), "openvino": ("fp32", "fp16", "bf16", "int8")}


@dataclass(frozen=True)
class GraphInfo:
    """Metadata of an exported model.

    Attributes:
        config: the configuration as YAML text.
        class_names: names of the classes, in the order of their numbers; may be empty.
        version: version of sor_ppa that wrote the model.
        precision: of :data:`FORMATS`.
        divisibility: heights and widths of the input are multiples of it, in pixels.
        format: order of the channels, "RGB" or "BGR".
        short_side, long_side: ``INPUT.MIN_SIZE_TEST`` and ``MAX_SIZE_TEST`` in pixels.
        masks: "box" or "image", what the grid of a mask covers.
    """

    config: str
    class_names: tuple[str, ...]
    version: str
    precision: str
    divisibility: int
    format: str
    short_side: int
    long_side: int
    masks: str = "box"

    def to_json(self) -> str:
        """Return JSON text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | None, name: str) -> GraphInfo:
        """Read JSON text; ``name`` of the file is for errors.

        Raises:
            ValueError: another text.
        """
        try:
            values = json.loads(text or "")
            return cls(**{**values, "class_names": tuple(values["class_names"])})
        except (ValueError, TypeError, KeyError):
            raise ValueError(f"{name}: expected a model of `sor-ppa export`, found another one") from None
