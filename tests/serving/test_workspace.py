"""Photos and documents on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sor_ppa.serving.errors import RequestRefused
from sor_ppa.serving.limits import Limits
from sor_ppa.serving.workspace import Workspace

from .running import document, encoded


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    workspace = Workspace(tmp_path, Limits(pixels=10_000))
    yield workspace
    workspace.close()


def test_photos_of_the_folder_are_shown(workspace: Workspace) -> None:
    for name in ("b.png", "images/a.png", "images/b.png", "Zoë & co.png", "notes.txt", "broken.png"):
        (workspace.folder / name).write_bytes(encoded() if name != "broken.png" else b"x")
    (workspace.folder / "large.png").write_bytes(encoded(101, 100))
    photos = workspace.photos().values()
    assert [photo.name for photo in photos] == ["Zoë & co.png", "a.png", "b.png"]
    assert [photo.path.parent.name for photo in photos][1:] == ["images", "images"]


def test_ids_are_plain_and_stay(workspace: Workspace) -> None:
    for name in ("a.png", "ä.png", "ö.png"):
        (workspace.images / name).write_bytes(encoded())
    ids = list(workspace.photos())
    assert all(identifier.isascii() and "/" not in identifier for identifier in ids)
    assert len(set(ids)) == 3
    assert ids[0] == "a.png"
    assert list(workspace.photos()) == ids


def test_sizes_are_those_after_rotation(workspace: Workspace) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(workspace.images / "a.jpg", exif=exif)
    photo = workspace.photo("a.jpg")
    assert (photo.height, photo.width) == (30, 20)
    assert workspace.pixels(photo).shape == (30, 20, 3)


def test_a_new_photo_is_seen_and_a_deleted_one_is_not(workspace: Workspace) -> None:
    path = workspace.images / "a.png"
    path.write_bytes(encoded())
    assert workspace.photo("a.png").width == 80
    path.unlink()
    with pytest.raises(RequestRefused, match="photo: expected one of"):
        workspace.photo("a.png")


def test_a_changed_photo_is_decoded_again(workspace: Workspace) -> None:
    path = workspace.images / "a.png"
    path.write_bytes(encoded(seed=0))
    before = workspace.pixels(workspace.photo("a.png"))
    path.write_bytes(encoded(seed=1))
    assert not np.array_equal(before, workspace.pixels(workspace.photo("a.png")))


def test_a_broken_document_is_named(workspace: Workspace) -> None:
    photo, _ = workspace.add_photo("a.png", encoded())
    workspace.save(photo, document())
    (workspace.rankings / "me" / "a.png.json").write_text("{")
    with pytest.raises(RequestRefused, match=r"rankings/me/a\.png\.json: expected a document"):
        workspace.document(photo, "me")


def test_documents_of_annotators_are_apart(workspace: Workspace) -> None:
    photo, _ = workspace.add_photo("a.png", encoded())
    for name in ("Zoë", "an na"):
        workspace.save(photo, document({"left": 0}, annotator=name))
    assert [d.annotator for d in workspace.documents(photo)] == ["Zoë", "an na"]
    assert workspace.document(photo, "me").version == 0
