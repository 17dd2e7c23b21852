"""What must hold for any scene."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sor_ppa.evaluation import PUBLISHED, ImageScores, RankingScorer, find_variant, sa_sor, sor
from sor_ppa.evaluation.group import Group, put_into_groups
from sor_ppa.evaluation.image import ImageRuns
from sor_ppa.evaluation.segmentations import encode_masks, rle_runs

from .cases import blobs, boxes

SEEDS = st.integers(0, 2**32 - 1)
LIST_ORDER = {"irsr_levels", "qagnet_levels"}  # paint in list order by definition
ALL = [(metric, name) for metric, names in PUBLISHED.items() for name in names]
GRID = boxes(*((6 * r, 8 * c, 6 * r + 5, 8 * c + 7) for r in range(4) for c in range(4)), size=(24, 32))
MATCHING = ["irsr", "psr_iou0.1", "sr_script", "seqrank", "sr_deprecated", "sr_old@qagnet_n"]
SPEARMAN = ["assr@assr", "qagnet@qagnet10", "ijcv@assr_ijcv", "psr@area", "seqrank", "sr_old@qagnet_n"]


def scene(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Objects, ranks, predictions near them and elsewhere, scores without ties."""
    generator = np.random.default_rng(seed)
    gt = blobs(generator, int(generator.integers(0, 6)))
    near = np.roll(gt, tuple(generator.integers(-1, 2, 2)), (1, 2))[generator.random(len(gt)) < 0.8]
    pred = np.concatenate([near, blobs(generator, int(generator.integers(0, 4)))])
    return gt, generator.permutation(len(gt)), pred, generator.permutation(len(pred)) / 10


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_the_order_of_predictions_does_not_matter(seed):
    gt, ranks, pred, scores = scene(seed)
    order = np.random.default_rng(seed + 1).permutation(len(pred))
    image = ImageScores.from_masks(gt, ranks, pred, scores, scores)
    other = ImageScores.from_masks(gt, ranks, pred[order], scores[order], scores[order])
    for metric, name in ALL:
        if name not in LIST_ORDER:
            a, b = find_variant(metric, name).score(image), find_variant(metric, name).score(other)
            assert a == (b if b.value is None else b._replace(value=pytest.approx(b.value))), name


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_run_length_masks_and_monotone_changes_of_scores_change_nothing(seed):
    gt, ranks, pred, scores = scene(seed)
    image = ImageScores.from_masks(gt, ranks, pred, scores, scores)
    rles = ImageScores.from_rles(encode_masks(gt), ranks, encode_masks(pred), scores, (24, 32), scores)
    for other in (rles, image.with_scores(np.exp(3 * scores) - 7)):
        for metric, name in ALL:
            assert find_variant(metric, name).score(image) == find_variant(metric, name).score(other), name


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize(
    ("function", "name", "reversed_value"),
    [*((sa_sor, name, -1) for name in MATCHING), *((sor, name, 0) for name in SPEARMAN)],
)
def test_perfect_ranks_give_1_and_reversed_ranks_the_lowest_value(count, function, name, reversed_value):
    masks, ranks = GRID[:count], np.arange(count)
    assert function(masks, ranks, masks, ranks, variant=name).value == pytest.approx(1)
    assert function(masks, ranks, masks, -ranks, variant=name).value == pytest.approx(reversed_value)


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.integers(1, 4))
def test_any_split_over_processes_gives_the_same_bits(seed, parts):
    generator = np.random.default_rng(seed)
    images = [ImageScores.from_masks(*scene(int(s))) for s in generator.integers(0, 1000, 8)]
    whole = RankingScorer()
    for image in images:
        whole.add_image(image)
    pieces = [RankingScorer() for _ in range(parts)]
    for place in generator.permutation(len(images)):
        pieces[place % parts].add_image(images[place])
    merged = RankingScorer()
    for piece in pieces:
        merged.merge(RankingScorer.from_state(piece.state()))
    assert merged.result() == whole.result()


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(1, 140))
def test_regions_partition_the_image_for_any_number_of_masks(seed, count):
    generator = np.random.default_rng(seed)
    masks = generator.random((count, 7, 9)) < generator.random()
    image = ImageScores.from_masks(masks, np.zeros(count, int), masks[:0], [])
    assert image.regions.pixels.sum() == 63
    assert np.array_equal(image.group.gt_areas[0], masks.sum(axis=(1, 2)))
    for place in range(0, count, 17):
        assert np.array_equal(image.regions.image(image.gt[:, place]), masks[place])


@settings(max_examples=20, deadline=None)
@given(st.lists(SEEDS, min_size=2, max_size=5))
def test_images_in_a_group_score_as_each_alone(seeds):
    scenes = [scene(seed) for seed in seeds]
    together = [ImageScores.from_masks(gt, ranks, pred, scores, scores) for gt, ranks, pred, scores in scenes]
    Group(together)
    runs = [
        ImageRuns(*(_runs(gt), ranks, _runs(pred)), *(scores, scores), (24, 32))
        for gt, ranks, pred, scores in scenes
    ]
    for (gt, ranks, pred, scores), *images in zip(scenes, together, ImageScores.from_runs(runs), strict=True):
        alone = ImageScores.from_masks(gt, ranks, pred, scores, scores)
        for metric, name in ALL:
            expected = find_variant(metric, name).score(alone)
            for image in images:
                found = find_variant(metric, name).score(image)
                assert found == (
                    expected
                    if expected.value is None
                    else expected._replace(value=pytest.approx(expected.value))
                ), name


def test_a_group_is_freed_with_its_images():
    gc.disable()
    try:
        images = [ImageScores.from_masks(*scene(seed)) for seed in range(3)]
        Group(images)
        for image in images:
            RankingScorer(variants={"sor": ["assr@assr", "ppa@area"]}).score(image)
            image.as_map("assr")
        group = weakref.ref(images[0].group)
        del image, images
        assert group() is None
    finally:
        gc.enable()


def test_groups_are_bounded_and_known_overlaps_are_those_of_the_masks(monkeypatch):
    monkeypatch.setattr("sor_ppa.evaluation.group._MOST_CELLS", 300)
    images = [ImageScores.from_masks(*scene(seed)) for seed in range(12)]
    put_into_groups(images)
    assert 1 < len({id(image.group) for image in images}) < len(images)
    for image in images:
        kept = np.arange(image.n_pred) % 2 == 0
        part = image.with_predictions(kept)
        assert (part.n_gt, part.n_pred) == (image.n_gt, kept.sum())
        assert np.array_equal(part.group.overlaps, replace(part, overlaps=None).group.overlaps)


def _runs(masks):
    """Return run lengths, with a run of no pixels at the end, as some programs write them."""
    return [np.append(rle_runs(rle, masks.shape[1:], ""), 0) for rle in encode_masks(masks)]


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.lists(st.integers(0, 140), min_size=1, max_size=4))
def test_run_lengths_of_many_images_give_the_regions_of_their_masks(seed, counts):
    generator = np.random.default_rng(seed)
    stacks = [
        generator.random((count, *generator.integers(1, 9, 2))) < generator.random() for count in counts
    ]
    images = [
        ImageRuns(_runs(masks), np.zeros(len(masks), int), [], np.zeros(0), None, masks.shape[1:])
        for masks in stacks
    ]
    for masks, image in zip(stacks, ImageScores.from_runs(images), strict=True):
        assert image.regions.n_pixels == image.regions.pixels.sum() == masks[:1].size or not len(masks)
        for place, mask in enumerate(masks):
            assert np.array_equal(image.regions.image(image.gt[:, place]), mask)
