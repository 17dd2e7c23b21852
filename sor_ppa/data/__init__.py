"""Readers of salient object ranking datasets, the synthetic benchmark and the mapper."""

from .assr import read_assr
from .builtin import BUILTIN, datasets_root, load_records, register_all, register_from_config
from .issues import DatasetError
from .mapper import RankingDatasetMapper
from .record import UNRANKED, ImageRecord, ObjectRecord, to_detectron2

__all__ = [
    "BUILTIN",
    "UNRANKED",
    "DatasetError",
    "ImageRecord",
    "ObjectRecord",
    "RankingDatasetMapper",
    "datasets_root",
    "load_records",
    "read_assr",
    "register_all",
    "register_from_config",
    "to_detectron2",
]
