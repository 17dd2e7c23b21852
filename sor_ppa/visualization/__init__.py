"""Drawing ranks on pictures: numpy and OpenCV only, no models."""

from .colors import rank_colors
from .heatmap import heatmap
from .ranked import RankStyle, draw_ranked
from .sheet import contact_sheet

__all__ = ["RankStyle", "contact_sheet", "draw_ranked", "heatmap", "rank_colors"]
