"""Ground truth as one Parquet table, which a cluster reads in parts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..atomic import atomic_write
from ..data.masks import plain_mask
from .checks import expect
from .ground_truth import read_truth, truth_from_dict

TRUTH_COLUMNS = ("image", "height", "width", "gt_rank", "crowd", "segmentation")
_ROWS_AT_ONCE = 10_000


def write_truth(source: str, path: Path) -> tuple[int, int]:
    """Write the ground truth of a dataset as Parquet and return the numbers of images and objects.

    The file has one row an object, with the columns ``TRUTH_COLUMNS``: ``image`` (the file name), ``height``
    and ``width`` in pixels, ``gt_rank`` (higher = more salient, null = not ranked), ``crowd``, and
    ``segmentation`` (COCO's compressed run lengths). An image without objects has one row, in which the last
    three are null.

    Args:
        source: as in ``ground_truth.read_truth``.
        path: of the file.

    Raises:
        InputError: unusable ground truth.
        OSError: the file cannot be written.
    """
    import pyarrow as pa
    from pyarrow import parquet

    types = (pa.string(), pa.int32(), pa.int32(), pa.int32(), pa.bool_(), pa.string())
    schema = pa.schema(zip(TRUTH_COLUMNS, types, strict=True))
    images = objects = 0
    rows: list[dict[str, Any]] = []
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as part, parquet.ParquetWriter(part, schema) as writer:
        for record in read_truth(source):
            expect("mask_file_name" not in record, source, "a ranking dataset", "a saliency dataset")
            found = _truth_rows(record)
            images += 1
            objects += sum(row["segmentation"] is not None for row in found)
            rows += found
            if len(rows) >= _ROWS_AT_ONCE:
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
                rows = []
        writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    return images, objects


def _truth_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    truth = truth_from_dict(record)
    rows: list[dict[str, Any]] = []
    for rle, rank, crowd in zip(truth.rles, truth.ranks.tolist(), truth.crowd.tolist(), strict=True):
        mask: Any = plain_mask(rle)
        rows.append({"gt_rank": rank if rank >= 0 else None, "crowd": crowd, "segmentation": mask["counts"]})
    image = {"image": truth.name, "height": truth.height, "width": truth.width}
    return [image | row for row in rows or [{"gt_rank": None, "crowd": None, "segmentation": None}]]
