"""Install detectron2 where only a package index can be reached, or upstream's from git.

    python tools/install_detectron2.py              # 0.6 in pure Python, unless a detectron2 is there already
    python tools/install_detectron2.py --from-git   # upstream, compiled here: needs git and a C++ compiler

Upstream publishes no package. The index project pb1-detectron2 is the source of upstream's tag v0.6 without
its C++ code: this tool fetches that archive, pinned by hash, applies a short list of checked edits
(`detectron2_wheel/edits.py`) and installs the resulting wheel under detectron2's own name.
"""

import argparse
import importlib.metadata
import importlib.util
import os
import shutil
import site
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from detectron2_wheel import BuildError
from detectron2_wheel.package_index import fetch, read_settings
from detectron2_wheel.wheel import SDIST_PROJECT, SDIST_VERSION, build_wheel, check_sdist, wheel_version

UPSTREAM = "https://github.com/facebookresearch/detectron2.git"


class Installed(NamedTuple):
    """The detectron2 of this interpreter.

    Attributes:
        version: as its metadata says; None where there is a folder but no metadata.
        folder: where it lies.
    """

    version: str | None
    folder: Path

    @property
    def outdated(self) -> bool:
        """Whether an earlier state of this tool made it."""
        return bool(self.version and "+pure." in self.version and self.version != wheel_version())


def find_installed() -> Installed | None:
    """The detectron2 that `import detectron2` would give here, without importing it."""
    importlib.invalidate_caches()
    spec = importlib.util.find_spec("detectron2")
    if spec is None:
        return None
    folders = spec.submodule_search_locations or []
    folder = Path(spec.origin).parent if spec.origin else Path(next(iter(folders), "."))
    try:
        return Installed(importlib.metadata.version("detectron2"), folder)
    except importlib.metadata.PackageNotFoundError:
        return Installed(None, folder)


def get_sdist(given: Path | None, cache: Path) -> bytes:
    """The pinned source archive: the given file, the cached one, or fetched from the index and cached.

    Raises:
        BuildError: it cannot be read, cannot be fetched, or is not the pinned one.
    """
    if given:
        try:
            data = given.read_bytes()
        except OSError as error:
            raise BuildError(f"cannot read {given}: {error.strerror or error}") from error
        check_sdist(data, str(given))
        return data
    cached = cache / f"{SDIST_PROJECT}-{SDIST_VERSION}.tar.gz"
    try:
        data = cached.read_bytes()
        check_sdist(data, str(cached))
        return data
    except (OSError, BuildError):
        data = fetch(SDIST_PROJECT, SDIST_VERSION, check_sdist, read_settings())
    try:
        cache.mkdir(parents=True, exist_ok=True)
        partial = cached.with_suffix(f".{os.getpid()}.partial")
        partial.write_bytes(data)
        partial.replace(cached)
    except OSError:
        pass  # a cache that cannot be written costs a download next time, nothing else
    return data


def build_upstream(url: str, directory: Path) -> Path:
    """Compile upstream's detectron2 against the torch of this interpreter.

    Args:
        url: git address or local checkout, with an optional @revision.
        directory: where the wheel goes.

    Raises:
        BuildError: a tool is missing, or the build failed.
    """
    for module, remedy in (
        ("torch", "install torch and torchvision first"),
        ("setuptools", "run: python -m pip install 'setuptools<82' wheel"),
        ("wheel", "run: python -m pip install 'setuptools<82' wheel"),
    ):
        if importlib.util.find_spec(module) is None:
            raise BuildError(f"compiling detectron2 needs {module} in this environment: {remedy}")
    for command, package in (("git", "git"), (os.environ.get("CXX") or "c++", "build-essential")):
        if shutil.which(command) is None:
            raise BuildError(
                f"compiling detectron2 needs {command}, not found (Debian, Ubuntu: apt-get install {package})"
            )
    directory.mkdir(parents=True, exist_ok=True)
    before = set(directory.glob("detectron2-*.whl"))
    _say(f"compiling {url}: about 10 minutes on two cores")
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(directory), _git_requirement(url))
    made = set(directory.glob("detectron2-*.whl")) - before or before
    return max(made, key=lambda path: path.stat().st_mtime)


def install_wheel(wheel: Path, replace: bool) -> None:
    """Install a wheel and what it requires; `replace` also where this very version is installed.

    Raises:
        BuildError: nothing can be written there, or pip failed.
    """
    target = Path(sysconfig.get_path("purelib"))
    if not os.access(target, os.W_OK) and not site.ENABLE_USER_SITE:
        raise BuildError(f"cannot write {target}: no permission; use a virtual environment")
    # Named by version, not by path, so that pip's records do not point to a scratch folder.
    name, version = wheel.name.split("-")[:2]
    _pip("install", "--quiet", "--find-links", str(wheel.parent), f"{name}=={version}")
    if replace:
        _pip(
            "install",
            "--quiet",
            "--no-deps",
            "--force-reinstall",
            "--no-index",
            "--find-links",
            str(wheel.parent),
            name,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--force", action="store_true", help="replace an installed detectron2")
    parser.add_argument(
        "--from-git", nargs="?", const=UPSTREAM, metavar="URL", help=f"build upstream's instead ({UPSTREAM})"
    )
    parser.add_argument("--wheel-dir", type=Path, metavar="DIR", help="write the wheel here, install nothing")
    parser.add_argument("--sdist", type=Path, metavar="FILE", help="source archive you fetched yourself")
    parser.add_argument(
        "--cache-dir",
        type=Path,
        metavar="DIR",
        default=Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sor_ppa",
        help="keeps the fetched archive (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    try:
        _run(options)
    except BuildError as error:
        sys.stderr.write(f"install_detectron2: {error}\n")
        return 1
    return 0


def _run(options: argparse.Namespace) -> None:
    installed = find_installed()
    if installed and not options.wheel_dir:
        name = f"detectron2 {installed.version or 'without version'} in {installed.folder}"
        if not options.force and not installed.outdated:
            _say(f"{name}: left as it is (--force replaces it)")
            return
        if installed.version is None:
            raise BuildError(
                f"{name}: not installed by pip, so it cannot be replaced; remove that folder first"
            )
        _say(f"{name}: to be replaced")
    with tempfile.TemporaryDirectory() as scratch:
        directory = options.wheel_dir or Path(scratch)
        if options.from_git:
            wheel = build_upstream(options.from_git, directory)
        else:
            wheel = build_wheel(get_sdist(options.sdist, options.cache_dir), directory)
        if options.wheel_dir:
            _say(f"wrote {wheel}")
            return
        install_wheel(wheel, replace=bool(installed))
    done = find_installed()
    if done is None or done.version is None:
        raise BuildError("pip reported success, but detectron2 cannot be found in this environment")
    _say(f"detectron2 {done.version} installed in {done.folder}")
    if options.from_git and importlib.util.find_spec("pkg_resources") is None:
        _say("upstream's model zoo imports pkg_resources: python -m pip install 'setuptools<82'")


def _git_requirement(url: str) -> str:
    """What pip takes: a source folder as it is, anything else as a git address."""
    folder = Path(url)
    if url.startswith("git+") or (folder / "setup.py").is_file():
        return url
    return f"git+{folder.resolve().as_uri() if folder.is_dir() else url}"


def _pip(*arguments: str) -> None:
    if importlib.util.find_spec("pip") is None:
        raise BuildError(
            f"{sys.executable} has no pip: run {sys.executable} -m ensurepip, or use --wheel-dir"
        )
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, check=False)
    if done.returncode:
        raise BuildError(f"pip {arguments[0]} failed, see above (exit status {done.returncode})")


def _say(text: str) -> None:
    sys.stdout.write(f"install_detectron2: {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
