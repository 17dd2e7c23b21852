"""Every configuration key of this package, the table of allowed values, and reading configurations."""

from .allowed import ConfigError, check_classes, check_config, flat
from .files import get_config_file
from .keys import add_sor_config
from .load import load_config, settle_config
from .thresholds import score_threshold_keys

__all__ = [
    "ConfigError",
    "add_sor_config",
    "check_classes",
    "check_config",
    "flat",
    "get_config_file",
    "load_config",
    "score_threshold_keys",
    "settle_config",
]
