"""Files of Label Studio and CVAT."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sor_ppa.data.masks import encode_mask
from sor_ppa.serving.documents import Document
from sor_ppa.serving.exchange import Masks, read_documents, to_cvat, to_labelstudio

from .running import document

WRITERS: dict[str, Callable[..., Any]] = {"labelstudio": to_labelstudio, "cvat": to_cvat}
SIZE = (7, 9)
# by label_studio_sdk.converter.brush.encode_rle, for the mask [[0, 1, 1], [0, 0, 1]]
WRITTEN = [0, 0, 0, 24, 57, 27, 252, 96, 19, 255, 206, 1, 31, 248]


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """A document of a photo of 7 x 9 pixels."""
    objects = []
    for number in range(draw(st.integers(0, 3))):
        mask = draw(arrays(np.bool_, SIZE)) | (np.arange(63).reshape(SIZE) == draw(st.integers(0, 62)))
        objects.append(
            {
                "id": f"o{number}",
                "mask": encode_mask(mask),
                "class": draw(st.text(min_size=1, max_size=9)),
                "score": draw(st.none() | st.floats(0, 1)),
                "rank": draw(st.none() | st.integers(1, 5)),
                "state": draw(st.sampled_from(["proposed", "accepted", "rejected"])),
                "salient": draw(st.booleans()),
            }
        )
    return Document.model_validate(
        {"annotator": "ann", "height": 7, "width": 9, "edited": True, "objects": objects}
    )


@pytest.mark.parametrize("form", list(WRITERS))
@settings(max_examples=60, deadline=None)
@given(documents(), st.sampled_from(["rle", "polygons"]))
def test_a_round_trip_changes_nothing(form: str, given_document: Document, masks: Masks) -> None:
    content = json.loads(json.dumps(WRITERS[form]([("a.png", given_document)], masks)))
    assert read_documents(form, content, lambda name: SIZE, "ann") == [("a.png", given_document)]


def test_labelstudio_has_one_annotation_for_each_person_and_predictions_of_models() -> None:
    ann, model = document(annotator="ann"), document(annotator="me", edited=False, model="contrast")
    (task,) = to_labelstudio([("a.png", ann), ("a.png", model)])
    assert [a["completed_by"]["email"] for a in task["annotations"]] == ["ann"]
    assert [p["model_version"] for p in task["predictions"]] == ["contrast"]


def test_labelstudio_masks_are_read_as_its_own_tool_writes_them() -> None:
    task: dict[str, Any] = {"data": {"image": "/data/upload/1/1a2b3c4d-a.png"}}
    value = {"format": "rle", "rle": WRITTEN, "brushlabels": ["dog"]}
    result = {"id": "x", "type": "brushlabels", "original_height": 2, "original_width": 3, "value": value}
    task["annotations"] = [{"completed_by": 7, "result": [result]}]
    ((_, found),) = read_documents("labelstudio", [task], lambda name: (2, 3), "me")
    assert found is not None
    assert (found.annotator, found.objects[0].class_name, found.objects[0].state) == ("me", "dog", "accepted")
    assert found.objects[0].mask.model_dump() == {
        **encode_mask(np.array([[0, 1, 1], [0, 0, 1]], bool)),
        "size": (2, 3),
    }


def test_cvat_masks_are_runs_in_the_box_row_by_row() -> None:
    mask = np.zeros(SIZE, bool)
    mask[2:4, 3:6] = [[0, 1, 1], [1, 1, 1]]
    one = Document.model_validate(
        {"height": 7, "width": 9, "objects": [{"id": "x", "mask": encode_mask(mask)}]}
    )
    assert to_cvat([("a.png", one)])["shapes"][0]["points"] == [1, 5, 3, 2, 5, 3]


@pytest.mark.parametrize("form", list(WRITERS))
@settings(max_examples=100, deadline=None)
@given(
    documents(),
    st.data(),
    st.none() | st.integers(-1, 300) | st.text(max_size=3) | st.lists(st.floats(), max_size=3),
)
def test_damaged_files_are_refused_with_a_value_error(
    form: str, given_document: Document, data: st.DataObject, junk: Any
) -> None:
    content: Any = json.loads(json.dumps(WRITERS[form]([("a.png", given_document)])))
    part = content
    while isinstance(part, (dict, list)) and part:
        key = data.draw(st.sampled_from(sorted(part) if isinstance(part, dict) else range(len(part))))
        if not isinstance(part[key], (dict, list)) or not part[key] or data.draw(st.booleans()):
            part[key] = junk
            break
        part = part[key]
    with suppress(ValueError):
        read_documents(form, content, lambda name: SIZE, "ann")
