"""Documents as files of Label Studio and CVAT, and back.

Both tools take an object as a mask or as one closed line. ``masks="polygons"`` writes a line where one
describes the whole mask, and run lengths for objects with holes or several parts, so that nothing is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as mask_util

from ..data.issues import expected
from ..data.masks import mask_box, mask_rings, plain_mask, segmentation_mask
from .documents import Document, DocumentObject, drawn_mask

__all__ = ["from_cvat", "from_labelstudio", "to_cvat", "to_labelstudio"]

Named = tuple[str, Document]
"""A document with the file name of its photo."""
Sizes = Callable[[str], tuple[int, int] | None]
"""The (height, width) of the photo that a file names, or None if there is none."""
Masks = Literal["rle", "polygons"]

_RUN_BITS = (3, 4, 8, 16)  # widths of the lengths in Label Studio's run lengths


def to_labelstudio(documents: Sequence[Named], masks: Masks = "rle") -> list[dict[str, Any]]:
    """Return the tasks of a Label Studio export; what nobody saved becomes predictions."""
    tasks: dict[str, dict[str, Any]] = {}
    for name, document in documents:
        new = {"id": len(tasks) + 1, "data": {"image": name}, "annotations": [], "predictions": []}
        task = tasks.setdefault(name, new)
        results = [part for item in document.objects for part in _labelstudio_parts(item, document, masks)]
        by = {
            "completed_by": {"email": document.annotator},
            "model_version": document.model,
            "result": results,
        }
        task["annotations" if document.edited else "predictions"].append(by)
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
        value |= {"format": "rle", "rle": _labelstudio_rle(_pixels(item))}
    else:
        percent = 100 * np.reshape(line, (-1, 2)) / (document.width, document.height)
        value |= {"points": percent.tolist(), "closed": True}
    meta = {"state": item.state, "salient": item.salient}
    parts = [{**common, "type": kind, "from_name": "tag", "value": value, "score": item.score, "meta": meta}]
    if item.rank:
        parts.append({**common, "type": "number", "from_name": "rank", "value": {"number": item.rank}})
    return parts


def from_labelstudio(content: Any, sizes: Sizes, annotator: str) -> list[Named]:
    """Return the documents of a Label Studio export.

    Args:
        content: the parsed file.
        sizes: of photos; tasks of others are returned without objects.
        annotator: of annotations that name nobody.

    Raises:
        ValueError: the file is not as expected.
    """
    documents = []
    for index, task in enumerate(_listed(content, "tasks")):
        name = str(_at(task, f"tasks.{index}", "data", "image"))
        for key in ("annotations", "predictions"):
            for number, answer in enumerate(_listed(task.get(key) or [], f"tasks.{index}.{key}")):
                place = f"tasks.{index}.{key}.{number}"
                by = answer.get("completed_by") if isinstance(answer, dict) else None
                who = by.get("email") if isinstance(by, dict) else None
                results = _listed(_at(answer, place, "result"), f"{place}.result")
                objects = _labelstudio_objects(results, sizes(name), place) if sizes(name) else []
                document = _document(objects, sizes(name), str(who or annotator), answer.get("model_version"))
                documents.append((name, document.model_copy(update={"edited": key == "annotations"})))
    return documents


def _labelstudio_objects(
    results: Sequence[Any], size: tuple[int, int] | None, place: str
) -> list[dict[str, Any]]:
    assert size is not None
    objects: dict[str, dict[str, Any]] = {}
    for number, part in enumerate(results):
        here = f"{place}.result.{number}"
        kind, value = _at(part, here, "type"), _at(part, here, "value")
        item = objects.setdefault(str(_at(part, here, "id")), {})
        if kind == "number":
            item["rank"] = _at(value, f"{here}.value", "number")
            continue
        found = (part.get("original_height", size[0]), part.get("original_width", size[1]))
        if found != size:
            raise ValueError(f"{here}: {expected(f'height and width {size} as the photo has', found)}")
        if "rle" in value:
            mask = _labelstudio_mask(_listed(value["rle"], f"{here}.value.rle"), size, here)
        elif "points" in value:
            points = np.array(value["points"], np.float64).reshape(-1, 2) * size[::-1] / 100
            mask = drawn_mask([np.round(points, 6).reshape(-1).tolist()], *size)
        else:
            continue  # another kind of region
        meta = part.get("meta") if isinstance(part.get("meta"), dict) else {}
        labels = next(
            (value[key] for key in (kind, "brushlabels", "polygonlabels") if value.get(key)), ["object"]
        )
        item |= {"mask": _code(mask), "class": str(labels[0]), "score": part.get("score")}
        item |= {"state": meta.get("state", "accepted"), "salient": meta.get("salient", True)}
    return [{"id": key, **item} for key, item in objects.items() if "mask" in item]


def to_cvat(documents: Sequence[Named], masks: Masks = "rle") -> dict[str, Any]:
    """Return one annotator's documents as annotations of a CVAT task backup, with the names of the frames."""
    shapes = []
    for frame, (_, document) in enumerate(documents):
        for item in document.objects:
            line = _single_line(item) if masks == "polygons" else None
            given = {"id": item.id, "rank": item.rank, "score": item.score, "state": item.state}
            given["salient"] = item.salient
            shapes.append(
                {
                    "type": "mask" if line is None else "polygon",
                    "frame": frame,
                    "label": item.class_name,
                    "points": _cvat_mask(_pixels(item)) if line is None else line,
                    "attributes": [{"name": k, "value": str(v)} for k, v in given.items() if v is not None],
                    **{
                        "group": 0,
                        "source": "manual",
                        "occluded": False,
                        "outside": False,
                        "z_order": 0,
                        "rotation": 0,
                    },
                }
            )
    frames = [{"name": name, "width": d.width, "height": d.height} for name, d in documents]
    return {"version": 0, "tags": [], "shapes": shapes, "tracks": [], "frames": frames}


def from_cvat(content: Any, sizes: Sizes, annotator: str) -> list[Named]:
    """Return the documents of CVAT annotations with ``frames``; see :func:`from_labelstudio`."""
    jobs = content if isinstance(content, list) else [content]
    documents = []
    for number, job in enumerate(jobs):
        frames = _listed(_at(job, f"{number}", "frames"), "frames")
        names = [str(_at(frame, "frames", "name")) for frame in frames]
        objects: dict[int, list[dict[str, Any]]] = {index: [] for index in range(len(names))}
        for index, shape in enumerate(_listed(_at(job, f"{number}", "shapes"), "shapes")):
            frame = _at(shape, f"shapes.{index}", "frame")
            if frame not in objects:
                raise ValueError(f"shapes.{index}.frame: {expected(f'below {len(names)}', frame)}")
            size = sizes(names[frame])
            if size and shape.get("type") in ("mask", "polygon"):
                objects[frame].append(_cvat_object(shape, size, f"shapes.{index}"))
        documents += [
            (name, _document(objects[i], sizes(name), annotator, None).model_copy(update={"edited": True}))
            for i, name in enumerate(names)
        ]
    return documents


def _cvat_object(shape: dict[str, Any], size: tuple[int, int], place: str) -> dict[str, Any]:
    points = np.array(_listed(_at(shape, place, "points"), f"{place}.points"), np.float64).ravel()
    if len(points) < 6:
        raise ValueError(f"{place}.points: expected at least 6 numbers, found {len(points)}")
    if shape["type"] == "polygon":
        mask = drawn_mask([points.tolist()], *size)
    else:
        mask = _cvat_pixels(points, size, place)
    given = {
        a["name"]: a["value"] for a in shape.get("attributes") or [] if isinstance(a, dict) and "name" in a
    }
    return {
        "id": given.get("id", place),
        "mask": _code(mask),
        "class": str(shape.get("label", "object")),
        "score": given.get("score"),
        "rank": given.get("rank") or None,
        "state": given.get("state", "accepted"),
        "salient": str(given.get("salient", True)).lower() == "true",
    }


def _document(
    objects: Sequence[Mapping[str, Any]], size: tuple[int, int] | None, annotator: str, model: Any
) -> Document:
    height, width = size or (1, 1)
    fields = {"annotator": annotator, "model": model, "height": height, "width": width, "objects": objects}
    return Document.model_validate(fields)


def _pixels(item: DocumentObject) -> NDArray[np.bool_]:
    return segmentation_mask(item.mask.model_dump(), *item.mask.size)


def _code(mask: NDArray[np.bool_]) -> Any:
    return plain_mask(mask_util.encode(np.asfortranarray(mask, np.uint8)))


def _single_line(item: DocumentObject) -> list[float] | None:
    """Return the outline of a mask that one line describes; else None."""
    rings = mask_rings(_pixels(item))
    return rings[0] if len(rings) == 1 else None


def _runs(values: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return the lengths and values of runs of equal values (N,)."""
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    return np.diff(np.append(starts, len(values))), values[starts]


def _labelstudio_rle(mask: NDArray[np.bool_]) -> list[int]:
    """Return the bytes of a mask in Label Studio's run lengths of an RGBA picture."""
    bits = [f"{4 * mask.size:032b}", f"{8 - 1:05b}", *(f"{width - 1:04b}" for width in _RUN_BITS)]
    for length, value in zip(*_runs(mask.ravel()), strict=True):
        left = 4 * int(length)
        while left:
            kind = next((k for k, width in enumerate(_RUN_BITS) if left <= 1 << width), len(_RUN_BITS) - 1)
            part = min(left, 1 << _RUN_BITS[kind])
            bits.append(f"1{kind:02b}{part - 1:0{_RUN_BITS[kind]}b}{255 * int(value):08b}")
            left -= part
    flags = np.frombuffer("".join(bits).encode(), np.uint8) - ord("0")
    return np.packbits(flags).tolist()


def _labelstudio_mask(data: Sequence[Any], size: tuple[int, int], place: str) -> NDArray[np.bool_]:
    """Return the mask (H, W) of Label Studio's run lengths; its pixels are those that are not transparent."""
    try:
        packed = bytes(data)
    except (TypeError, ValueError):
        raise ValueError(f"{place}.value.rle: expected bytes, found something else") from None
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
        raise ValueError(f"{place}.value.rle: {found}")
    values, done = np.zeros(count, np.uint8), 0
    while done < count and position < len(bits):
        repeated = take(1)
        end = min(done + 1 + take(widths[take(2)]), count)
        words = 1 if repeated else end - done
        part = bits[position : position + 8 * words]
        position += 8 * words
        if len(part) < 8 * words:
            break
        values[done:end] = np.packbits(part)
        done = end
    if done < count:
        raise ValueError(f"{place}.value.rle: expected runs over {count} bytes, found runs over {done}")
    return values[3::4].reshape(size) > 0


def _cvat_mask(mask: NDArray[np.bool_]) -> list[float]:
    """Return CVAT's points of a mask: run lengths in its box, background first, row by row, and the box."""
    left, top, right, bottom = mask_box(mask) or (0, 0, 1, 1)
    lengths, values = _runs(mask[top:bottom, left:right].ravel())
    return [*([0] if values[0] else []), *lengths.tolist(), left, top, right - 1, bottom - 1]


def _cvat_pixels(points: NDArray[np.float64], size: tuple[int, int], place: str) -> NDArray[np.bool_]:
    points = np.where(np.isfinite(points), points, -1)
    lengths = points[:-4]
    left, top, right, bottom = (int(side) for side in points[-4:] + np.array([0, 0, 1, 1]))
    inside = 0 <= left < right <= size[1] and 0 <= top < bottom <= size[0]
    if not inside or not (lengths >= 0).all() or lengths.sum() != (right - left) * (bottom - top):
        raise ValueError(f"{place}.points: expected run lengths over a box in the photo, found others")
    values = np.arange(len(lengths)) % 2 == 1
    mask = np.zeros(size, bool)
    mask[top:bottom, left:right] = np.repeat(values, lengths.astype(int)).reshape(bottom - top, right - left)
    return mask


def _at(value: Any, place: str, *keys: str) -> Any:
    """Return a field inside nested objects."""
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            raise ValueError(f"{place}: {expected(f'an object with {key}', value)}")
        value, place = value[key], f"{place}.{key}"
    return value


def _listed(value: Any, place: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{place}: {expected('a list', value)}")
    return value
