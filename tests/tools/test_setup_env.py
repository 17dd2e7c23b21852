import sys
from pathlib import Path

import pytest

import setup_env
from setup_env import LOG, Environment, SetupError, Step, setup


class Recorder:
    """Steps that note when they run, on a project of two input files."""

    def __init__(self, root: Path) -> None:
        self.ran: list[str] = []
        self.failing = ""
        for name in "ab":
            (root / name).write_text("1")
        self.environment = Environment(root / ".venv", root)
        self.steps = tuple(Step(name, f"title of {name}", (name,), self._step(name)) for name in "ab")

    def _step(self, name: str):
        def run(environment: Environment) -> None:
            self.ran.append(name)
            environment.python.parent.mkdir(parents=True, exist_ok=True)
            environment.python.write_text("#!/bin/sh\n")
            environment.python.chmod(0o755)
            if name == self.failing:
                raise SetupError("no reason")

        return run

    def run(self, **options: bool) -> list[str]:
        self.ran.clear()
        setup(self.environment, self.steps, **options)
        return list(self.ran)


@pytest.fixture
def project(tmp_path: Path) -> Recorder:
    root = tmp_path / "with space"
    root.mkdir()
    return Recorder(root)


def test_second_run_does_nothing(project: Recorder, capsys: pytest.CaptureFixture[str]):
    assert project.run() == ["a", "b"]
    capsys.readouterr()
    assert project.run() == []
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("changed", "expected"), [("a", ["a", "b"]), ("b", ["b"])])
def test_changed_file_runs_its_step_and_the_later_ones(project: Recorder, changed: str, expected: list[str]):
    project.run()
    (project.environment.root / changed).write_text("2")
    assert project.run() == expected


def test_run_after_a_failure_goes_on_there(project: Recorder):
    project.failing = "b"
    with pytest.raises(SetupError, match=r"step 2 of 2 \(b\) failed: no reason"):
        project.run()
    project.failing = ""
    assert project.run() == ["b"]


def test_failed_step_is_not_up_to_date_when_its_file_changes_back(project: Recorder):
    project.run()
    (project.environment.root / "a").write_text("2")
    project.failing = "a"
    with pytest.raises(SetupError):
        project.run()
    project.failing = ""
    assert project.run() == ["a", "b"]


def test_environment_that_lost_its_interpreter_is_made_again(project: Recorder):
    project.run()
    project.environment.python.unlink()
    assert project.run() == ["a", "b"]


def test_damaged_stamp_runs_everything(project: Recorder):
    project.run()
    (project.environment.folder / "sor-setup.json").write_text("{")
    assert project.run() == ["a", "b"]


def test_force_runs_everything(project: Recorder):
    project.run()
    assert project.run(force=True) == ["a", "b"]


def test_linked_environment_is_left_alone(project: Recorder, tmp_path: Path):
    (tmp_path / "other").mkdir()
    project.environment.folder.symlink_to(tmp_path / "other")
    assert project.run() == []


def test_environment_of_another_python_is_refused_when_one_is_named(project: Recorder):
    project.run()
    (project.environment.folder / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.1.4\n")
    with pytest.raises(SetupError, match=r"has Python 3\.1, PYTHON is 3\.\d+: run `make clean-venv`"):
        project.run(explicit=True)


def test_failed_command_shows_the_end_of_its_output(project: Recorder):
    project.run()
    script = "for i in range(40): print('line', i)\nraise SystemExit(3)"
    with pytest.raises(SetupError, match=r"exit status 3(?s:.*)line 39") as caught:
        project.environment.call([sys.executable, "-c", script])
    assert "line 20" not in str(caught.value)
    assert "line 20" in (project.environment.folder / LOG).read_text()


def test_unreachable_index_is_explained(project: Recorder):
    project.run()
    script = "raise SystemExit('ERROR: Could not find a version that satisfies x (from versions: none)')"
    with pytest.raises(SetupError, match="check the network"):
        project.environment.call([sys.executable, "-c", script])


def test_missing_venv_module_says_what_to_install(project: Recorder, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(setup_env.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SetupError, match=r"apt-get install python3\.\d+-venv"):
        setup_env.create(project.environment)


def test_folder_that_is_no_environment_is_not_touched(project: Recorder):
    project.environment.folder.mkdir()
    (project.environment.folder / "precious").write_text("x")
    with pytest.raises(SetupError, match="is no virtual environment: move it away"):
        setup_env.create(project.environment)
    assert (project.environment.folder / "precious").is_file()


def test_long_command_gives_signs_of_life(project: Recorder, capsys: pytest.CaptureFixture[str]):
    project.run()
    environment = Environment(project.environment.folder, project.environment.root, beat=0.001)
    environment.call([sys.executable, "-c", "pass"])
    assert "still at it" in capsys.readouterr().out
