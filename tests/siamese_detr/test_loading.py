"""From a folder of images to batches of views: listing, proposals, mapping."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from sor_ppa.data.unlabelled import (
    ProposalCache,
    build_proposal_cache,
    list_images,
    register_folders,
    unlabelled_records,
)
from sor_ppa.siamese_detr.loading import ViewDataset, build_pretraining_loader
from sor_ppa.siamese_detr.view_mapper import TwoViewMapper
from sor_ppa.siamese_detr.views import cut_two_views, outer_rectangle, resized_shape

from .tiny import tiny_cfg


def scribble(path, height=60, width=80, seed=0):
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "images"
    (root / "b").mkdir(parents=True)
    for index, name in enumerate(("z.jpg", "a.PNG", "b/c.jpeg", ".hidden.png", "b/notes.txt")):
        if name.endswith("txt"):
            (root / name).write_text("no image")
        else:
            scribble(root / name, seed=index)
    return root


def propose(path):
    """Two boxes, or none for c.jpeg; z.jpg cannot be read."""
    if path.endswith("c.jpeg"):
        return np.zeros((0, 4)), np.zeros(0)
    if path.endswith("z.jpg"):
        raise OSError("broken")
    return np.array([[0, 0, 80, 60], [5, 6, 70, 50]]), np.array([0.5, 0.25])


def test_images_are_found_below_the_folder_in_order(folder):
    assert [p.removeprefix(str(folder)) for p in list_images(folder)] == ["/a.PNG", "/b/c.jpeg", "/z.jpg"]


def test_a_missing_or_empty_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere: expected .*, found no such folder"):
        list_images(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"expected files ending in .*, found no image"):
        list_images(tmp_path)


def test_folders_are_datasets(folder):
    from detectron2.data import DatasetCatalog, MetadataCatalog

    name = f"folder://{folder}"
    register_folders((name, "something_else"))
    register_folders((name,))
    assert DatasetCatalog.get(name) == unlabelled_records((name,))
    assert MetadataCatalog.get(name).thing_classes == ["unlabelled"]
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def test_the_cache_holds_every_image_in_order(folder, tmp_path):
    cache = build_proposal_cache(list_images(folder), tmp_path / "cache", propose, {"method": "x"}, workers=1)
    assert len(cache) == 3
    assert cache.counts().tolist() == [2, 0, 0]
    assert cache.boxes(0).tolist() == [[0, 0, 80, 60], [5, 6, 70, 50]]
    assert cache.scores(0).tolist() == [0.5, 0.25]
    assert cache.boxes(1).shape == (0, 4)
    assert pickle.loads(pickle.dumps(cache)).counts().tolist() == [2, 0, 0]


def test_a_finished_cache_is_not_computed_again(folder, tmp_path):
    files = list_images(folder)
    build_proposal_cache(files, tmp_path / "cache", propose, {}, workers=1)

    def fail(path):
        raise AssertionError(path)

    assert len(build_proposal_cache(files, tmp_path / "cache", fail, {}, workers=1)) == 3


def test_an_interrupted_cache_goes_on(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("sor_ppa.data.unlabelled._PART", 1)
    files = list_images(folder)
    done = []

    def stop_at_second(path):
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(path)
        return propose(path)

    with pytest.raises(KeyboardInterrupt):
        build_proposal_cache(files, tmp_path / "cache", stop_at_second, {}, workers=1)
    with pytest.raises(FileNotFoundError, match="expected a finished proposal cache"):
        ProposalCache(tmp_path / "cache")
    rest = []

    def go_on(path):
        rest.append(path)
        return propose(path)

    cache = build_proposal_cache(files, tmp_path / "cache", go_on, {}, workers=1)
    assert rest == files[1:]
    assert cache.counts().tolist() == [2, 0, 0]


def test_several_processes_give_the_same(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("sor_ppa.data.unlabelled._PART", 1)
    cache = build_proposal_cache(list_images(folder), tmp_path / "cache", propose, {}, workers=2)
    assert cache.counts().tolist() == [2, 0, 0]


def test_a_cache_of_other_settings_or_images_is_refused(folder, tmp_path):
    files = list_images(folder)
    build_proposal_cache(files, tmp_path / "cache", propose, {"method": "x"}, workers=1)
    with pytest.raises(ValueError, match=r"field 'method': expected 'y', found 'x'"):
        build_proposal_cache(files, tmp_path / "cache", propose, {"method": "y"}, workers=1)
    with pytest.raises(ValueError, match=r"field 'images': expected 2, found 3"):
        build_proposal_cache(files[:2], tmp_path / "cache", propose, {"method": "x"}, workers=1)


def test_a_damaged_cache_is_named(folder, tmp_path):
    files = list_images(folder)
    build_proposal_cache(files, tmp_path / "cache", propose, {}, workers=1)
    (tmp_path / "cache" / "000000000.npz").write_bytes(b"no archive" * 100)
    with pytest.raises(ValueError, match=r"000000000\.npz: .* found a damaged file .*; remove it"):
        build_proposal_cache(files, tmp_path / "cache", propose, {}, workers=1)


def test_the_cache_of_an_image_that_changed_is_refused(folder, tmp_path):
    files = list_images(folder)
    build_proposal_cache(files, tmp_path / "cache", propose, {}, workers=1)
    scribble(files[0], 90, 90)
    with pytest.raises(ValueError, match=r"field 'names'"):
        build_proposal_cache(files, tmp_path / "cache", propose, {}, workers=1)


def test_a_moved_folder_keeps_its_cache(folder, tmp_path):
    build_proposal_cache(list_images(folder), tmp_path / "cache", propose, {}, workers=1)
    folder.rename(tmp_path / "elsewhere")
    files = list_images(tmp_path / "elsewhere")
    assert len(build_proposal_cache(files, tmp_path / "cache", propose, {}, workers=1)) == 3


def make_mapper(proposals=None, **views):
    cfg = tiny_cfg("SiameseDETR")
    cfg.INPUT.TWO_VIEWS.MIN_SIZES = [64, 80]
    for key, value in views.items():
        cfg.INPUT.TWO_VIEWS[key] = value
    return TwoViewMapper(cfg, proposals)


@pytest.mark.parametrize("size", [(60, 80), (300, 40), (7, 400), (1, 1)])
def test_samples_of_any_size_are_well_formed(tmp_path, size):
    path = tmp_path / "a.png"
    scribble(path, *size)
    mapper = make_mapper()
    np.random.seed(0)
    found = [mapper({"file_name": str(path), "image_id": 3, "proposal_row": 0}) for _ in range(8)]
    samples = [s for s in found if s is not None]
    assert samples or min(size) < 60
    for sample in samples:
        views, boxes = sample["views"], sample["boxes"]
        assert views.dtype == torch.uint8
        assert boxes.shape == (2, 10, 4)
        assert sample["crops"].shape == (2, 10, 3, 128, 128)
        limit = torch.tensor([views.shape[-1], views.shape[-2]] * 2)
        assert (boxes >= 0).all()
        assert (boxes <= limit).all()
        assert (boxes[..., 2:] >= boxes[..., :2]).all()


def test_regions_show_the_same_pixels_in_both_views(tmp_path):
    """A smooth picture: a region cut from either view looks the same."""
    y, x = np.mgrid[:200, :300]
    ramp = np.stack((x * 255 / 299, y * 255 / 199, (x + y) * 255 / 498), axis=-1).astype(np.uint8)
    path = tmp_path / "ramp.png"
    Image.fromarray(ramp).save(path)
    np.random.seed(1)
    sample = make_mapper(PHOTOMETRIC=False, MIN_SIZES=[200])(
        {"file_name": str(path), "image_id": 0, "proposal_row": 0}
    )
    first, second = sample["crops"].float()
    assert (first - second).abs().mean() < 3


def test_an_unreadable_image_is_passed_over(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no image")
    assert make_mapper()({"file_name": str(tmp_path / "a.jpg"), "image_id": 0, "proposal_row": 0}) is None


def test_views_have_the_wanted_overlap():
    rng = np.random.default_rng(0)
    for iou in (0.1, 0.5, 0.9, 1.0):
        assert cut_two_views((10, 20, 110, 80), iou, False, rng).iou == pytest.approx(iou)
        assert cut_two_views((10, 20, 110, 80), iou, True, rng).iou >= iou - 1e-9


def test_an_image_that_no_rectangle_fits_gives_its_centre():
    rng = np.random.default_rng(0)
    left, top, right, bottom = outer_rectangle(400, 10, (0.99, 1.0), (0.75, 4 / 3), rng)
    assert (top, bottom) == (0, 10)
    assert (right - left) == 13
    assert left == (400 - 13) // 2


def test_sizes_never_fall_below_a_pixel():
    assert resized_shape(5000, 1, 320, 600) == (5000, 1) or min(resized_shape(5000, 1, 320, 600)) >= 1


def test_the_loader_makes_batches_of_a_folder(folder, tmp_path):
    cfg = tiny_cfg("SiameseDETR")
    cfg.OUTPUT_DIR = str(tmp_path / "out")
    cfg.DATASETS.TRAIN = (f"folder://{folder}",)
    cfg.INPUT.TWO_VIEWS.MIN_SIZES = [64]
    cfg.INPUT.TWO_VIEWS.PROPOSALS.METHOD = "random"
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.DATALOADER.NUM_WORKERS = 0
    batch = next(iter(build_pretraining_loader(cfg)))
    assert len(batch) == 2
    assert batch[0]["views"].shape[:2] == (2, 3)


def test_an_image_without_a_sample_is_replaced():
    records = [{"image_id": 0}, {"image_id": 1}]
    dataset = ViewDataset(records, lambda record: record if record["image_id"] == 1 else None)
    np.random.seed(0)
    assert [dataset[0]["image_id"] for _ in range(5)] == [1] * 5


def test_images_without_any_sample_are_refused():
    with pytest.raises(ValueError, match=r"DATASETS\.TRAIN: expected readable images"):
        ViewDataset([{"image_id": 0}], lambda record: None)[0]
