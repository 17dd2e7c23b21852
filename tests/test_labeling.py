"""Labels from two views of a photo."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pycocotools import mask as mask_util

from sor_ppa.labeling import agreed_objects
from tests.ranked import noise, ranked_image


def views(*lefts: int, mirrored: tuple[int, ...] | None = None):
    """Results of a picture with 10-pixel squares at these places, most salient first, and of its mirror."""
    results = []
    for places, flip in ((lefts, False), (lefts if mirrored is None else mirrored, True)):
        masks = np.zeros((len(places), 30, 100), bool)
        for mask, left in zip(masks, places, strict=True):
            mask[5:15, left : left + 10] = True
        results.append(ranked_image(noise(30, 100), masks[:, :, ::-1].copy() if flip else masks))
    return results


def test_agreed_objects_have_masks_boxes_and_dense_ranks_of_the_plain_view():
    (first, second), overlaps = agreed_objects(*views(20, 60))
    assert (first.rank, second.rank) == (1, 0)
    assert first.box == (20.0, 5.0, 30.0, 15.0)
    assert mask_util.decode(first.segmentation).sum() == 100
    assert overlaps == (1, 1)


def test_an_object_that_one_view_misses_is_left_out():
    assert len(agreed_objects(*views(20, 60, mirrored=(20,)))[0]) == 1
    assert agreed_objects(*views(20, mirrored=(60,))) == ((), ())
    assert agreed_objects(*views(20, mirrored=())) == ((), ())


def test_objects_whose_order_differs_between_the_views_tie():
    assert [item.rank for item in agreed_objects(*views(20, 60, mirrored=(60, 20)))[0]] == [0, 0]


def test_doubtful_objects_are_left_out():
    plain, mirrored = views(20, 60)
    doubtful = replace(plain, objects=(plain.objects[0], replace(plain.objects[1], score=0.2)))
    assert len(agreed_objects(doubtful, mirrored, score=0.5)[0]) == 1
    assert len(agreed_objects(*views(20, mirrored=(24,)), overlap=0.3)[0]) == 1
    assert len(agreed_objects(*views(20, mirrored=(24,)), overlap=0.7)[0]) == 0
