"""Datasets in tar files with an index."""

from __future__ import annotations

import builtins
import json
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from detectron2.utils import comm

from sor_ppa.cli import main
from sor_ppa.data import DatasetError, ImageRecord, load_records, mapper
from sor_ppa.data.builtin import FORMATS, source_of
from sor_ppa.data.check import check_dataset
from sor_ppa.data.export import write_records
from sor_ppa.data.images import decoded_image
from sor_ppa.data.own import register_own
from sor_ppa.data.record import to_detectron2
from sor_ppa.data.shards import ShardTrainingSampler, write_shards
from sor_ppa.data.train_loader import train_loader
from sor_ppa.tar_members import member_of
from tests.data.folders import edit, make_assr_folder
from tests.data.test_reader import MAKERS
from tests.models import make_cfg
from tools.trials import Training, make_data, same_state


def read(kind: str, root: Path) -> list[ImageRecord]:
    return FORMATS[kind].read(root, "train", keep_rankless=True)


@pytest.fixture
def original(tmp_path: Path) -> list[ImageRecord]:
    """Five images, with labels and objects without a rank."""
    return read("assr", make_assr_folder(tmp_path / "ASSR"))


@pytest.fixture
def shards(original: list[ImageRecord], tmp_path: Path) -> Path:
    """Three shards with two images each, and one."""
    write_shards(original, tmp_path / "shards", "train", images_per_shard=2)
    return tmp_path / "shards"


def make(kind: str, root: Path) -> Path:
    return make_assr_folder(root) if kind == "assr" else MAKERS[kind](root)


@pytest.mark.parametrize("kind", ["assr", *MAKERS])
def test_records_are_read_back_as_they_are(kind: str, tmp_path: Path) -> None:
    before = read(kind, make(kind, tmp_path / "set"))
    write_shards(before, tmp_path / "shards", "train", images_per_shard=2)
    after = read("shards", tmp_path / "shards")
    assert len(after) == len(before)
    for old, new in zip(before, after, strict=True):
        assert Path(new.file_name).name == Path(old.file_name).name
        assert (new.image_id, new.height, new.width) == (old.image_id, old.height, old.width)
        assert [item.box for item in new.objects] == [tuple(item.box) for item in old.objects]
        assert [item.rank for item in new.objects] == [item.rank for item in old.objects]
        assert [item.label for item in new.objects] == [item.label for item in old.objects]
        assert (new.masks() == old.masks()).all()
        assert (decoded_image(new.file_name) == decoded_image(old.file_name)).all()


def test_they_are_shards_of_webdataset(original: list[ImageRecord], shards: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    urls = sorted(str(file) for file in shards.glob("*.tar"))
    assert [Path(url).name for url in urls] == [f"train-00000{number}.tar" for number in range(3)]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [sample["jpg"] for sample in samples] == [Path(r.file_name).read_bytes() for r in original]
    names = [json.loads(sample["json"])["file_name"] for sample in samples]
    assert names == [Path(record.file_name).name for record in original]


def test_only_the_shards_of_the_images_are_opened(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: Counter[str] = Counter()

    def counting(file: Any, *arguments: Any, **options: Any) -> Any:
        opened[Path(str(file)).name] += 1
        return real(file, *arguments, **options)

    real: Callable[..., Any] = builtins.open
    monkeypatch.setattr(builtins, "open", counting)
    records = read("shards", shards)
    assert not any(name.endswith(".tar") for name in opened)
    for record in records[2:4]:
        decoded_image(record.file_name)
    assert {name: count for name, count in opened.items() if name.endswith(".tar")} == {"train-000001.tar": 2}


def batches(records: list[ImageRecord]) -> list[Any]:
    cfg = make_cfg(SOLVER__IMS_PER_BATCH=2, DATALOADER__NUM_WORKERS=0, INPUT__COLOR__ENABLED=True)
    loader = train_loader(
        cfg, mapper.RankingDatasetMapper(cfg), [to_detectron2(record) for record in records]
    )
    loader.seed = 3
    return list(islice(loader, 4))


def test_training_batches_are_those_of_the_files(original: list[ImageRecord], shards: Path) -> None:
    pairs = zip(batches(original), batches(read("shards", shards)), strict=True)
    for old, new in ((a, b) for pair in pairs for a, b in zip(*pair, strict=True)):
        assert torch.equal(old["image"], new["image"])
        fields, others = old["instances"].get_fields(), new["instances"].get_fields()
        assert torch.equal(fields["gt_ranks"], others["gt_ranks"])
        assert torch.equal(fields["gt_boxes"].tensor, others["gt_boxes"].tensor)
        masks = [
            [np.concatenate(parts) for parts in found["gt_masks"].polygons] for found in (fields, others)
        ]
        assert all((a == b).all() for a, b in zip(*masks, strict=True))


@pytest.mark.slow
def test_training_from_shards_gives_the_weights_of_training_from_files(tmp_path: Path) -> None:
    make_data(tmp_path)
    write_shards(read("assr", tmp_path / "synthetic_sor"), tmp_path / "tar", "train", images_per_shard=5)
    own = f"DATASETS.OWN ('tar_train=shards:{tmp_path / 'tar'}',) DATASETS.TRAIN ('tar_train',)"
    for name, options in (("files", ""), ("shards", own)):
        Training(tmp_path, tmp_path / name, options=options).finish()
    assert same_state(tmp_path / "files/model_final.pth", tmp_path / "shards/model_final.pth")


def indices(
    monkeypatch: pytest.MonkeyPatch, files: list[str], rank: int, world: int, count: int
) -> list[int]:
    monkeypatch.setattr(comm, "get_rank", lambda: rank)
    monkeypatch.setattr(comm, "get_world_size", lambda: world)
    return list(islice(ShardTrainingSampler(files, seed=1), count))


def test_each_process_reads_its_own_shards_in_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [f"/a/{number // 10}.tar/0+1/{number}.jpg" for number in range(80)]
    epochs = [indices(monkeypatch, files, rank, 4, 40) for rank in range(4)]
    for epoch in (slice(0, 20), slice(20, 40)):
        shares = [share[epoch] for share in epochs]
        assert sorted(number for share in shares for number in share) == list(range(80))
        assert [len({number // 10 for number in share}) for share in shares] == [2] * 4
    assert {number // 10 for number in epochs[0][:20]} != {number // 10 for number in epochs[0][20:]}


def test_processes_have_equal_shares_of_any_number_of_images(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [f"/a/{number // 2}.tar/0+1/{number}.jpg" for number in range(5)]
    shares = [indices(monkeypatch, files, rank, 3, 2) for rank in range(3)]
    assert {number for share in shares for number in share} == set(range(5))


def test_the_sampler_refuses_files() -> None:
    with pytest.raises(DatasetError, match=r"expected images in shards, found /a/b\.jpg"):
        ShardTrainingSampler(["/a/b.jpg"], seed=0)


def test_shards_at_a_url(original: list[ImageRecord], tmp_path: Path) -> None:
    (name,) = write_shards(original, tmp_path, "train", url="memory://bucket/set/")
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/bucket/set/" + name, (tmp_path / name).read_bytes())
    (tmp_path / name).unlink()
    records = read("shards", tmp_path)
    for old, new in zip(original, records, strict=True):
        assert (decoded_image(new.file_name) == decoded_image(old.file_name)).all()
    memory.rm_file("/bucket/set/" + name)
    with pytest.raises(
        DatasetError, match=r"memory://bucket/set/train-000000\.tar/.*expected an image, found"
    ):
        decoded_image(records[0].file_name)


def test_the_command_and_the_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_assr_folder(tmp_path / "ASSR")
    words = ["data", "shards", "assr_train", "--root", str(tmp_path), "--output", str(tmp_path / "tar")]
    assert main([*words, "--images-per-shard", "3"]) == 0
    assert f"{tmp_path / 'tar'}: 5 images in 2 shards (train)" in capsys.readouterr().out
    name = register_own(f"tar_train=shards:{tmp_path / 'tar'}")
    assert len(load_records(name)) == 5
    records, issues = check_dataset(source_of(name))
    assert len(records) == 5
    assert not [issue for issue in issues if issue.serious]
    assert main([*words, "--images-per-shard", "0"]) == 2


def test_images_of_shards_become_files_again(
    original: list[ImageRecord], shards: Path, tmp_path: Path
) -> None:
    write_records(read("shards", shards), tmp_path / "back", "coco", "train")
    for old, new in zip(original, read("coco", tmp_path / "back"), strict=True):
        assert Path(new.file_name).read_bytes() == Path(old.file_name).read_bytes()


def test_an_image_that_its_shard_lacks_is_named(shards: Path) -> None:
    with (shards / "train-000001.tar").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(DatasetError, match=r"index\.json.*found a broken file: .*train-000001\.tar/"):
        read("shards", shards)
    (shards / "train-000001.tar").unlink()
    with pytest.raises(DatasetError, match="found no such image: .*train-000001.tar/.*1 more"):
        read("shards", shards)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"shard": None}, "shard"),
        ({"shard": "train.zip"}, "shard"),
        ({"offset": -1}, "offset, size"),
        ({"size": "many"}, "offset, size"),
        ({"image_id": None}, "image_id"),
        ({"height": 0}, "height, width"),
        ({"width": 10**9}, "height, width"),
        ({"annotations": None}, "annotations"),
        ({"annotations": [7]}, r"annotations\[0\]"),
    ],
)
def test_a_broken_index_is_one_line(change: dict[str, Any], field: str, shards: Path) -> None:
    edit(shards / "train.index.json", lambda content: content["images"][1].update(change))
    with pytest.raises(DatasetError, match=rf"train\.index\.json: record 1 .*field {field}: expected"):
        read("shards", shards)


def test_shards_of_an_earlier_writing_are_not_mixed_in(original: list[ImageRecord], shards: Path) -> None:
    with pytest.raises(DatasetError, match=r"expected no other shards of train, found train-000001\.tar"):
        write_shards(original, shards, "train", images_per_shard=5)
    assert len(read("shards", shards)) == 5


@pytest.mark.parametrize("path", ["/a/b.jpg", "/a/b.tar", "/a/b.tar/c.jpg", "/a/b.tar/1+2/", "/a.tar/1-2/c"])
def test_ordinary_paths_are_not_in_tar_files(path: str) -> None:
    assert member_of(path) is None
