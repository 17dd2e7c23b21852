"""The edits of detectron2's source, and what the tool says and refuses."""

from pathlib import Path

import pytest

import install_detectron2
from detectron2_edits import NOTICE, BuildError, Edit, apply_edits


def test_edit_replaces_whole_names_and_marks_the_file(tmp_path: Path):
    (tmp_path / "a.py").write_text("np.int, np.int64, xnp.int")
    (tmp_path / "b.py").write_text("np.int")
    apply_edits(tmp_path, {"why": [Edit("a.py", "np.int", "int", 1)]}, {"c.py": "new"})
    assert (tmp_path / "a.py").read_text() == "int, np.int64, xnp.int" + NOTICE
    assert (tmp_path / "b.py").read_text() == "np.int"
    assert (tmp_path / "c.py").read_text() == "new"


@pytest.mark.parametrize("text", ["x = 1", "np.bool np.bool", None])
def test_edit_that_does_not_fit_leaves_every_file_as_it_is(tmp_path: Path, text: str | None):
    (tmp_path / "first.py").write_text("x")
    if text is not None:
        (tmp_path / "a.py").write_text(text)
    with pytest.raises(BuildError, match=r"detectron2/a\.py: expected .*found (0|2|no such file)$"):
        apply_edits(
            tmp_path, {"why": [Edit("first.py", "x", "y", 1), Edit("a.py", "np.bool", "bool", 1)]}, {}
        )
    assert (tmp_path / "first.py").read_text() == "x"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = install_detectron2.main(arguments)
    return status, *capsys.readouterr()


@pytest.mark.parametrize("version", ["0.6", "", install_detectron2.wheel_version()])
def test_installed_detectron2_is_left_alone(capsys, monkeypatch, version: str):
    monkeypatch.setattr(install_detectron2, "installed_version", lambda: version)
    monkeypatch.setattr(install_detectron2, "_pip", lambda *arguments: pytest.fail("pip was called"))
    status, out, err = run(capsys)
    assert (status, err) == (0, "")
    assert "is installed: left as it is" in out


def test_another_state_of_this_build_is_replaced(capsys, monkeypatch):
    calls = []
    monkeypatch.setattr(install_detectron2, "installed_version", lambda: "0.6+pure.e00000000")
    monkeypatch.setattr(install_detectron2, "_download", lambda folder: folder / "sdist")
    monkeypatch.setattr(
        install_detectron2,
        "build_wheel",
        lambda sdist, folder: (folder / "detectron2-1-py3-none-any.whl").touch(),
    )
    monkeypatch.setattr(install_detectron2, "_pip", lambda *arguments: calls.append(arguments))
    assert run(capsys)[0] == 0
    assert [call[-1] for call in calls] == ["detectron2==1", "detectron2==1"]


def test_folder_that_pip_does_not_know_is_not_replaced(capsys, monkeypatch):
    monkeypatch.setattr(install_detectron2, "installed_version", lambda: "")
    status, _, err = run(capsys, "--force")
    assert status == 1
    assert err.count("\n") == 1
    assert "remove it first" in err


@pytest.mark.parametrize("given", ["absent.tar.gz", "wrong.tar.gz"])
def test_unusable_archive_is_one_line(capsys, tmp_path: Path, given: str):
    (tmp_path / "wrong.tar.gz").write_bytes(b"x")
    status, _, err = run(capsys, "--sdist", str(tmp_path / given), "--wheel-dir", str(tmp_path))
    assert status == 1
    assert err.count("\n") == 1
    assert given in err


def test_version_follows_the_edits(monkeypatch: pytest.MonkeyPatch):
    before = install_detectron2.wheel_version()
    monkeypatch.setattr(install_detectron2, "EDITS", {"why": (Edit("a.py", "x", "y", 1),)})
    assert install_detectron2.wheel_version() != before
