"""Salient object ranking as a detectron2 plugin."""
from . import data  # registers the datasets
from .config import add_sor_config

__all__ = ["add_sor_config", "data"]
