"""Draw ranks on pictures with NumPy, OpenCV and Pillow."""

from .colors import rank_colors
from .heatmap import heatmap
from .ranked import EVERYTHING, RankStyle, draw_ranked
from .sheet import contact_sheet

__all__ = ["EVERYTHING", "RankStyle", "contact_sheet", "draw_ranked", "heatmap", "rank_colors"]
