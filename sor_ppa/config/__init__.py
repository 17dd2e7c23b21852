"""Every configuration key of this package, and reading configurations."""

from .files import get_config_file
from .keys import add_sor_config
from .load import ConfigError, load_config, settle_config

__all__ = ["ConfigError", "add_sor_config", "get_config_file", "load_config", "settle_config"]
