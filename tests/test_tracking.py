"""Identities and steady ranks over frames."""

from __future__ import annotations

import numpy as np

from sor_ppa.tracking import Tracker
from tests.ranked import ranked_image

COLORS = ((200, 30, 30), (30, 200, 30), (30, 30, 200))


def frame(boxes: list[tuple[int, int]], order: list[int], colors=COLORS):
    """A picture with a 20-pixel square of its own color at each place, and its result in that order."""
    picture = np.full((80, 200, 3), 90, np.uint8)
    masks = np.zeros((len(boxes), 80, 200), bool)
    for mask, (left, top), color in zip(masks, boxes, colors, strict=False):
        mask[top : top + 20, left : left + 20] = True
        picture[mask] = color
    return ranked_image(picture[:, :, ::-1], masks[order]), picture


def test_objects_keep_their_identity_while_they_move_and_change_places():
    tracker = Tracker()
    first = tracker.update(*frame([(10, 10), (100, 10)], [0, 1]))
    for step in range(1, 10):
        moved = tracker.update(*frame([(10 + 4 * step, 10), (100 - 4 * step, 10 + 2 * step)], [1, 0]))
    assert {t.track for t in first} == {t.track for t in moved}
    assert moved[0].track == first[1].track


def test_color_decides_where_boxes_overlap_alike():
    tracker = Tracker()
    first = tracker.update(*frame([(50, 10), (66, 10)], [0, 1]))
    # both moved by the distance between them, so overlap alone would swap the second for the first
    second = tracker.update(*frame([(58, 10), (74, 10)], [0, 1]))
    assert [t.track for t in second] == [t.track for t in first]


def test_a_single_swap_does_not_flicker_and_a_lasting_one_counts():
    tracker = Tracker()
    boxes = [(10, 10), (100, 10)]
    for _ in range(10):
        tracker.update(*frame(boxes, [0, 1]))
    swapped = tracker.update(*frame(boxes, [1, 0]))
    assert [t.rank for t in swapped] == [2, 1]  # the first object of the result is still second
    for _ in range(20):
        swapped = tracker.update(*frame(boxes, [1, 0]))
    assert [t.rank for t in swapped] == [1, 2]


def test_a_hidden_object_comes_back_as_itself_or_after_long_as_a_new_one():
    tracker = Tracker(patience=3)
    boxes = [(10, 10), (100, 10)]
    first = tracker.update(*frame(boxes, [0, 1]))
    for _ in range(3):
        tracker.update(*frame(boxes[:1], [0]))
    back = tracker.update(*frame(boxes, [0, 1]))
    assert [t.track for t in back] == [t.track for t in first]
    for _ in range(5):
        tracker.update(*frame(boxes[:1], [0]))
    later = tracker.update(*frame(boxes, [0, 1]))
    assert later[1].track not in {t.track for t in first}


def test_ranks_are_dense_and_empty_frames_are_fine():
    tracker = Tracker()
    tracker.update(*frame([(10, 10), (60, 10), (120, 10)], [0, 1, 2]))
    assert tracker.update(*frame([], [])) == []
    two = tracker.update(*frame([(10, 10), (60, 10)], [0, 1]))
    assert [t.rank for t in two] == [1, 2]
