"""One person's ranks of one photo: the document that the page edits and the workspace keeps."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as mask_util
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ..data.masks import (
    compressed,
    mask_rings,
    rings_mask,
    run_lengths,
    segmentation_box,
    segmentation_mask,
)
from ..data.record import dense_ranks
from ..results import RankedImage
from .errors import RequestRefused

__all__ = ["Document", "DocumentObject", "RunLengths", "drawn_mask", "proposals", "shown_mask"]

_LONGEST = 1e6  # pixels; filling a polygon takes time in proportion to the length of its outline


class RunLengths(BaseModel):
    """A mask as COCO's run lengths; compressed, whatever was given."""

    size: tuple[int, int]  # height, width
    counts: str

    @model_validator(mode="before")
    @classmethod
    def _compress(cls, value: Any) -> Any:
        """Check that the runs cover the mask."""
        if not isinstance(value, dict):
            raise ValueError(f"expected size and counts, found {type(value).__name__}")
        run_lengths(value)
        size = [int(side) for side in value["size"]]
        code = compressed({**value, "size": size}, size[0], size[1])["counts"]
        return {"size": size, "counts": code if isinstance(code, str) else code.decode("ascii")}

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int(mask_util.area(self.model_dump()))

    def pixels(self) -> NDArray[np.bool_]:
        """Return the mask (H, W)."""
        return segmentation_mask(self.model_dump(), *self.size)


class DocumentObject(BaseModel):
    """An object and what is known about it.

    ``rank`` counts from 1 = most salient; equal ranks are a tie. Objects that are rejected or not salient
    have none.
    """

    model_config = ConfigDict(populate_by_name=True)

    id: str = Field(min_length=1, max_length=64)
    mask: RunLengths
    score: float | None = Field(default=None, ge=0, le=1)
    class_name: str = Field(default="object", alias="class", max_length=200)
    rank: int | None = Field(default=None, ge=1, le=100_000)
    state: Literal["proposed", "accepted", "rejected"] = "proposed"
    salient: bool = True

    @field_validator("mask")
    @classmethod
    def _not_empty(cls, mask: RunLengths) -> RunLengths:
        if not mask.area:
            raise ValueError("expected a mask with pixels, found none")
        return mask


class Document(BaseModel):
    """The ranks that one annotator gives to the objects of a photo.

    ``version`` counts the changes on disk, 0 = none. ``edited`` says whether a person saved it. ``change``
    names the last save; a client that got no answer recognizes its own save by it.
    """

    photo: str = ""
    annotator: str = ""
    version: int = Field(default=0, ge=0)
    width: int = Field(ge=1)
    height: int = Field(ge=1)
    model: str | None = Field(default=None, max_length=200)
    edited: bool = False
    change: str = Field(default="", max_length=64)
    objects: list[DocumentObject] = []

    @model_validator(mode="after")
    def _consistent(self) -> Document:
        """Check sizes and ids; make ranks dense, and None where an object cannot have one."""
        size = (self.height, self.width)
        for index, item in enumerate(self.objects):
            if item.mask.size != size:
                found = f"expected {list(size)} as the photo has, found {list(item.mask.size)}"
                raise ValueError(f"objects.{index}.mask.size: {found}")
        if len({item.id for item in self.objects}) < len(self.objects):
            raise ValueError("objects: expected different ids, found one twice")
        ranked = [o for o in self.objects if o.rank and o.salient and o.state != "rejected"]
        ranks = dict(zip((o.id for o in ranked), dense_ranks([o.rank or 0 for o in ranked]), strict=True))
        for item in self.objects:
            item.rank = ranks[item.id] + 1 if item.id in ranks else None
        return self

    @property
    def ranked(self) -> list[DocumentObject]:
        """The objects with a rank, most salient first."""
        return sorted((o for o in self.objects if o.rank), key=lambda o: o.rank or 0)

    def shown(self) -> dict[str, Any]:
        """Return the document as clients get it, with the outline and box of each mask."""
        content = self.model_dump(by_alias=True)
        content["objects"] = [{**item, **shown_mask(item["mask"])} for item in content["objects"]]
        return content


def shown_mask(mask: dict[str, Any]) -> dict[str, Any]:
    """Return a mask (COCO run lengths) with its outline, ``polygons`` by the even-odd rule, and its box."""
    pixels = segmentation_mask(mask, *mask["size"])
    return {"mask": mask, "polygons": mask_rings(pixels), "box": list(segmentation_box(mask))}


def drawn_mask(rings: list[list[float]], height: int, width: int) -> NDArray[np.bool_]:
    """Return the mask (H, W) of closed lines that a client sent; corners beyond the photo move to its border.

    Raises:
        RequestRefused: they are no lines, or so long that filling them takes long.
    """
    lines = []
    for index, ring in enumerate(rings):
        points = np.array(ring, np.float64)
        if len(ring) < 6 or len(ring) % 2 or not np.isfinite(points).all():
            found = f"expected an even count of at least 6 finite numbers, found {len(ring)}"
            raise RequestRefused(422, f"polygons.{index}: {found}")
        lines.append(np.clip(points.reshape(-1, 2), 0, (width, height)))
    length = sum(np.abs(line - np.roll(line, 1, axis=0)).sum() for line in lines)
    if length > _LONGEST:
        raise RequestRefused(
            422, f"polygons: expected at most {_LONGEST:g} pixels of outline, found {length:.0f}"
        )
    return rings_mask([line.reshape(-1).tolist() for line in lines], height, width)


def proposals(result: RankedImage, photo: str, annotator: str, model: str, most: int) -> Document:
    """Return the objects that a model found, ``most`` of them, for a person to correct."""
    objects = [
        {
            "id": f"o{number}",
            "mask": found.to_json()["segmentation"],
            "score": min(max(round(found.score, 6), 0.0), 1.0),
            "class": "object" if found.class_name.isdigit() else found.class_name,
            "rank": found.rank,
            "salient": found.rank is not None,
        }
        for number, found in enumerate(result.objects[:most], 1)
        if found.mask.any()
    ]
    about = {"photo": photo, "annotator": annotator, "model": model}
    size = {"height": result.height, "width": result.width}
    return Document.model_validate({**about, **size, "objects": objects})
