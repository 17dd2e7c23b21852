"""Published ranking datasets: fetching and unpacking them."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from .catalog import ZooError
from .download import Progress, download

__all__ = ["DATASETS", "PublishedDataset", "get_dataset", "unpack"]


@dataclass(frozen=True)
class PublishedDataset:
    """A dataset that its authors publish as one archive.

    Attributes:
        folder: its name below the datasets folder.
        title: what it is.
        url: of the archive.
        page: of the authors.
        gigabytes: most that the unpacked files may take.
    """

    folder: str
    title: str
    url: str
    page: str
    gigabytes: float


DATASETS: Mapping[str, PublishedDataset] = {
    "assr": PublishedDataset(
        "ASSR",
        "Attention Shift Saliency Rank (Siris et al., CVPR 2020), as PPA's authors package it",
        "https://drive.google.com/file/d/1ueSpf3avLAPiJxoP40v5KL7qxaYtM1us/view",
        "https://github.com/EricFH/SOR",
        20,
    ),
}


def get_dataset(
    name: str, root: Path, *, archive: Path | None = None, progress: Progress | None = None
) -> Path:
    """Fetch a dataset and unpack it below a folder.

    Args:
        name: one of ``DATASETS``.
        root: the datasets folder.
        archive: an archive downloaded by hand, instead of downloading.
        progress: see :func:`download`.

    Returns:
        The dataset's folder.

    Raises:
        ZooError: an unknown name, a folder that exists already, or an archive that cannot be used.
    """
    if name not in DATASETS:
        raise ZooError(f"{name}: expected one of {', '.join(DATASETS)}")
    dataset = DATASETS[name]
    target = root / dataset.folder
    if target.exists():
        raise ZooError(
            f"{target}: expected no such folder, found one; check it with: sor-ppa data check {name}"
        )
    source = archive or root / f"{name}.download"
    if archive is None:
        download(dataset.url, source, progress=progress)
    scratch = root / f".{dataset.folder}.partial"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        unpack(source, scratch, limit=int(dataset.gigabytes * 1e9))
        # archives hold the folder itself, or its content
        inner = scratch / dataset.folder
        (inner if inner.is_dir() else scratch).replace(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if archive is None:
        source.unlink()
    return target


def unpack(archive: Path, folder: Path, *, limit: int, most_files: int = 1_000_000) -> None:
    """Unpack a zip or tar archive of plain files.

    Args:
        archive: the file.
        folder: for its content; created.
        limit: bytes that the content may take.
        most_files: members that it may have.

    Raises:
        ZooError: it is no such archive, is damaged, exceeds a limit, or a member leads out of the folder.
    """
    left = limit
    try:
        with ExitStack() as stack:
            for number, (name, open_member) in enumerate(_members(archive, stack)):
                path = PurePosixPath(name.replace("\\", "/"))
                if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
                    raise ZooError(f"{archive}: expected names inside the archive, found {name!r}")
                if number >= most_files:
                    raise ZooError(f"{archive}: expected at most {most_files} files, found more")
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                with open_member() as source, target.open("xb") as file:
                    while block := source.read(min(1 << 20, left + 1)):
                        left -= len(block)
                        if left < 0:
                            raise ZooError(f"{archive}: expected at most {limit} bytes of files, found more")
                        file.write(block)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, ValueError, NotImplementedError) as error:
        raise ZooError(f"{archive}: {error or 'the archive is damaged'}") from error
    except OSError as error:
        raise ZooError(f"{archive}: {error.strerror or error}") from error


def _members(archive: Path, stack: ExitStack) -> Iterator[tuple[str, Callable[[], IO[bytes]]]]:
    """Names of an archive's plain files and functions that open them; links and devices are refused."""
    if zipfile.is_zipfile(archive):
        bundle = stack.enter_context(zipfile.ZipFile(archive))
        for info in bundle.infolist():
            if not info.is_dir():
                yield info.filename, lambda info=info: bundle.open(info)  # type: ignore[misc]
        return
    try:
        tar = stack.enter_context(tarfile.open(archive))  # noqa: SIM115  (the stack closes it)
    except tarfile.ReadError as error:
        raise ZooError(f"{archive}: expected a zip or tar archive, found another kind of file") from error
    for member in tar:
        if not member.isfile() and not member.isdir():
            raise ZooError(f"{archive}: expected plain files, found {member.name!r}, a link or device")
        if member.isfile():
            yield member.name, lambda member=member: tar.extractfile(member)  # type: ignore[misc]
