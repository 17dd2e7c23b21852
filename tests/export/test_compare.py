"""How well the results of two runtimes agree."""

from __future__ import annotations

import numpy as np

from sor_ppa.export.compare import compare_results
from sor_ppa.results import RankedImage
from tests.ranked import noise, ranked_image


def squares(*lefts: int) -> RankedImage:
    """The result for squares of 8 pixels, the first one the most salient."""
    masks = np.zeros((len(lefts), 12, 60), np.bool_)
    for mask, left in zip(masks, lefts, strict=True):
        mask[2:10, left : left + 8] = True
    return ranked_image(noise(12, 60), masks)


def test_the_same_results_are_equal() -> None:
    agreement = compare_results([(squares(0, 20, 40), squares(0, 20, 40)), (squares(), squares())])
    assert agreement.equal
    assert (agreement.pictures, agreement.same_ranks, agreement.box_error) == (2, 1.0, 0.0)


def test_another_order_another_number_and_moved_objects_are_counted() -> None:
    first = squares(0, 20)
    others = [squares(20, 0), squares(0), squares(0, 21), squares()]
    agreement = compare_results([(first, other) for other in others])
    assert (agreement.same_objects, agreement.same_ranks) == (0.5, 0.25)
    assert agreement.box_error == 1.0
    assert 0.7 < agreement.mask_iou < 0.8
    assert not agreement.equal
