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
    first, second = agreed_objects(*views(20, 60))
    assert (first.rank, second.rank) == (1, 0)
    assert first.box == (20.0, 5.0, 30.0, 15.0)
    assert mask_util.decode(first.segmentation).sum() == 100


def test_an_object_of_one_view_is_a_crowd():
    for lefts, mirrored in (((20, 60), (20,)), ((20,), (20, 60))):
        agreed, doubtful = agreed_objects(*views(*lefts, mirrored=mirrored))
        assert (agreed.box[0], agreed.iscrowd) == (20, False)
        assert (doubtful.box[0], doubtful.iscrowd) == (60, True)


def test_views_without_agreed_objects_give_no_labels():
    assert agreed_objects(*views(20, mirrored=(60,))) == ()
    assert agreed_objects(*views(20, mirrored=())) == ()


def test_an_object_is_a_crowd_if_another_one_is_a_large_part_of_it():
    pair, one, whole = np.zeros((3, 30, 100), bool)
    pair[5:15, 20:40] = one[5:15, 31:40] = whole[5:15, 60:70] = True
    picture = noise(30, 100)
    mirrored = ranked_image(picture, np.stack([pair, one, whole])[:, :, ::-1].copy())
    objects = agreed_objects(ranked_image(picture, np.stack([pair, whole])), mirrored)
    assert [(item.box[0], item.iscrowd) for item in objects] == [(60, False), (20, True), (31, True)]


def test_objects_whose_order_differs_between_the_views_tie():
    assert [item.rank for item in agreed_objects(*views(20, 60, mirrored=(60, 20)))] == [0, 0]


def test_objects_are_agreed_from_a_confidence_and_an_overlap():
    plain, mirrored = views(20, 60)
    doubtful = replace(plain, objects=(plain.objects[0], replace(plain.objects[1], score=0.2)))
    assert [item.iscrowd for item in agreed_objects(doubtful, mirrored, score=0.5)] == [False, True]
    assert len(agreed_objects(*views(20, mirrored=(24,)), overlap=0.3)) == 1
    assert len(agreed_objects(*views(20, mirrored=(24,)), overlap=0.7)) == 0
