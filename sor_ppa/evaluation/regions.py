"""An image cut into regions, each covered by one set of masks.

Every metric on binary masks depends only on how many pixels each *set of masks* covers. An image of 300,000
pixels has a few dozen such sets, so the metrics are exact integer arithmetic on a small table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..visualization.rank_maps import Drawing

UInt8Array = NDArray[np.uint8]
_WORD = 64  # masks per code word


@dataclass(frozen=True, slots=True)
class Regions:
    """The distinct sets of masks in an image.

    Attributes:
        pixels: (R,) int64, pixels of each region; they sum to ``height * width``.
        members: (R, K) bool, whether mask k covers region r.
        run_region: (S,) region of each run of equal pixels in scan order.
        run_length: (S,) pixels of each run.
        size: (height, width).
        column_major: the scan order of the runs.
    """

    pixels: NDArray[np.int64]
    members: NDArray[np.bool_]
    run_region: NDArray[np.int64]
    run_length: NDArray[np.int64]
    size: tuple[int, int]
    column_major: bool

    @property
    def n_pixels(self) -> int:
        """height * width."""
        return self.size[0] * self.size[1]

    def image(self, values: NDArray) -> NDArray:
        """Return the (height, width) image that holds ``values[r]`` (R,) at every pixel of region r."""
        flat = np.repeat(values[self.run_region], self.run_length)
        height, width = self.size
        return flat.reshape(width, height).T if self.column_major else flat.reshape(height, width)


def regions_of_masks(masks: Sequence[UInt8Array], size: tuple[int, int]) -> Regions:
    """Cut an image of ``size`` (height, width) by K masks of that shape, uint8 holding 0 and 1."""
    planes = [_pack(masks[first : first + 8]) for first in range(0, len(masks), 8)]
    return _from_planes(planes, len(masks), size)


def regions_of_masks_and_map(
    masks: Sequence[UInt8Array], gray: UInt8Array, size: tuple[int, int]
) -> tuple[Regions, UInt8Array]:
    """Cut an image by masks and a gray map; return the regions and the gray value (R,) of each."""
    planes = [np.ascontiguousarray(gray).reshape(-1)]
    planes += [_pack(masks[first : first + 8]) for first in range(0, len(masks), 8)]
    regions = _from_planes(planes, 8 + len(masks), size)
    values = np.packbits(regions.members[:, :8], axis=1, bitorder="little")[:, 0]
    return replace(regions, members=regions.members[:, 8:]), values


def regions_of_runs(runs: Sequence[NDArray[np.int64]], size: tuple[int, int]) -> Regions:
    """Cut an image by run lengths of K masks (see ``segmentations.rle_runs``), without decoding them.

    Every run boundary of mask k toggles bit k. Between two boundaries the set of masks is constant.
    """
    total = size[0] * size[1]
    edges = [np.cumsum(run)[:-1] for run in runs]
    position = np.concatenate([np.zeros(1, np.int64), *edges])
    mask = np.repeat(np.arange(len(runs)), [len(edge) for edge in edges])
    order = np.argsort(position, kind="stable")
    start = position[order]
    length = np.diff(start, append=total)
    words = []
    for first in range(0, max(1, len(runs)), _WORD):
        inside = (mask >= first) & (mask < first + _WORD)
        toggle = np.zeros(len(position), np.uint64)
        toggle[1:][inside] = np.left_shift(np.uint64(1), (mask[inside] - first).astype(np.uint64))
        words.append(np.bitwise_xor.accumulate(toggle[order]))
    keep = length > 0
    return _from_runs([word[keep] for word in words], length[keep], len(runs), size, by_column=True)


def draw_regions(drawing: Drawing, members: NDArray[np.bool_]) -> NDArray:
    """Return the value (R,) of the last drawn mask that covers each region, 0 where there is none.

    Args:
        drawing: indices in drawing order and their values, as a painter gives them.
        members: (R, N) bool, whether mask n covers region r.
    """
    order, values = drawing
    if len(order) == 0:
        return np.zeros(len(members), np.uint8)
    top_first = members[:, order[::-1]]
    return np.where(top_first.any(axis=1), values[::-1][top_first.argmax(axis=1)], np.uint8(0))


def _pack(masks: Sequence[UInt8Array]) -> UInt8Array:
    """Pack up to eight 0/1 images into one byte a pixel: mask k becomes bit k."""
    packed = np.array(masks[-1], dtype=np.uint8, order="C").reshape(-1)
    for mask in masks[-2::-1]:
        np.add(packed, packed, out=packed)
        np.bitwise_or(packed, np.ascontiguousarray(mask).reshape(-1), out=packed)
    return packed


def _from_planes(planes: list[UInt8Array], count: int, size: tuple[int, int]) -> Regions:
    total = size[0] * size[1]
    changed = np.zeros(total, np.bool_)
    changed[0] = True
    for plane in planes:
        changed[1:] |= plane[1:] != plane[:-1]
    start = np.flatnonzero(changed)
    length = np.diff(start, append=total)
    words = []
    for first in range(0, max(1, len(planes)), 8):
        code = np.zeros(len(start), np.uint64)
        for place, plane in enumerate(planes[first : first + 8]):
            code |= plane[start].astype(np.uint64) << np.uint64(8 * place)
        words.append(code)
    return _from_runs(words, length, count, size, by_column=False)


def _distinct(codes: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the distinct codes in ascending order, and the index of each code in them."""
    highest = int(codes.max())
    if highest >= 1 << 12:
        return np.unique(codes, return_inverse=True)
    small = codes.astype(np.int64)  # of a few masks: counting is faster than sorting
    found = np.flatnonzero(np.bincount(small))
    places = np.zeros(highest + 1, np.int64)
    places[found] = np.arange(len(found))
    return found.astype(np.uint64), places[small]


def _from_runs(
    words: list[NDArray], length: NDArray[np.int64], count: int, size: tuple[int, int], by_column: bool
) -> Regions:
    codes, region = _distinct(words[0])
    columns = [codes]
    for word in words[1:]:
        values, local = np.unique(word, return_inverse=True)
        pair, region = np.unique(region * len(values) + local, return_inverse=True)
        before, here = np.divmod(pair, len(values))
        columns = [column[before] for column in columns] + [values[here]]
    table = np.stack(columns, axis=1)
    shifts = np.arange(_WORD, dtype=np.uint64)
    members = ((table[:, :, None] >> shifts) & np.uint64(1)).astype(np.bool_)
    pixels = np.bincount(region, weights=length, minlength=len(table)).astype(np.int64)
    members = members.reshape(len(table), -1)[:, :count]
    return Regions(pixels, members, region, length, size, by_column)
