"""From the predictions for an image to its instances at the requested size."""

from __future__ import annotations

import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor
from torch.nn import functional as F

__all__ = ["mask_boxes", "mask_instances", "resize_masks", "resized_instances", "with_pixels"]

Size = tuple[int, int]

# Float pixels of masks that are computed at once: 64 MB in float32.
_PIXELS = 2**24


def resize_masks(logits: Tensor, padded: Size, size: Size, output: Size) -> tuple[Tensor, Tensor]:
    """Return masks at the output size, and the mean probability inside each.

    As published: enlarged to the padded input, cropped to the image, resized, then compared with 0. Only a
    few masks at a time exist as floats of that size.

    Args:
        logits: ``(N, h, w)``.
        padded: (height, width) of the network's input.
        size: (height, width) of the image inside it.
        output: (height, width) of the result.

    Returns:
        ``(N, H, W)`` bool and ``(N,)``; the probability is 0 for an empty mask.
    """
    masks = torch.empty(len(logits), *output, dtype=torch.bool, device=logits.device)
    quality = logits.new_zeros(len(logits))
    step = max(_PIXELS // max(padded[0] * padded[1], output[0] * output[1]), 1)
    for start in range(0, len(logits), step):
        part = slice(start, start + step)
        large = F.interpolate(logits[part, None], padded, mode="bilinear", align_corners=False)
        large = large[..., : size[0], : size[1]]
        large = F.interpolate(large, output, mode="bilinear", align_corners=False)[:, 0]
        masks[part] = large > 0
        pixels = masks[part].sum((1, 2))
        quality[part] = (large.sigmoid() * masks[part]).sum((1, 2)) / (pixels + 1e-6)
    return masks, quality


def mask_boxes(masks: Tensor) -> Tensor:
    """Return the XYXY boxes ``(N, 4)`` float32 of masks ``(N, H, W)`` bool; zeros for an empty mask.

    Right and bottom edges are exclusive.
    """
    sides = []
    for dim in (1, 2):  # columns, then rows
        used = masks.any(dim)
        length = used.shape[1]
        first = used.to(torch.uint8).argmax(1)
        end = length - used.flip(1).to(torch.uint8).argmax(1)
        sides.append(torch.where(used.any(1), torch.stack([first, end]), 0))
    (x1, x2), (y1, y2) = sides
    return torch.stack([x1, y1, x2, y2], dim=1).float()


def resized_instances(logits: Tensor, padded: Size, size: Size, output: Size, **fields: Tensor) -> Instances:
    """Return masks at the output size as instances with boxes and other fields; a mask may be empty.

    Args:
        logits, padded, size, output: see :func:`resize_masks`.
        **fields: of N rows.
    """
    masks, _ = resize_masks(logits, padded, size, output)
    return Instances(output, pred_masks=masks, pred_boxes=Boxes(mask_boxes(masks)), **fields)


def with_pixels(instances: Instances) -> Instances:
    """Return the instances whose masks are not empty: a tiny object may have no pixel at the output size."""
    return instances[instances.pred_masks.flatten(1).any(1)]


def mask_instances(
    logits: Tensor,
    masks: Tensor,
    padded: Size,
    size: Size,
    output: Size,
    count: int,
    threshold: float,
) -> Instances:
    """Return the instances of an image, best first (Mask2Former, appendix "instance segmentation").

    A query may appear with several classes. The score is the class probability times the mean mask
    probability.

    Args:
        logits: ``(Q, K + 1)`` of the classes; the last one means "no object".
        masks: ``(Q, h, w)`` logits.
        padded, size, output: see :func:`resize_masks`.
        count: instances with the highest class probability that are returned.
        threshold: least score.
    """
    probability = logits.softmax(-1)[:, :-1].flatten()
    best, index = probability.topk(min(count, len(probability)))
    index = index[best >= threshold]  # the score is at most the class probability
    classes = logits.shape[1] - 1
    queries, rows = torch.unique(index // classes, return_inverse=True)
    binary, quality = resize_masks(masks[queries], padded, size, output)
    scores = probability[index] * quality[rows]
    order = scores.argsort(descending=True, stable=True)
    order = order[scores[order] >= threshold]
    result = Instances(output)
    result.pred_masks = binary[rows[order]]
    result.pred_boxes = Boxes(mask_boxes(binary)[rows[order]])
    result.scores = scores[order]
    result.pred_classes = index[order] % classes
    return result
