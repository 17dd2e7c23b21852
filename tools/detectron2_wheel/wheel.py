"""Turn the source archive of detectron2 0.6 into a pure-Python wheel, the same bytes every time."""

import base64
import csv
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from detectron2_wheel import BuildError
from detectron2_wheel.edits import ADDITIONS, EDITS, NOTICE, apply_edits

SDIST_PROJECT = "pb1-detectron2"
SDIST_VERSION = "0.6"
SDIST_SHA256 = "5d2e9e51e523ec72f6a31cca04b0a515492e9514b773a3d134cedc0677170b29"

# Upstream installs these folders of the archive as packages below detectron2.projects.
PROJECTS: Mapping[str, str] = {
    "projects/PointRend/point_rend/": "projects/point_rend/",
    "projects/DeepLab/deeplab/": "projects/deeplab/",
    "projects/Panoptic-DeepLab/panoptic_deeplab/": "projects/panoptic_deeplab/",
}

# Upstream's list without what only caffe2 (future, pydot) and one config printer (black) use, with room for
# the current iopath. torch and torchvision are left to whoever set up the environment, as upstream does.
REQUIRES: tuple[str, ...] = (
    "Pillow>=7.1",
    "cloudpickle",
    "fvcore<0.1.6,>=0.1.5",
    "hydra-core>=1.1",
    "iopath<0.2,>=0.1.7",
    "matplotlib",
    "numpy",
    "omegaconf<2.4,>=2.1",
    "pycocotools>=2.0.2",
    "tabulate",
    "tensorboard",
    "termcolor>=1.1",
    "tqdm>4.29.0",
    "yacs>=0.1.8",
)

_MEMBER_LIMIT = 16 * 2**20  # bytes; the largest file of the archive has 0.5 MiB


def wheel_version() -> str:
    """Version of the wheel: upstream's, with a label that changes whenever what this tool makes changes."""
    made_of = repr((SDIST_SHA256, list(EDITS.items()), list(ADDITIONS.items()), NOTICE, REQUIRES, PROJECTS))
    return f"{SDIST_VERSION}+pure.e{hashlib.sha256(made_of.encode()).hexdigest()[:8]}"


def wheel_name() -> str:
    """File name of the wheel."""
    return f"detectron2-{wheel_version()}-py3-none-any.whl"


def build_wheel(sdist: bytes, directory: Path) -> Path:
    """Write the wheel.

    Args:
        sdist: the source archive, a gzipped tar file.
        directory: where the wheel goes; made if absent.

    Returns:
        Path of the wheel.

    Raises:
        BuildError: wrong archive, wrong contents, or the directory cannot be written.
    """
    check_sdist(sdist, "the source archive")
    package, licence = _read_sdist(sdist)
    info = f"detectron2-{wheel_version()}.dist-info"
    members = {f"detectron2/{path}": data for path, data in apply_edits(package).items()}
    members[f"{info}/LICENSE"] = licence
    members[f"{info}/METADATA"] = _metadata().encode()
    members[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: sor_ppa\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    members[f"{info}/top_level.txt"] = b"detectron2\n"
    record = f"{info}/RECORD"
    members[record] = _record(members, record)

    path = directory / wheel_name()
    partial = directory / f".{wheel_name()}.partial"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(_zip(members))
        partial.replace(path)
    except OSError as error:
        raise BuildError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def check_sdist(sdist: bytes, origin: str) -> None:
    """Raise BuildError unless the bytes are the pinned archive.

    Args:
        sdist: contents of the archive.
        origin: where they came from, for the message.
    """
    found = hashlib.sha256(sdist).hexdigest()
    if found != SDIST_SHA256:
        raise BuildError(f"{origin}: sha256 is {found}, expected {SDIST_SHA256}: not used")


def _read_sdist(sdist: bytes) -> tuple[dict[str, bytes], bytes]:
    """Files of the `detectron2` package, by path below it, and the licence."""
    top = f"{SDIST_PROJECT}-{SDIST_VERSION}/"
    places = {f"{top}detectron2/": ""} | {top + source: target for source, target in PROJECTS.items()}
    package: dict[str, bytes] = {}
    licence = b""
    with tarfile.open(fileobj=io.BytesIO(sdist), mode="r:gz") as archive:
        for member in archive:
            if not member.isfile() or member.size > _MEMBER_LIMIT:
                continue
            stream = archive.extractfile(member)
            data = stream.read() if stream else b""
            if member.name == f"{top}LICENSE":
                licence = data
            for source, target in places.items():
                if member.name.startswith(source) and member.name.endswith((".py", ".yaml")):
                    package[target + member.name[len(source) :]] = data
    for needed in ("__init__.py", "model_zoo/configs/Base-RCNN-FPN.yaml"):
        if needed not in package:
            raise BuildError(f"detectron2/{needed}: not in the source archive")
    return package, licence


def _metadata() -> str:
    lines = [
        "Metadata-Version: 2.1",
        "Name: detectron2",
        f"Version: {wheel_version()}",
        "Summary: FAIR's object detection and segmentation library, 0.6, without compiled code",
        "Home-page: https://github.com/facebookresearch/detectron2",
        "Author: FAIR",
        "License: Apache-2.0",
        "Requires-Python: >=3.10",
        *(f"Requires-Dist: {requirement}" for requirement in REQUIRES),
        "Description-Content-Type: text/markdown",
        "",
        f"detectron2 {SDIST_VERSION} from the source archive {SDIST_PROJECT}-{SDIST_VERSION} "
        f"(sha256 {SDIST_SHA256}),",
        "packed by sor_ppa's tools/install_detectron2.py. Needs torch >= 2.4 and torchvision.",
        "",
        "Not in this build: rotated boxes, rotated ROIAlign and the C++ COCO evaluation; each raises",
        "NotImplementedError where it is used. Changes, by reason:",
        "",
    ]
    for reason, edits in EDITS.items():
        paths = ", ".join(sorted({edit.path for edit in edits}))
        lines.append(f"- {reason}: {paths}")
    return "\n".join(lines) + "\n"


def _record(members: Mapping[str, bytes], record: str) -> bytes:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    for name in sorted(members):
        digest = base64.urlsafe_b64encode(hashlib.sha256(members[name]).digest()).rstrip(b"=").decode()
        rows.writerow((name, f"sha256={digest}", len(members[name])))
    rows.writerow((record, "", ""))
    return text.getvalue().encode()


def _zip(members: Mapping[str, bytes]) -> bytes:
    """Stored, not deflated: the bytes then do not depend on the version of zlib."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        # The info folder comes last, as the wheel format recommends.
        for name in sorted(members, key=lambda name: (".dist-info/" in name, name)):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, members[name])
    return buffer.getvalue()
