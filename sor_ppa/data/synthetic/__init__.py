"""The synthetic benchmark: scenes whose ranking follows a written rule, in the format of ASSR."""

from .dataset import SyntheticSpec, parse_size, write_dataset
from .oracle import rankings, record_cues
from .rule import Cues, RuleWeights, measure_cues, salience
from .scene import DIFFICULTIES, Scene, SceneOptions, draw_scene

__all__ = [
    "DIFFICULTIES",
    "Cues",
    "RuleWeights",
    "Scene",
    "SceneOptions",
    "SyntheticSpec",
    "draw_scene",
    "measure_cues",
    "parse_size",
    "rankings",
    "record_cues",
    "salience",
    "write_dataset",
]
