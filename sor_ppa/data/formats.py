"""The formats that can be read, and the files that decide what a dataset holds."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .assr import assr_file, assr_rank_files, read_assr
from .coco_rank import coco_file, read_coco, read_seqrank, seqrank_file
from .irsr import irsr_file, read_irsr, read_sifr, sifr_file
from .painted import painted_files, read_painted
from .record import ImageRecord

__all__ = ["FORMATS", "Format"]


@dataclass(frozen=True)
class Format:
    """One dataset format.

    Attributes:
        read: ``(root, split, *, keep_rankless, sink) -> records``.
        contents: ``(root, split)`` -> annotation files whose content decides what is read.
        stamps: ``(root, split)`` -> files whose size and times stand for their content.
    """

    read: Callable[..., list[ImageRecord]]
    contents: Callable[[Path, str], Sequence[Path | str]]
    stamps: Callable[[Path, str], Sequence[Path | str]] = lambda root, split: []


def _assr_contents(root: Path, split: str) -> list[Path | str]:
    folder = assr_rank_files(root, split)
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    return [assr_file(root, split), *(os.path.join(folder, name) for name in names)]


FORMATS: dict[str, Format] = {
    "assr": Format(read_assr, _assr_contents),
    "irsr": Format(read_irsr, lambda root, split: [irsr_file(root, split)]),
    "sifr": Format(read_sifr, lambda root, split: [sifr_file(root, split)]),
    "seqrank": Format(read_seqrank, lambda root, split: [seqrank_file(root, split)]),
    "coco": Format(read_coco, lambda root, split: [coco_file(root, split)]),
    "painted": Format(read_painted, lambda root, split: [], painted_files),
}
