"""Ranking datasets in WebDataset shards, read in any order by an index.

::

    train-000000.tar     00000000.jpg, 00000000.json, 00000001.jpg, ...
    train-000001.tar
    train.index.json     {"url": "", "images": [{"shard", "offset", "size", ... and the content of the JSON}]}

The JSON of an image has ``file_name, image_id, height, width`` and ``annotations``, each with ``bbox``
(x1, y1, x2, y2), ``segmentation`` (polygons or COCO run lengths), ``rank`` (higher = more salient, -1: none),
``iscrowd`` and ``label``, if the dataset has one.

The index repeats it, so reading a dataset opens no shard, and reading an image opens one. ``url`` says where
the shards are, if not beside the index.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.utils import comm
from PIL import Image
from torch.utils.data import Sampler

from ..atomic import atomic_write, write_json
from ..tar_members import Member, member_of, read_file
from .issues import DatasetError, IssueLog, expected
from .masks import as_int, plain_mask
from .reader import Format, RawImage, claimed_size, json_file, last_part, named_entries, ranked_object
from .record import ImageRecord

__all__ = ["SHARDS", "ShardTrainingSampler", "write_shards"]

_INDEX = "{split}.index.json"
_MOST_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 2**27)  # Pillow decodes no larger image


def write_shards(
    records: Sequence[ImageRecord],
    folder: Path,
    split: str,
    *,
    images_per_shard: int = 1000,
    url: str = "",
) -> list[str]:
    """Write records as shards with an index; return the names of the shards.

    The bytes of the images are copied. Boxes, masks, ranks and ids are read back as they are.

    Args:
        records: the images, in the order in which they are written.
        folder: where to write; it is made.
        split: of the dataset; file names start with it.
        images_per_shard: in all shards but the last.
        url: where the shards will be, if not beside the index, for example ``s3://bucket/folder``.

    Raises:
        DatasetError: the folder holds other shards of the split.
        OSError: a file cannot be read or written.
    """
    starts = range(0, len(records), images_per_shard)
    names = [f"{split}-{number:06d}.tar" for number in range(len(starts))]
    folder.mkdir(parents=True, exist_ok=True)
    if surplus := sorted({file.name for file in folder.glob(f"{split}-*.tar")} - set(names)):
        raise DatasetError(f"{folder}: expected no other shards of {split}, found {surplus[0]}")
    index = folder / _INDEX.format(split=split)
    index.unlink(missing_ok=True)  # it does not fit the shards that take the place of former ones
    entries: list[dict[str, Any]] = []
    for name, start in zip(names, starts, strict=True):
        with atomic_write(folder / name) as part, tarfile.open(part, "w") as tar:
            for number, record in enumerate(records[start : start + images_per_shard], start):
                sample, key = _sample(record), f"{number:08d}"
                image = read_file(record.file_name)
                offset = _add(tar, key + Path(sample["file_name"]).suffix.lower(), image)
                _add(tar, f"{key}.json", json.dumps(sample).encode())
                entries.append({"shard": name, "offset": offset, "size": len(image), **sample})
    write_json(index, {"url": url.rstrip("/"), "images": entries})
    return names


def _sample(record: ImageRecord) -> dict[str, Any]:
    """Return the JSON of an image."""
    annotations = []
    for item in record.objects:
        annotation = {"bbox": item.box, "segmentation": plain_mask(item.segmentation), "rank": item.rank}
        annotation["iscrowd"] = int(item.iscrowd)
        if item.label is not None:
            annotation["label"] = item.label
        annotations.append(annotation)
    sizes = {"image_id": record.image_id, "height": record.height, "width": record.width}
    return {"file_name": last_part(record.file_name), **sizes, "annotations": annotations}


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> int:
    """Append a file to a tar file; return where its bytes begin."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
    blocks = -(-len(data) // tarfile.BLOCKSIZE)
    return tar.offset - blocks * tarfile.BLOCKSIZE


def _entries(root: Path, file: Path, split: str, log: IssueLog) -> Iterator[RawImage]:
    content = json_file(file, "images")
    folder = content.get("url") or str(root)
    if not isinstance(folder, str):
        raise DatasetError(f"{file}: field url: {expected('text', folder)}")
    for _, name, place, entry in named_entries(content["images"], file, "file_name", log, "annotations"):
        offset, length, image_id = (as_int(entry.get(key)) for key in ("offset", "size", "image_id"))
        shard, size = entry.get("shard"), claimed_size(entry)
        if not isinstance(shard, str) or not shard.endswith(".tar"):
            place.fault("bad-record", "shard", expected("the name of a tar file", shard))
        elif offset is None or length is None or min(offset, length) < 0:
            place.fault("bad-record", "offset, size", expected("a place in the shard", (offset, length)))
        elif image_id is None:
            place.fault("bad-record", "image_id", expected("a whole number", entry.get("image_id")))
        elif size is None or min(size) < 1 or size[0] * size[1] > _MOST_PIXELS:
            place.fault("bad-record", "height, width", expected("the size of an image", size))
        else:
            objects = []
            for number, item in enumerate(entry["annotations"]):
                field, known = f"annotations[{number}]", item if isinstance(item, dict) else {}
                label = as_int(known.get("label"))
                objects.append(ranked_object(item, known.get("rank"), field, f"{field}.rank", place, label))
            path = str(Member(f"{folder}/{shard}", offset, length, last_part(name) or "image"))
            yield RawImage(path, place, image_id, [item for item in objects if item is not None], size)


def _sizes(images: Sequence[RawImage]) -> list[tuple[int, int] | OSError]:
    """Return the (height, width) of each image as the index has it, or an error if its shard lacks it."""
    lengths: dict[str, int] = {}
    found: list[tuple[int, int] | OSError] = []
    for image in images:
        member = member_of(image.path)
        assert member is not None, image.path
        assert image.size is not None, image.path
        shard, end = member.tar, member.offset + member.size
        if shard not in lengths and "://" not in shard:
            lengths[shard] = os.path.getsize(shard) if os.path.isfile(shard) else -1
        length = lengths.get(shard, end)  # that of a URL is not asked for
        missing: OSError = FileNotFoundError(shard) if length < 0 else OSError(f"{shard} ends before")
        found.append(image.size if end <= length else missing)
    return found


SHARDS = Format(_entries, _INDEX, rank_field="annotations[].rank", xywh=False, sizes=_sizes)


class ShardTrainingSampler(Sampler[int]):
    """Endless indices of this process, so that it opens only a part of the shards in each epoch.

    In each epoch the shards are shuffled and split among the processes, and each process shuffles its images.
    Each image occurs once in an epoch; up to one image for each process occurs twice, so that all processes
    have as many.

    Args:
        files: path of each image.
        seed: of the order.

    Raises:
        DatasetError: an image is not in a shard.
    """

    def __init__(self, files: Sequence[str], seed: int) -> None:
        shards: dict[str, list[int]] = {}
        for index, file in enumerate(files):
            member = member_of(file)
            if member is None:
                where = "DATALOADER.SAMPLER_TRAIN ShardTrainingSampler"
                raise DatasetError(f"{where}: expected images in shards, found {file}")
            shards.setdefault(member.tar, []).append(index)
        self.shards = list(shards.values())
        self.seed = seed

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed)
        rank, world = comm.get_rank(), comm.get_world_size()
        while True:
            order = torch.randperm(len(self.shards), generator=generator).tolist()
            images = [image for shard in order for image in self.shards[shard]]
            share = -(-len(images) // world)
            for position in torch.randperm(share, generator=generator).tolist():
                yield images[(rank * share + position) % len(images)]
