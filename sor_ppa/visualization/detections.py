"""A picture with detections: boxes, masks, and class names with confidences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from detectron2.utils.colormap import colormap
from detectron2.utils.visualizer import Visualizer
from numpy.typing import NDArray

__all__ = ["draw_detections"]


def draw_detections(
    image_rgb: NDArray[np.uint8],
    boxes: NDArray[np.floating],
    masks: NDArray[np.bool_] | None,
    classes: Sequence[int],
    labels: Sequence[str],
) -> NDArray[np.uint8]:
    """Draw detections with detectron2's visualizer; a class has the same color in every picture.

    Args:
        image_rgb: (H, W, 3) uint8; it is not changed.
        boxes: (N, 4) corners in pixels.
        masks: (N, H, W) bool; None: boxes alone.
        classes: (N,) numbers.
        labels: (N,) text.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    palette = colormap(rgb=True, maximum=1)
    colors = [palette[number * 7 % len(palette)] for number in classes]  # neighbors look alike
    drawn = Visualizer(image_rgb).overlay_instances(
        boxes=boxes, masks=masks, labels=list(labels), assigned_colors=colors
    )
    return np.asarray(drawn.get_image(), np.uint8)
