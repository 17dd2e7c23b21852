import base64
import csv
import gzip
import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.utils import parse_wheel_filename

import detectron2_wheel.wheel as wheel_module
import install_detectron2
from detectron2_wheel import BuildError
from detectron2_wheel.edits import EDITS, NOTICE, Edit, apply_edits
from detectron2_wheel.wheel import PROJECTS, build_wheel, wheel_name, wheel_version


def archive(files: dict[str, str]) -> bytes:
    """A source archive with these files, laid out as the published one."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"pb1-detectron2-0.6/{name}")
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
    return gzip.compress(buffer.getvalue(), mtime=0)


def sources() -> dict[str, str]:
    """Files that hold what every edit looks for, and nothing else."""
    files = {
        "LICENSE": "licence text",
        "setup.py": "raise SystemExit",
        "detectron2/__init__.py": "",
        "detectron2/model_zoo/configs/Base-RCNN-FPN.yaml": "MODEL: {}",
    }
    folders = {target: source for source, target in PROJECTS.items()}
    for group in EDITS.values():
        for edit in group:
            name = f"detectron2/{edit.path}"
            for target, source in folders.items():
                name = name.replace(f"detectron2/{target}", source)
            files[name] = files.get(name, "") + "\n".join([edit.old] * edit.times) + "\n"
    return files


@pytest.fixture(autouse=True)
def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install_detectron2, "read_settings", lambda: None)


@pytest.fixture
def sdist(monkeypatch: pytest.MonkeyPatch) -> bytes:
    data = archive(sources())
    monkeypatch.setattr(wheel_module, "SDIST_SHA256", hashlib.sha256(data).hexdigest())
    return data


def test_edit_replaces_whole_names_only():
    edits = {"why": [Edit("a.py", "np.int", "int", 1)]}
    result = apply_edits({"a.py": b"np.int, np.int64, xnp.int"}, edits, {})
    assert result["a.py"].decode() == "int, np.int64, xnp.int" + NOTICE


def test_files_without_edits_are_left_as_they_are():
    result = apply_edits({"a.py": b"x", "b.py": b"y"}, {"why": [Edit("a.py", "x", "z", 1)]}, {})
    assert result["b.py"] == b"y"


@pytest.mark.parametrize("text", [b"x = 1", b"np.bool np.bool"])
def test_edit_that_does_not_match_as_often_as_expected_is_refused(text: bytes):
    with pytest.raises(BuildError, match=r"a\.py: 'np\.bool' found [02] times, expected 1"):
        apply_edits({"a.py": text}, {"why": [Edit("a.py", "np.bool", "bool", 1)]}, {})


def test_edit_of_a_missing_file_is_refused():
    with pytest.raises(BuildError, match=r"detectron2/a\.py: not in the source archive"):
        apply_edits({}, {"why": [Edit("a.py", "x", "y", 1)]}, {})


def test_addition_that_is_already_there_is_refused():
    with pytest.raises(BuildError, match=r"detectron2/new\.py: already in the source archive"):
        apply_edits({"new.py": b""}, {}, {"new.py": "text"})


def test_wheel_is_the_same_bytes_every_time(sdist: bytes, tmp_path: Path):
    first = build_wheel(sdist, tmp_path / "a").read_bytes()
    assert first == build_wheel(sdist, tmp_path / "b").read_bytes()


def test_wheel_name_is_what_installers_expect(sdist: bytes, tmp_path: Path):
    name, version, _, tags = parse_wheel_filename(build_wheel(sdist, tmp_path).name)
    assert (name, version.public, str(version)) == ("detectron2", "0.6", wheel_version())
    assert {str(tag) for tag in tags} == {"py3-none-any"}


def test_record_lists_every_file_with_its_hash(sdist: bytes, tmp_path: Path):
    with zipfile.ZipFile(build_wheel(sdist, tmp_path)) as wheel:
        names = wheel.namelist()
        record = next(name for name in names if name.endswith("/RECORD"))
        rows = {row[0]: row[1:] for row in csv.reader(io.StringIO(wheel.read(record).decode()))}
        assert set(rows) == set(names)
        assert rows.pop(record) == ["", ""]
        for name, (digest, size) in rows.items():
            data = wheel.read(name)
            expected = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            assert (digest, size) == (f"sha256={expected}", str(len(data)))


def test_wheel_holds_projects_configs_and_licence_but_no_setup_script(sdist: bytes, tmp_path: Path):
    with zipfile.ZipFile(build_wheel(sdist, tmp_path)) as wheel:
        names = set(wheel.namelist())
    assert "detectron2/projects/panoptic_deeplab/post_processing.py" in names
    assert "detectron2/model_zoo/configs/Base-RCNN-FPN.yaml" in names
    assert f"detectron2-{wheel_version()}.dist-info/LICENSE" in names
    assert not any(name.endswith("setup.py") for name in names)


def test_metadata_leaves_torch_to_the_environment(sdist: bytes, tmp_path: Path):
    with zipfile.ZipFile(build_wheel(sdist, tmp_path)) as wheel:
        text = wheel.read(f"detectron2-{wheel_version()}.dist-info/METADATA").decode()
    required = [line.split()[1] for line in text.splitlines() if line.startswith("Requires-Dist:")]
    assert any(name.startswith("fvcore") for name in required)
    assert not any(name.startswith(("torch", "black")) for name in required)


def test_wrong_archive_is_refused(tmp_path: Path):
    with pytest.raises(BuildError, match=r"sha256 is [0-9a-f]{64}, expected 5d2e9e51"):
        build_wheel(b"something else", tmp_path)


def test_version_follows_the_edits(monkeypatch: pytest.MonkeyPatch):
    before = wheel_version()
    monkeypatch.setattr(wheel_module, "EDITS", {"why": (Edit("a.py", "x", "y", 1),)})
    assert wheel_version() != before


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = install_detectron2.main(arguments)
    output = capsys.readouterr()
    return status, output.out, output.err


def test_installed_detectron2_is_named_and_left_alone(capsys: pytest.CaptureFixture[str], monkeypatch):
    found = install_detectron2.Installed("0.6", Path("site/detectron2"))
    monkeypatch.setattr(install_detectron2, "find_installed", lambda: found)
    status, out, err = run(capsys)
    assert (status, err) == (0, "")
    assert "detectron2 0.6 in site/detectron2: left as it is" in out


@pytest.mark.parametrize(
    ("version", "outdated"),
    [("0.6", False), ("0.6+pure.e00000000", True), (wheel_version(), False), (None, False)],
)
def test_only_another_state_of_this_build_is_outdated(version: str | None, outdated: bool):
    assert install_detectron2.Installed(version, Path("x")).outdated is outdated


def test_folder_that_pip_does_not_know_is_not_replaced(capsys: pytest.CaptureFixture[str], monkeypatch):
    found = install_detectron2.Installed(None, Path("site/detectron2"))
    monkeypatch.setattr(install_detectron2, "find_installed", lambda: found)
    status, _, err = run(capsys, "--force")
    assert status == 1
    assert err.count("\n") == 1
    assert "remove that folder first" in err


def test_wheel_dir_only_builds(capsys: pytest.CaptureFixture[str], sdist: bytes, tmp_path: Path):
    given = tmp_path / "sdist.tar.gz"
    given.write_bytes(sdist)
    status, out, _ = run(capsys, "--sdist", str(given), "--wheel-dir", str(tmp_path / "wheels"))
    assert status == 0
    assert out.strip().endswith(str(tmp_path / "wheels" / wheel_name()))


@pytest.mark.parametrize("given", ["absent.tar.gz", "wrong.tar.gz"])
def test_unusable_archive_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path, given: str):
    (tmp_path / "wrong.tar.gz").write_bytes(b"x")
    status, _, err = run(capsys, "--sdist", str(tmp_path / given), "--wheel-dir", str(tmp_path))
    assert status == 1
    assert err.count("\n") == 1
    assert given in err


def test_wheel_dir_that_cannot_be_written_is_one_line(
    capsys: pytest.CaptureFixture[str], sdist: bytes, tmp_path: Path
):
    given = tmp_path / "sdist.tar.gz"
    given.write_bytes(sdist)
    status, _, err = run(capsys, "--sdist", str(given), "--wheel-dir", str(given / "below"))
    assert status == 1
    assert err.count("\n") == 1
    assert "cannot write" in err


def test_fetched_archive_is_cached(sdist: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(install_detectron2, "fetch", lambda *arguments: sdist)
    assert install_detectron2.get_sdist(None, tmp_path / "cache") == sdist
    monkeypatch.setattr(install_detectron2, "fetch", None)
    assert install_detectron2.get_sdist(None, tmp_path / "cache") == sdist


def test_damaged_cache_is_fetched_again(sdist: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "pb1-detectron2-0.6.tar.gz").write_bytes(sdist[:100])
    monkeypatch.setattr(install_detectron2, "fetch", lambda *arguments: sdist)
    assert install_detectron2.get_sdist(None, tmp_path) == sdist
    assert (tmp_path / "pb1-detectron2-0.6.tar.gz").read_bytes() == sdist
