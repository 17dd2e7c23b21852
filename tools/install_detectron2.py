"""Install detectron2 where only a package index can be reached, or upstream's from git.

    python tools/install_detectron2.py              # 0.6 in pure Python, unless a detectron2 is installed
    python tools/install_detectron2.py --from-git   # upstream's, compiled: needs git and a C++ compiler

detectron2 is on no package index. The index project pb1-detectron2 is the source of upstream's tag v0.6
without its C++ code. This tool lets pip download that archive, checks its SHA-256, applies the edits of
`detectron2_edits.py` and installs the result under detectron2's own name. torch must be installed already.
"""

import argparse
import hashlib
import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from detectron2_edits import ADDITIONS, EDITS, BuildError, apply_edits

UPSTREAM = "git+https://github.com/facebookresearch/detectron2.git"
SDIST = "pb1-detectron2-0.6"
SHA256 = "5d2e9e51e523ec72f6a31cca04b0a515492e9514b773a3d134cedc0677170b29"

# Upstream installs these folders of the archive as packages below detectron2.projects.
PROJECTS = {
    "projects/PointRend/point_rend": "projects/point_rend",
    "projects/DeepLab/deeplab": "projects/deeplab",
    "projects/Panoptic-DeepLab/panoptic_deeplab": "projects/panoptic_deeplab",
}

# Upstream's list without what only caffe2 (future, pydot) and one config printer (black) use, with room for
# current releases of iopath. torch and torchvision are left to the environment, as upstream does.
PYPROJECT = """\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "detectron2"
version = "{version}"
description = "FAIR's object detection and segmentation library, 0.6, without compiled code"
requires-python = ">=3.10"
dependencies = [
    "Pillow>=7.1", "cloudpickle", "fvcore<0.1.6,>=0.1.5", "hydra-core>=1.1", "iopath<0.2,>=0.1.7",
    "matplotlib", "numpy", "omegaconf<2.4,>=2.1", "pycocotools>=2.0.2", "tabulate", "tensorboard",
    "termcolor>=1.1",
    "tqdm>4.29.0", "yacs>=0.1.8",
]

[tool.setuptools]
packages = {{ find = {{ include = ["detectron2*"], namespaces = false }} }}
package-data = {{ detectron2 = ["model_zoo/configs/**/*.yaml", "model_zoo/configs/**/*.py"] }}
"""


def wheel_version() -> str:
    """Return upstream's version with a label that changes whenever the edits change."""
    content = repr((SHA256, list(EDITS.items()), list(ADDITIONS.items()), PROJECTS, PYPROJECT))
    return f"0.6+pure.e{hashlib.sha256(content.encode()).hexdigest()[:8]}"


def installed_version() -> str | None:
    """Return the version of the detectron2 in this environment; None without one, "" without metadata."""
    if importlib.util.find_spec("detectron2") is None:
        return None
    try:
        return importlib.metadata.version("detectron2")
    except importlib.metadata.PackageNotFoundError:
        return ""


def build_wheel(sdist: Path, directory: Path) -> Path:
    """Build the wheel from the source archive.

    Args:
        sdist: the archive.
        directory: folder for the wheel; created if absent.

    Returns:
        The wheel.

    Raises:
        BuildError: the archive is not the pinned one, an edit does not apply, or pip failed.
    """
    found = hashlib.sha256(sdist.read_bytes()).hexdigest()
    if found != SHA256:
        raise BuildError(f"{sdist}: expected SHA-256 {SHA256}, found {found}")
    with tempfile.TemporaryDirectory() as scratch:
        with tarfile.open(sdist) as archive:  # its content is pinned by the hash
            archive.extractall(scratch)
        source = Path(scratch) / SDIST
        for origin, target in PROJECTS.items():
            shutil.move(source / origin, source / "detectron2" / target)
        apply_edits(source / "detectron2")
        for name in ("setup.py", "setup.cfg"):
            (source / name).unlink(missing_ok=True)
        (source / "pyproject.toml").write_text(PYPROJECT.format(version=wheel_version()))
        _pip("wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(directory), str(source))
    return directory / f"detectron2-{wheel_version()}-py3-none-any.whl"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--force", action="store_true", help="replace an installed detectron2")
    parser.add_argument(
        "--from-git", nargs="?", const=UPSTREAM, metavar="URL", help=f"build upstream's instead ({UPSTREAM})"
    )
    parser.add_argument("--wheel-dir", type=Path, metavar="DIR", help="write the wheel here, install nothing")
    parser.add_argument("--sdist", type=Path, metavar="FILE", help="source archive that you downloaded")
    options = parser.parse_args(arguments)
    try:
        _run(options)
    except (BuildError, OSError) as error:
        sys.stderr.write(f"install_detectron2: {error}\n")
        return 1
    return 0


def _run(options: argparse.Namespace) -> None:
    version = installed_version()
    if version is not None and not options.wheel_dir:
        outdated = "+pure." in version and version != wheel_version()
        if not options.force and not outdated:
            _say(f"detectron2 {version} is installed: left as it is (--force replaces it)")
            return
        if not version:
            raise BuildError("detectron2: expected an installation by pip, found a folder; remove it first")
    if importlib.util.find_spec("torch") is None:
        raise BuildError("torch: expected to be installed before detectron2, found none")
    with tempfile.TemporaryDirectory() as scratch:
        directory = options.wheel_dir or Path(scratch)
        if options.from_git:
            _pip("wheel", "--no-deps", "--no-build-isolation", "-w", str(directory), options.from_git)
        else:
            sdist = options.sdist or _download(Path(scratch))
            build_wheel(sdist, directory)
        wheel = max(directory.glob("detectron2-*.whl"), key=lambda path: path.stat().st_mtime)
        if options.wheel_dir:
            _say(f"wrote {wheel}")
            return
        # by version, not by path, so that pip's records do not point to a scratch folder
        pinned = f"detectron2=={wheel.name.split('-')[1]}"
        _pip("install", "-q", "--find-links", str(directory), pinned)
        if version is not None:
            _pip("install", "-q", "--no-deps", "--force-reinstall", "--find-links", str(directory), pinned)
    importlib.invalidate_caches()
    _say(f"detectron2 {installed_version()} is installed")


def _download(directory: Path) -> Path:
    """Download the source archive with pip's settings; its setup script needs torch."""
    options = ("--no-deps", "--no-build-isolation", "--no-binary", ":all:", "-d", str(directory))
    _pip("download", "-q", *options, "pb1-detectron2==0.6")
    return next(directory.glob("*.tar.gz"))


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    if subprocess.run(command, check=False).returncode:
        raise BuildError(f"pip {arguments[0]} failed, see above")


def _say(text: str) -> None:
    sys.stdout.write(f"install_detectron2: {text}\n")


if __name__ == "__main__":
    sys.exit(main())
