"""Scenes of objects that were cut out of photos."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from sor_ppa.cli.data import add_arguments, run
from sor_ppa.composing import SceneMaterial, scene_scores
from sor_ppa.data.masks import encode_mask, mask_box
from sor_ppa.data.record import ImageRecord, ObjectRecord
from sor_ppa.labeling import LabeledPhoto
from sor_ppa.predictor import SORPredictor
from sor_ppa.visualization.files import read_image, write_image
from tests.fake_model import fake_predictor

HEIGHT, WIDTH = 120, 160
COLORS = ((40, 40, 200), (60, 180, 60))


def disks(*places: tuple[int, int]) -> tuple[NDArray[np.uint8], list[NDArray[np.bool_]]]:
    """Return a gray picture with disks of different colors, and their masks."""
    picture = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
    masks = []
    for place, color in zip(places, COLORS, strict=False):
        mask = cv2.circle(np.zeros((HEIGHT, WIDTH), np.uint8), place, 14, 1, -1) > 0
        picture[mask] = color
        masks.append(mask)
    return picture, masks


def labeled(file: Path, picture: NDArray[np.uint8], masks: list[NDArray[np.bool_]]) -> LabeledPhoto:
    write_image(file, picture[:, :, ::-1])
    boxes = [tuple(map(float, mask_box(mask) or ())) for mask in masks]
    objects = tuple(
        ObjectRecord(box, encode_mask(mask), i)
        for i, (box, mask) in enumerate(zip(boxes, masks, strict=True))
    )
    covered = np.any(masks, axis=0)
    return LabeledPhoto(
        ImageRecord(str(file), HEIGHT, WIDTH, objects, 1), picture, (0.9,) * len(masks), covered
    )


@pytest.fixture
def material(tmp_path: Path) -> SceneMaterial:
    found = SceneMaterial()
    found.add(labeled(tmp_path / "a.png", *disks((40, 60), (110, 60))))
    return found


def test_single_objects_are_cut_out_and_groups_are_not(tmp_path: Path, material: SceneMaterial) -> None:
    assert [piece.mask.shape for piece in material.objects] == [(29, 29)] * 2
    picture, (left, right) = disks((60, 60), (80, 60))
    group = SceneMaterial()
    group.add(labeled(tmp_path / "b.png", picture, [left | right]))
    assert not group.objects, "two hues in one mask"


def test_scenes_have_exact_masks_and_the_order_of_the_scores(tmp_path: Path, material: SceneMaterial) -> None:
    def reddest(image: NDArray[np.uint8], masks: NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.array([image[mask][:, 2].mean() for mask in masks])

    records = list(material.scenes(5, tmp_path / "scenes", reddest))
    assert [Path(record.file_name).name for record in records] == [f"{i:05d}.jpg" for i in range(5)]
    for record in records:
        picture, masks = read_image(record.file_name), record.masks()
        assert masks.sum(axis=0).max() == 1, "masks are the visible parts"
        away = ~(cv2.dilate(masks.any(axis=0).astype(np.uint8), np.ones((9, 9))) > 0)
        assert np.abs(picture[away].astype(int) - 120).mean() < 8, "objects of the background are gone"
        ranks = [item.rank for item in record.objects]
        reds = [picture[mask][:, 2].mean() for mask in masks]
        assert np.argmax(ranks) in np.flatnonzero(np.array(reds) > max(reds) - 30)


def test_objects_that_fit_nowhere_are_an_error(tmp_path: Path, material: SceneMaterial) -> None:
    material.backgrounds = [(tmp_path / "c.png", encode_mask(np.zeros((12, 12), bool)))]
    write_image(tmp_path / "c.png", np.full((12, 12, 3), 90, np.uint8))
    with pytest.raises(ValueError, match="found none"):
        next(material.scenes(1, tmp_path / "scenes", lambda image, masks: np.zeros(len(masks))))


def test_a_scene_depends_on_seed_and_number_alone(tmp_path: Path, material: SceneMaterial) -> None:
    def equal(image: NDArray[np.uint8], masks: NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.zeros(len(masks))

    few, many = (list(material.scenes(n, tmp_path / str(n), equal)) for n in (2, 3))
    assert [item.objects for item in few] == [item.objects for item in many[:2]]
    assert read_image(few[1].file_name).tolist() == read_image(many[1].file_name).tolist()


def test_no_material(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected single objects in the photos, found none"):
        next(SceneMaterial().scenes(1, tmp_path, lambda image, masks: np.zeros(len(masks))))


def test_contrast_orders_given_objects_and_others_do_not() -> None:
    score = scene_scores(SORPredictor.from_pretrained("contrast"))
    picture, masks = disks((80, 60), (20, 20))
    picture[masks[1]] = 128  # hardly visible
    first, second = score(picture, np.array(masks))
    assert first > second
    with pytest.raises(ValueError, match="expected contrast as teacher, found"):
        scene_scores(fake_predictor())


def test_the_command_writes_photos_and_scenes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import argparse

    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(3):
        write_image(photos / f"{index}.png", disks((60 + 20 * index, 60))[0])
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    output = tmp_path / "mine"
    arguments = [
        "label",
        str(photos),
        "--output",
        str(output),
        "--scenes",
        "4",
        "--confidence-threshold",
        "0.05",
    ]
    assert run(parser.parse_args(arguments)) == 0
    assert "dataset mine_scenes: 4 scenes made of" in capsys.readouterr().out
    assert run(parser.parse_args(["check", "mine_scenes", "--root", str(tmp_path)])) == 0
    assert "4 usable images" in capsys.readouterr().out
