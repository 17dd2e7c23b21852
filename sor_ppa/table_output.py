"""The results of many photos in one file: COCO JSON or Parquet."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .atomic import atomic_write
from .results import RankedImage

__all__ = ["SHARD_IMAGES", "TableKind", "TableOutput", "encodable_name", "table_entry", "table_file"]

TableKind = Literal["coco", "parquet"]
SHARD_IMAGES = 1_000_000  # images of a shard at most, so that no two shards share an id


@dataclass
class TableOutput:
    """One file for all pictures: COCO JSON or Parquet, one row an object.

    Finished pictures are noted line by line in ``<file>.journal``, so that a run that was killed continues.

    Attributes:
        folder: created if it does not exist.
        kind: "coco" (``predictions.json``) or "parquet" (``predictions.parquet``).
        model: name of the model, written into the file; results of another one count as not done.
        settings: what else the results depend on.
    """

    folder: Path
    kind: TableKind
    model: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    _images: dict[str, dict[str, Any]] | None = field(default=None, repr=False)

    @property
    def file(self) -> Path:
        """The file of all pictures."""
        return self.folder / f"predictions.{'json' if self.kind == 'coco' else 'parquet'}"

    @property
    def _journal(self) -> Path:
        return self.folder / f"{self.file.name}.journal"

    def paths(self, name: str) -> tuple[Path, ...]:
        """Return the file of all pictures."""
        return (self.file,)

    def done(self, file: Path, name: str) -> bool:
        """Return whether the picture is in the journal and has not changed since."""
        if self._images is None:
            self._images = dict(self._read_journal())
        entry = self._images.get(str(file))
        return entry is not None and entry["modified"] == _modified(file)

    def write(self, file: Path, name: str, result: RankedImage) -> None:
        """Add a line to the journal."""
        entry = table_entry(result, str(file), self.model)
        entry |= {"settings": self.settings, "modified": _modified(file)}
        with self._journal.open("a", encoding="utf-8") as journal:  # "\n" first ends the line of a killed run
            journal.write("\n" + json.dumps(entry, allow_nan=False))

    def finish(self) -> None:
        """Write the file from the journal, in the order of the file names."""
        images = sorted(dict(self._read_journal()).items(), key=lambda item: Path(item[0]))
        with atomic_write(self.file) as part:
            part.write_bytes(table_file(self.kind, [entry for _, entry in images]))

    def _read_journal(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield file and entry of the lines that have this model and these settings."""
        if not self._journal.is_file():
            return
        with self._journal.open(encoding="utf-8") as journal:
            for line in journal:
                try:
                    entry = json.loads(line)
                except ValueError:  # the empty first line, or the last one of a killed run
                    continue
                if (entry["model"], entry.get("settings")) == (self.model, self.settings):
                    yield entry["file"], entry


def _modified(file: Path) -> int | None:
    """Return when a file was changed; None if it is gone."""
    return file.stat().st_mtime_ns if file.exists() else None


def table_entry(result: RankedImage, file: str, model: str | None) -> dict[str, Any]:
    """Return what :func:`table_file` takes for an image."""
    return {**result.to_json(), "file": file, "model": model}


def encodable_name(file: str) -> str:
    """Return a file name as UTF-8 can hold it; other bytes in it become ``\\udcXX``."""
    return file.encode("utf-8", "backslashreplace").decode()


def table_file(kind: TableKind, images: Sequence[dict[str, Any]], shard: int = 0) -> bytes:
    """Return the content of a file of results.

    Args:
        kind: "coco" or "parquet".
        images: entries of :func:`table_entry`.
        shard: number of the file, if the results are in several; it makes the ids of COCO unique.

    Raises:
        ValueError: "parquet" without the package pyarrow.
    """
    return _coco_file(images, shard) if kind == "coco" else _parquet_file(images)


def _coco_file(images: Sequence[dict[str, Any]], shard: int) -> bytes:
    """Return COCO JSON with the objects as annotations; ranks are 1 for the most salient object."""
    annotations: list[dict[str, Any]] = []
    first, first_annotation = shard * SHARD_IMAGES + 1, shard * SHARD_IMAGES * 1000 + 1
    for number, image in enumerate(images, first):
        for entry in image["objects"]:
            left, top, right, bottom = entry["box"]
            own: dict[str, Any] = {
                "id": first_annotation + len(annotations),
                "image_id": number,
                "category_id": 1,
                "iscrowd": 0,
            }
            own["bbox"] = [left, top, round(right - left, 2), round(bottom - top, 2)]
            annotations.append(own | {k: v for k, v in entry.items() if k != "box"})
    content = {
        "info": {"description": "ranked by sor_ppa", "model": images[0]["model"] if images else None},
        "images": [
            {
                "id": n,
                "file_name": os.path.basename(i["file"]),
                "path": i["file"],
                "height": i["height"],
                "width": i["width"],
            }
            for n, i in enumerate(images, first)
        ],
        "categories": [{"id": 1, "name": "salient object"}],
        "annotations": annotations,
    }
    return (json.dumps(content, allow_nan=False) + "\n").encode()


def _parquet_file(images: Sequence[dict[str, Any]]) -> bytes:
    """Return Parquet, a row an object; its metadata lists the images, so that empty ones are not lost."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise ValueError(
            "--format parquet: expected the package pyarrow; run: pip install pyarrow"
        ) from error
    names = [encodable_name(image["file"]) for image in images]
    rows = [
        {
            "image": name,
            "height": image["height"],
            "width": image["width"],
            **{key: entry[key] for key in ("rank", "rank_score", "score", "class", "box", "area")},
            **{key: entry.get(key) for key in ("expected_rank", "first_probability")},
            "segmentation": entry["segmentation"]["counts"],
        }
        for name, image in zip(names, images, strict=True)
        for entry in image["objects"]
    ]
    number = pa.float64()
    schema = pa.schema(
        [
            ("image", pa.string()),
            ("height", pa.int32()),
            ("width", pa.int32()),
            ("rank", pa.int32()),
            ("rank_score", number),
            ("score", number),
            ("class", pa.string()),
            ("box", pa.list_(number, 4)),
            ("area", pa.int64()),
            ("expected_rank", number),
            ("first_probability", number),
            ("segmentation", pa.string()),
        ],
        metadata={"images": json.dumps(names)},
    )
    content = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows, schema=schema), content)
    return content.getvalue()
