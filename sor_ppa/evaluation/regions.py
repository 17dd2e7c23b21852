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


def regions_of_runs(images: Sequence[tuple[Sequence[NDArray[np.int64]], tuple[int, int]]]) -> list[Regions]:
    """Cut images by run lengths of masks (see ``segmentations.rle_runs``), without decoding them.

    The pixels of all images form one strip. Every run boundary of mask k of an image toggles bit k there.
    Between two boundaries the set of masks is constant.

    Args:
        images: the masks and the (height, width) of each image.
    """
    if not images:
        return []
    totals = np.array([height * width for _, (height, width) in images])
    counts = np.array([len(masks) for masks, _ in images])
    start_of, mask_of = totals.cumsum() - totals, counts.cumsum() - counts
    runs = [own for masks, _ in images for own in masks]
    which = np.repeat(np.arange(len(runs)), [len(own) for own in runs])
    image_of = np.repeat(np.arange(len(images)), counts)
    sizes, image = totals[image_of], image_of[which]
    local = np.concatenate([np.zeros(0, np.int64), *runs]).cumsum() - (sizes.cumsum() - sizes)[which]
    inner = local < sizes[which]  # a boundary at the end would change the next image
    image = image[inner]
    bit = which[inner] - mask_of[image]
    position = np.concatenate([start_of, local[inner] + start_of[image]])
    order = position.argsort(kind="stable")
    start = position[order]
    first = start.searchsorted(start_of)  # of each image, with no mask yet
    owner = np.concatenate([np.arange(len(images)), image])[order]
    length = np.append(start[1:], totals.sum()) - start
    words = [owner]
    for low in range(0, max(1, int(counts.max())), _WORD):
        toggle = np.zeros(len(position), np.uint64)
        inside = (bit >= low) & (bit < low + _WORD)
        toggle[len(images) :][inside] = np.uint64(1) << (bit[inside] - low).astype(np.uint64)
        state = np.bitwise_xor.accumulate(toggle[order])
        words.append(state ^ state[first][owner])
    keep = length > 0
    table, region, pixels = _distinct_sets([word[keep] for word in words], length[keep])
    members, length = _bits(table[:, 1:]), length[keep]
    places = np.arange(len(images) + 1)
    runs_of = owner[keep].searchsorted(places).tolist()
    regions_of = table[:, 0].astype(np.int64).searchsorted(places).tolist()
    found = []
    for place, (masks, size) in enumerate(images):
        rows, cut = slice(*regions_of[place : place + 2]), slice(*runs_of[place : place + 2])
        own = members[rows, : len(masks)]
        found.append(Regions(pixels[rows], own, region[cut] - rows.start, length[cut], size, True))
    return found


def draw_regions(drawing: Drawing, members: NDArray[np.bool_], owner: NDArray[np.int64]) -> NDArray:
    """Return the value (R,) of the last drawn mask that covers each region, 0 where there is none.

    Args:
        drawing: indices (N, K) of masks in drawing order and their values, for each of N images, as a painter
            gives them.
        members: (R, P) bool, whether mask p covers region r.
        owner: (R,) image of each region.
    """
    order, values = (part[:, ::-1] for part in drawing)
    if not order.shape[1]:
        return np.zeros(len(members), np.uint8)
    rows = np.arange(len(members))
    covered = members[rows[:, None], order[owner]]
    top = covered.argmax(axis=1)
    return values[owner, top] * covered[rows, top]


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
    table, region, pixels = _distinct_sets(words, length)
    return Regions(pixels, _bits(table)[:, :count], region, length, size, False)


def _distinct_sets(
    words: Sequence[NDArray], length: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the distinct rows (R, W) of the words (S,) of runs in ascending order, the row of each run (S,),
    and the pixels of each row (R,)."""
    codes, region = _distinct(words[0])
    columns = [codes.astype(np.uint64)]
    for word in words[1:]:
        values, local = _distinct(word)
        pair, region = _distinct(region * len(values) + local)
        before, here = np.divmod(pair.astype(np.int64), len(values))
        columns = [column[before] for column in columns] + [values[here].astype(np.uint64)]
    pixels = np.bincount(region, weights=length, minlength=len(columns[0])).astype(np.int64)
    return np.stack(columns, axis=1), region, pixels


def _distinct(codes: NDArray) -> tuple[NDArray, NDArray[np.int64]]:
    """Return the distinct codes, not negative, in ascending order, and the index of each code in them."""
    highest = int(codes.max())
    if highest >= max(1 << 12, 8 * len(codes)):
        return np.unique(codes, return_inverse=True)
    small = codes.astype(np.int64)  # counting is faster than sorting
    found = np.flatnonzero(np.bincount(small))
    places = np.zeros(highest + 1, np.int64)
    places[found] = np.arange(len(found))
    return found, places[small]


def _bits(table: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Return the bits (R, 64 W) of words (R, W), the lowest of each first."""
    shifts = np.arange(_WORD, dtype=np.uint64)
    return ((table[:, :, None] >> shifts) & np.uint64(1)).astype(np.bool_).reshape(len(table), -1)
