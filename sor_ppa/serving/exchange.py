"""Documents as files of Label Studio and CVAT, and back.

Both tools take an object as a mask or as one closed line. ``masks="polygons"`` writes a line where one
describes the whole mask, and run lengths for objects with holes or several parts, so that nothing is lost.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..data.issues import expected
from ..data.masks import encode_mask, mask_box, mask_rings
from .documents import Document, DocumentObject, drawn_mask
from .errors import RequestRefused

__all__ = ["Found", "Masks", "Sizes", "read_documents", "to_cvat", "to_labelstudio"]

Named = tuple[str, Document]
"""A document with the file name of its photo."""
Found = tuple[str, Document | None]
"""What a file has for a photo; None if there is no such photo."""
Sizes = Callable[[str], tuple[int, int] | None]
"""The (height, width) of the photo that a file names, or None if there is none."""
Masks = Literal["rle", "polygons"]

_CVAT_DEFAULTS = {
    "group": 0,
    "source": "manual",
    "occluded": False,
    "outside": False,
    "z_order": 0,
    "rotation": 0,
}
_RUN_BITS = (3, 4, 8, 16)  # widths of the lengths in Label Studio's run lengths


def read_documents(kind: str, content: Any, sizes: Sizes, annotator: str) -> list[Found]:
    """Return the documents of a file.

    Args:
        kind: "labelstudio" or "cvat".
        content: the parsed file: tasks of Label Studio, or annotations of CVAT with ``frames``.
        sizes: of the photos that are wanted.
        annotator: of documents that name nobody.

    Raises:
        ValueError: the file is not as expected.
    """
    try:
        return list(_READERS[kind](content, sizes, annotator))
    except RequestRefused as error:
        raise ValueError(str(error)) from None
    except (AttributeError, LookupError, OverflowError, TypeError) as error:
        found = f"{type(error).__name__}: {error}"
        raise ValueError(f"{kind} file: expected other fields, found {found}") from None


def to_labelstudio(documents: Sequence[Named], masks: Masks = "rle") -> list[dict[str, Any]]:
    """Return the tasks of a Label Studio export; what nobody saved becomes predictions."""
    tasks: dict[str, dict[str, Any]] = {}
    for name, document in documents:
        new = {"id": len(tasks) + 1, "data": {"image": name}, "annotations": [], "predictions": []}
        task = tasks.setdefault(name, new)
        results = [part for item in document.objects for part in _labelstudio_parts(item, document, masks)]
        answer = {"completed_by": {"email": document.annotator}, "model_version": document.model}
        task["annotations" if document.edited else "predictions"].append({**answer, "result": results})
    return list(tasks.values())


def _labelstudio_parts(item: DocumentObject, document: Document, masks: Masks) -> list[dict[str, Any]]:
    """Return the region of an object, and its rank as a number of the region."""
    line = _single_line(item) if masks == "polygons" else None
    common = {
        "id": item.id,
        "to_name": "image",
        "original_width": document.width,
        "original_height": document.height,
        "image_rotation": 0,
    }
    kind = "brushlabels" if line is None else "polygonlabels"
    value: dict[str, Any] = {kind: [item.class_name]}
    if line is None:
        value |= {"format": "rle", "rle": _labelstudio_rle(_object_pixels(item))}
    else:
        percent = 100 * np.reshape(line, (-1, 2)) / (document.width, document.height)
        value |= {"points": percent.tolist(), "closed": True}
    meta = {"state": item.state, "salient": item.salient}
    parts = [{**common, "type": kind, "from_name": "tag", "value": value, "score": item.score, "meta": meta}]
    if item.rank:
        parts.append({**common, "type": "number", "from_name": "rank", "value": {"number": item.rank}})
    return parts


def _from_labelstudio(tasks: Any, sizes: Sizes, annotator: str) -> Iterator[Found]:
    for task in tasks:
        name = str(task["data"]["image"])
        size = sizes(name)
        if size is None:
            yield name, None
            continue
        for key in ("annotations", "predictions"):
            for answer in task.get(key) or []:
                by = answer.get("completed_by")
                who = by["email"] if isinstance(by, dict) else annotator  # else a number of their server
                model, objects = answer.get("model_version"), _labelstudio_objects(answer["result"], size)
                edited = key == "annotations"
                yield name, _document(objects, size, annotator=who, model=model, edited=edited)


def _labelstudio_objects(results: Any, size: tuple[int, int]) -> list[dict[str, Any]]:
    objects: dict[str, dict[str, Any]] = {}
    for part in results:
        kind, value = part["type"], part["value"]
        item = objects.setdefault(str(part["id"]), {"id": str(part["id"])})
        if kind == "number":
            item["rank"] = value["number"]
            continue
        found = (part["original_height"], part["original_width"])
        if found != size:
            wanted = f"{size} as the photo has"
            raise ValueError(f"original_height, original_width: {expected(wanted, found)}")
        if "rle" in value:
            mask = _labelstudio_mask(value["rle"], size)
        elif "points" in value:
            points = np.array(value["points"], np.float64).reshape(-1, 2) * size[::-1] / 100
            mask = drawn_mask([np.round(points, 6).reshape(-1).tolist()], *size)
        else:
            continue  # another kind of region
        meta = {"state": "accepted", "salient": True} | (part.get("meta") or {})
        item |= {
            "mask": encode_mask(mask),
            "class": value.get(kind, ["object"])[0],
            "score": part.get("score"),
        }
        item |= {"state": meta["state"], "salient": meta["salient"]}
    return [item for item in objects.values() if "mask" in item]


def to_cvat(documents: Sequence[Named], masks: Masks = "rle") -> dict[str, Any]:
    """Return one annotator's documents as annotations of a CVAT task backup, with the names of the frames."""
    shapes = []
    for frame, (_, document) in enumerate(documents):
        for item in document.objects:
            line = _single_line(item) if masks == "polygons" else None
            given = {name: getattr(item, name) for name in ("id", "rank", "score", "state", "salient")}
            shape = {"frame": frame, "label": item.class_name, "type": "mask" if line is None else "polygon"}
            shape["points"] = _cvat_mask(_object_pixels(item)) if line is None else line
            shape["attributes"] = [{"name": k, "value": str(v)} for k, v in given.items() if v is not None]
            shapes.append({**_CVAT_DEFAULTS, **shape})
    frames = [{"name": name, "width": d.width, "height": d.height} for name, d in documents]
    return {"version": 0, "tags": [], "shapes": shapes, "tracks": [], "frames": frames}


def _from_cvat(content: Any, sizes: Sizes, annotator: str) -> Iterator[Found]:
    for job in content if isinstance(content, list) else [content]:
        shapes: dict[int, list[Any]] = defaultdict(list)
        for shape in job["shapes"]:
            if shape["type"] in ("mask", "polygon"):
                shapes[shape["frame"]].append(shape)
        for number, frame in enumerate(job["frames"]):
            name = str(frame["name"])
            if (size := sizes(name)) is None:
                yield name, None
            else:
                objects = [_cvat_object(shape, size, index) for index, shape in enumerate(shapes[number], 1)]
                yield name, _document(objects, size, annotator=annotator, edited=True)


def _cvat_object(shape: Any, size: tuple[int, int], number: int) -> dict[str, Any]:
    points = np.array(shape["points"], np.float64).ravel()
    mask = drawn_mask([points.tolist()], *size) if shape["type"] == "polygon" else _cvat_pixels(points, size)
    given = {attribute["name"]: attribute["value"] for attribute in shape.get("attributes") or []}
    return {
        "id": given.get("id", f"o{number}"),
        "mask": encode_mask(mask),
        "class": shape.get("label", "object"),
        "score": given.get("score"),
        "rank": given.get("rank") or None,
        "state": given.get("state", "accepted"),
        "salient": given.get("salient", True),
    }


def _document(objects: Sequence[Any], size: tuple[int, int], **fields: Any) -> Document:
    return Document.model_validate({**fields, "height": size[0], "width": size[1], "objects": objects})


def _object_pixels(item: DocumentObject) -> NDArray[np.bool_]:
    return item.mask.pixels()


def _single_line(item: DocumentObject) -> list[float] | None:
    """Return the outline of a mask that one line describes; else None."""
    rings = mask_rings(_object_pixels(item))
    return rings[0] if len(rings) == 1 else None


def _equal_runs(values: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return the lengths and values of runs of equal values (N,)."""
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    return np.diff(np.append(starts, len(values))), values[starts]


def _labelstudio_rle(mask: NDArray[np.bool_]) -> list[int]:
    """Return the bytes of a mask in Label Studio's run lengths of an RGBA picture."""
    bits = [f"{4 * mask.size:032b}", f"{8 - 1:05b}", *(f"{width - 1:04b}" for width in _RUN_BITS)]
    for length, value in zip(*_equal_runs(mask.ravel()), strict=True):
        left = 4 * int(length)
        while left:
            kind = next((k for k, width in enumerate(_RUN_BITS) if left <= 1 << width), len(_RUN_BITS) - 1)
            part = min(left, 1 << _RUN_BITS[kind])
            bits.append(f"1{kind:02b}{part - 1:0{_RUN_BITS[kind]}b}{255 * int(value):08b}")
            left -= part
    flags = np.frombuffer("".join(bits).encode(), np.uint8) - ord("0")
    return np.packbits(flags).tolist()


def _labelstudio_mask(data: Any, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the mask (H, W) of Label Studio's run lengths; its pixels are those that are not transparent."""
    packed = bytes(list(data))
    bits, position = np.unpackbits(np.frombuffer(packed, np.uint8)), 0

    def take(width: int) -> int:
        nonlocal position
        word = int.from_bytes(packed[position // 8 : position // 8 + 5].ljust(5, b"\0"), "big")
        position += width
        return word >> (40 - (position - width) % 8 - width) & ((1 << width) - 1)

    count, word = take(32), take(5) + 1
    widths = [take(4) + 1 for _ in range(4)]
    if count != 4 * size[0] * size[1] or word != 8:
        found = f"expected {4 * size[0] * size[1]} bytes of a picture as the photo, found {count}"
        raise ValueError(f"rle: {found}")
    values, done = np.zeros(count, np.uint8), 0
    while done < count and position < len(bits):
        repeated = take(1)
        end = min(done + 1 + take(widths[take(2)]), count)
        words = 1 if repeated else end - done
        values[done:end] = np.packbits(bits[position : position + 8 * words])
        position, done = position + 8 * words, end
    if done < count:
        raise ValueError(f"rle: expected runs over {count} bytes, found runs over {done}")
    return values[3::4].reshape(size) > 0


def _cvat_mask(mask: NDArray[np.bool_]) -> list[float]:
    """Return CVAT's points of a mask: run lengths in its box, background first, row by row, and the box."""
    left, top, right, bottom = mask_box(mask) or (0, 0, 1, 1)
    lengths, values = _equal_runs(mask[top:bottom, left:right].ravel())
    return [*([0] if values[0] else []), *lengths.tolist(), left, top, right - 1, bottom - 1]


def _cvat_pixels(points: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.bool_]:
    points = np.where(np.isfinite(points), points, -1)
    lengths = points[:-4]
    left, top, right, bottom = (int(side) for side in points[-4:] + np.array([0, 0, 1, 1]))
    inside = 0 <= left < right <= size[1] and 0 <= top < bottom <= size[0]
    if not inside or not (lengths >= 0).all() or lengths.sum() != (right - left) * (bottom - top):
        raise ValueError("points: expected run lengths over a box in the photo, found others")
    values = np.arange(len(lengths)) % 2 == 1
    mask = np.zeros(size, bool)
    mask[top:bottom, left:right] = np.repeat(values, lengths.astype(int)).reshape(bottom - top, right - left)
    return mask


_READERS: dict[str, Callable[[Any, Sizes, str], Iterator[Found]]] = {
    "labelstudio": _from_labelstudio,
    "cvat": _from_cvat,
}
