"""Make the project's virtual environment, and do nothing when it is up to date: `make setup` calls this.

Each step has a digest of the files it depends on and of the step before it. Finished steps are recorded in
the environment, so a run after a failure or a change starts at the first step that is not as recorded.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
STAMP = "sor-setup.json"
LOG = "sor-setup.log"
DISK_GB = 8  # for the environment and pip's unpacking


class SetupError(Exception):
    """What went wrong and what to do about it, in one line."""


class Step(NamedTuple):
    """One step of the set-up.

    Attributes:
        name: key in the stamp.
        title: what a newcomer reads.
        inputs: files whose contents the step depends on, relative to the root.
        run: does it.
    """

    name: str
    title: str
    inputs: tuple[str, ...]
    run: Callable[[Environment], None]


class Environment:
    """The virtual environment and the commands run in it.

    Args:
        folder: of the environment.
        root: of the project.
        beat: seconds between signs of life while a command runs.
    """

    def __init__(self, folder: Path, root: Path, beat: float = 30.0) -> None:
        self.folder = folder
        self.root = root
        self.python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        self._beat = beat

    def call(self, command: Sequence[str | os.PathLike[str]], **variables: str) -> None:
        """Run a command in the root, its output going to the log.

        Raises:
            SetupError: it failed; the message holds the end of its output.
        """
        log = self.folder / LOG
        fixed = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore", "PIP_NO_INPUT": "1"}
        with log.open("ab") as stream:
            start = stream.tell()
            stream.write(f"$ {' '.join(map(str, command))}\n".encode())
            stream.flush()
            process = subprocess.Popen(
                [str(part) for part in command],
                cwd=self.root,
                env={**os.environ, **fixed, **variables},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
            began = time.monotonic()
            try:
                while True:
                    try:
                        status = process.wait(self._beat)
                        break
                    except subprocess.TimeoutExpired:
                        say(f"      still at it after {_duration(time.monotonic() - began)}")
            finally:
                if process.poll() is None:
                    process.terminate()
                    process.wait()
        if status:
            with log.open("rb") as stream:
                stream.seek(start)
                tail = stream.read().decode("utf-8", "replace").splitlines()[-15:]
            shown = "\n".join(f"      {line}" for line in tail)
            hint = ""
            if "(from versions: none)" in shown or "connection broken" in shown:
                hint = "\n      (no package index could be reached: check the network and pip's index-url)"
            raise SetupError(f"exit status {status}; all output is in {log}, its end:\n{shown}{hint}")

    def pip(self, *arguments: str) -> None:
        """`pip install` with the tested versions as constraints."""
        constraints = ["-c", "requirements/constraints.txt"] if self._constrained else []
        self.call([self.python, "-m", "pip", "install", "--progress-bar", "off", *constraints, *arguments])

    @property
    def _constrained(self) -> bool:
        return (self.root / "requirements/constraints.txt").is_file()

    @property
    def constraint(self) -> Mapping[str, str]:
        """The variable that gives the constraints to a pip that another program runs."""
        path = (self.root / "requirements/constraints.txt").as_uri()
        return {"PIP_CONSTRAINT": path} if self._constrained else {}


def create(environment: Environment) -> None:
    """An environment with pip, made by the interpreter that runs this."""
    folder = environment.folder
    if _usable(environment):
        return
    if folder.exists() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").is_file():
        raise SetupError(f"{folder} is no virtual environment: move it away, then run make setup again")
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        raise SetupError(
            f"{sys.executable} has no venv or ensurepip module; on Debian and Ubuntu: "
            f"sudo apt-get install python{sys.version_info[0]}.{sys.version_info[1]}-venv"
        )
    done = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        words = " ".join((done.stdout + done.stderr).split())[-400:]
        raise SetupError(f"cannot make a virtual environment in {folder}: {words}")


def install_torch(environment: Environment) -> None:
    """The pinned pair."""
    free = shutil.disk_usage(environment.folder).free / 1e9
    if free < DISK_GB:
        raise SetupError(f"{environment.folder} needs {DISK_GB} GB of free disk space, found {free:.1f} GB")
    environment.pip("-r", "requirements/torch.txt", "-r", "requirements/build.txt")


def install_detectron2(environment: Environment) -> None:
    """detectron2, unless there is one."""
    environment.call([environment.python, "tools/install_detectron2.py"], **environment.constraint)


def install_requirements(environment: Environment) -> None:
    """What the package and its tests import."""
    lists = ("torch", "runtime", "opencv", "dev")
    environment.pip(*(part for name in lists for part in ("-r", f"requirements/{name}.txt")))
    environment.pip("--no-deps", "-r", "requirements/no-deps.txt")


def install_package(environment: Environment) -> None:
    """The package itself, editable, and proof that everything can be imported."""
    environment.pip("--no-deps", "--no-build-isolation", "-e", ".")
    environment.call([environment.python, "-c", "import torch, torchvision, detectron2, cv2, sor_ppa"])


STEPS: tuple[Step, ...] = (
    Step("venv", "virtual environment", (), create),
    Step(
        "torch",
        "torch and torchvision (the first time: 2.7 GB to download, some minutes)",
        ("requirements/torch.txt", "requirements/build.txt", "requirements/constraints.txt"),
        install_torch,
    ),
    Step(
        "detectron2",
        "detectron2 and what it needs (the first time: 30 MB)",
        (
            "tools/install_detectron2.py",
            "tools/detectron2_wheel/edits.py",
            "tools/detectron2_wheel/package_index.py",
            "tools/detectron2_wheel/wheel.py",
        ),
        install_detectron2,
    ),
    Step(
        "requirements",
        "libraries of the package and its tests (the first time: 170 MB, about a minute)",
        tuple(f"requirements/{name}.txt" for name in ("runtime", "opencv", "dev", "no-deps")),
        install_requirements,
    ),
    Step(
        "package", "sor_ppa itself (editable), first import", ("setup.py", "pyproject.toml"), install_package
    ),
)


def digests(root: Path, steps: Sequence[Step] = STEPS) -> dict[str, str]:
    """What each step's record must say to be up to date."""
    result: dict[str, str] = {}
    state = hashlib.sha256(str(root).encode())
    for step in steps:
        state.update(step.name.encode())
        for name in step.inputs:
            path = root / name
            state.update(path.read_bytes() if path.is_file() else b"absent")
        result[step.name] = state.hexdigest()
    return result


def setup(
    environment: Environment, steps: Sequence[Step] = STEPS, explicit: bool = False, force: bool = False
) -> None:
    """Bring the environment up to date.

    Args:
        environment: to make or repair; one that is a link to a folder is left alone.
        steps: in order.
        explicit: whether the person named the interpreter, which must then be the environment's.
        force: run every step.

    Raises:
        SetupError: a step failed; the finished ones stay recorded.
    """
    if environment.folder.is_symlink():
        return  # someone else's environment, to be used as it is
    if explicit:
        _check_version(environment.folder)
    wanted = digests(environment.root, steps)
    stamp = environment.folder / STAMP
    recorded = {} if force or not _runs(environment.python) else _read(stamp)
    if recorded == wanted:
        return
    fresh = True
    for number, step in enumerate(steps, 1):
        fresh = fresh and recorded.get(step.name) == wanted[step.name]
        if fresh:
            continue
        say(f"[{number}/{len(steps)}] {step.title}")
        began = time.monotonic()
        try:
            step.run(environment)
        except SetupError as error:
            raise SetupError(f"step {number} of {len(steps)} ({step.name}) failed: {error}") from error
        recorded = {name: recorded[name] for name in recorded if name in wanted} | {
            step.name: wanted[step.name]
        }
        for later in steps[number:]:
            recorded.pop(later.name, None)
        stamp.write_text(json.dumps(recorded, indent=1) + "\n", "utf-8")
        say(f"      done in {_duration(time.monotonic() - began)}")
    say(f"ready: {environment.python}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="default: %(default)s")
    parser.add_argument("--explicit", action="store_true", help="the environment must have this very Python")
    parser.add_argument("--force", action="store_true", help="run every step again")
    options = parser.parse_args(arguments)
    try:
        setup(Environment(options.venv.absolute(), ROOT), explicit=options.explicit, force=options.force)
    except SetupError as error:
        sys.stderr.write(
            f"setup: {error}\nsetup: finished steps are kept; run `make setup` again after a repair\n"
        )
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nsetup: interrupted; run `make setup` again to go on\n")
        return 130
    return 0


def say(text: str) -> None:
    """One line of progress."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _check_version(folder: Path) -> None:
    config = folder / "pyvenv.cfg"
    if not config.is_file():
        return
    match = re.search(r"^version(?:_info)?\s*=\s*(\d+)\.(\d+)", config.read_text("utf-8"), re.MULTILINE)
    if match and (int(match[1]), int(match[2])) != sys.version_info[:2]:
        raise SetupError(
            f"{folder} has Python {match[1]}.{match[2]}, "
            f"PYTHON is {sys.version_info[0]}.{sys.version_info[1]}: run `make clean-venv` first"
        )


def _runs(python: Path) -> bool:
    return python.is_file() and os.access(python, os.X_OK)


def _usable(environment: Environment) -> bool:
    if not _runs(environment.python):
        return False
    return (
        subprocess.run([environment.python, "-c", "import pip"], capture_output=True, check=False).returncode
        == 0
    )


def _read(stamp: Path) -> dict[str, str]:
    try:
        content = json.loads(stamp.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


if __name__ == "__main__":
    sys.exit(main())
