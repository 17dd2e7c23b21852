"""Sharpening instance masks at image resolution.

A detector predicts a mask on a small grid (28 x 28 cells per box), so its edge is wrong by at most a few
percent of the object's size. A refiner predicts only a band around the edge again, inside the box with a
margin. A saliency network blends the details of the crop into the mask, as it blends a high-resolution pass
into a low-resolution one (InSPyReNet, section 3.4). Without a network, the colors on both sides of the edge
decide.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ..data.masks import mask_box
from .layers import resize
from .meta_arch import InSPyReNet
from .network import predict_blended
from .preprocess import dynamic_size, resize_antialiased

__all__ = ["ColorRefiner", "MaskRefiner", "NetworkRefiner", "refine_masks"]

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

# Smallest variance of colors in [0, 1].
MIN_VARIANCE = 1e-3


#: From an RGB crop (h, w, 3), its mask (h, w), not empty, and the half width in pixels of the band around the
#: mask's edge that may change, to a mask (h, w).
MaskRefiner = Callable[[Image, Mask, float], Mask]


def refine_masks(
    image: Image, masks: Mask, refiner: MaskRefiner, *, margin: float = 0.15, band: float = 0.1
) -> Mask:
    """Sharpen every mask of an image.

    Args:
        image: (H, W, 3) uint8 RGB.
        masks: (N, H, W).
        refiner: refines the edge of each mask.
        margin: around the box of a mask, as a fraction of its sides.
        band: half width of the band that may change, as a fraction of the square root of the mask's area.

    Returns:
        (N, H, W). Empty masks stay empty; a mask that would become empty is not changed.
    """
    assert masks.shape[1:] == image.shape[:2]
    refined = masks.copy()
    height, width = image.shape[:2]
    for index, mask in enumerate(masks):
        box = mask_box(mask)
        if box is None:
            continue
        reach = max(band * math.sqrt(np.count_nonzero(mask)), 1.5)
        left, top, right, bottom = box
        dx, dy = (math.ceil(max(margin * side, 2 * reach)) for side in (right - left, bottom - top))
        rows = slice(max(top - dy, 0), min(bottom + dy, height))
        columns = slice(max(left - dx, 0), min(right + dx, width))
        sharper = refiner(image[rows, columns], mask[rows, columns], reach)
        if sharper.any():
            refined[index, rows, columns] = sharper
    return refined


def signed_distance(mask: Mask) -> NDArray[np.float32]:
    """Return the distance to the edge in pixels, positive inside, (H, W)."""
    padded = np.pad(mask, 1, mode="edge").astype(np.uint8)
    inside = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    outside = cv2.distanceTransform(1 - padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    if not (1 - padded).any():  # no edge
        return np.full(mask.shape, np.float32(mask.size))
    # The edge is between two pixels, half a pixel from each.
    return (inside - outside - 0.5 * np.sign(inside - outside))[1:-1, 1:-1].astype(np.float32)


class ColorRefiner:
    """Classifies pixels by the colors of the certain inside and outside (a local Fisher discriminant).

    Around each pixel of the band, the mean colors of both sides and their common covariance are estimated
    from the pixels outside the band. The log-likelihood ratio of the two Gaussians and a prior from the
    distance to the old edge decide on which side the pixel is.

    Args:
        window: radius of the surroundings, in widths of the band.
        prior: log odds of the old mask at the border of the band.
        limit: largest log-likelihood ratio of one pixel.
        smoothing: standard deviation in pixels of the blur of the log odds.
    """

    def __init__(
        self, window: float = 2.0, prior: float = 4.0, limit: float = 4.0, smoothing: float = 1.5
    ) -> None:
        self.window = window
        self.prior = prior
        self.limit = limit
        self.smoothing = smoothing

    def __call__(self, image: Image, mask: Mask, band: float) -> Mask:
        """See :data:`MaskRefiner`."""
        distance = signed_distance(mask)
        unsure = np.abs(distance) < band
        if not unsure.any():
            return mask
        colors = image.astype(np.float32) / np.float32(255)
        side = 2 * math.ceil(self.window * band) + 1
        ratio = _log_likelihood_ratio(colors, distance >= band, distance <= -band, unsure, side)
        odds = np.clip(ratio, -self.limit, self.limit) + self.prior * distance / band
        odds = np.asarray(cv2.GaussianBlur(odds, (0, 0), self.smoothing))
        return np.where(unsure, odds > 0, mask)


def _log_likelihood_ratio(
    colors: NDArray[np.float32], inside: Mask, outside: Mask, wanted: Mask, side: int
) -> NDArray[np.float32]:
    """Return log p(color | inside) / p(color | outside) with local Gaussians of one covariance, (H, W).

    Zero where it is not wanted, and where the window does not contain both sides.
    """
    # Moments about the mean color of the crop: differences of small numbers stay exact.
    colors = colors - colors.mean((0, 1))
    pairs = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    planes = [colors[..., i] for i in range(3)] + [colors[..., i] * colors[..., j] for i, j in pairs]

    totals, moments = [], []
    for weight in (inside.astype(np.float32), outside.astype(np.float32)):
        total = cv2.boxFilter(weight, -1, (side, side))[wanted]
        sums = [cv2.boxFilter(weight * plane, -1, (side, side))[wanted] for plane in planes]
        totals.append(total)
        moments.append(np.stack(sums, -1) / np.maximum(total, 1e-6)[:, None])  # (P, 9)
    share = totals[0] / np.maximum(totals[0] + totals[1], 1e-6)
    covariance = np.empty((len(share), 3, 3), np.float32)
    for index, (i, j) in enumerate(pairs):
        within = [moment[:, 3 + index] - moment[:, i] * moment[:, j] for moment in moments]
        covariance[:, i, j] = covariance[:, j, i] = share * within[0] + (1 - share) * within[1]
    covariance += np.eye(3, dtype=np.float32) * MIN_VARIANCE
    front, back = moments[0][:, :3], moments[1][:, :3]
    direction = np.linalg.solve(covariance, (front - back)[..., None])[..., 0]
    values = ((colors[wanted] - (front + back) / 2) * direction).sum(-1)
    seen = (totals[0] > 1e-3) & (totals[1] > 1e-3)
    ratio = np.zeros(wanted.shape, np.float32)
    ratio[wanted] = np.where(seen, values, 0)
    return ratio


class NetworkRefiner:
    """Blends the details that a saliency network predicts for the crop into the mask.

    Args:
        model: in evaluation mode.
        largest: longest side of the network's input in pixels.
        softness: width of the old edge's transition, in bands.
    """

    def __init__(self, model: InSPyReNet, *, largest: int = 768, softness: float = 0.5) -> None:
        self.model = model
        self.largest = largest
        self.softness = softness

    @torch.no_grad()
    def __call__(self, image: Image, mask: Mask, band: float) -> Mask:
        """See :data:`MaskRefiner`."""
        height, width = mask.shape
        scale = min(self.largest / max(height, width), 1.0)
        size = dynamic_size(round(height * scale), round(width * scale), self.largest)
        distance = signed_distance(mask)
        # Log odds of the old mask: certain outside the band, a ramp inside.
        ramp = torch.from_numpy(np.clip(distance / (self.softness * band), -1, 1))[None, None] * 5
        low = F.interpolate(ramp, size, mode="bilinear", antialias=True).to(self.model.device)
        pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        crop = self.model.normalized(resize_antialiased(pixels, size))[None]
        odds = predict_blended(self.model.network, low, crop).saliency[-1]
        decided = resize(odds, (height, width), align_corners=True)[0, 0].float().cpu().numpy()
        return np.where(np.abs(distance) < band, decided > 0, mask)
