"""Every configuration key of this package, and reading configurations."""

from .keys import add_sor_config
from .load import ConfigError, load_config, settle_config

__all__ = ["ConfigError", "add_sor_config", "load_config", "settle_config"]
