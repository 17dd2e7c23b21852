"""Configuration, training, resuming and evaluation through the door that users take."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from detectron2.engine import default_argument_parser
from detectron2.evaluation import DatasetEvaluators
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from safetensors.torch import save_file

from sor_ppa import SORPredictor
from sor_ppa.checkpoint import CheckpointError
from sor_ppa.config import ConfigError
from sor_ppa.data import DatasetError
from sor_ppa.data.builtin import register_all, register_from_config
from sor_ppa.data.synthetic import SyntheticSpec, write_dataset
from sor_ppa.engine import Trainer, run
from sor_ppa.evaluation.evaluator import SOREvaluator
from tests.models import REPO, make_cfg
from tools.trials import SYSTEMS, make_data, same_state, training_words

DEMO = str(REPO / "configs/sor/demo.yaml")
TINY = ["MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", "0", "SOLVER.IMS_PER_BATCH", "2"]
TINY += ["MODEL.FCOS.INFERENCE_TH_TEST", "0.005", "MODEL.SOR.DECODE", "all", "SOLVER.WARMUP_ITERS", "0"]


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("datasets")
    spec = SyntheticSpec({"train": 6, "val": 2, "test": 5}, (96, 128, 96, 128))
    write_dataset(root / "synthetic_sor", spec, workers=1)
    return root


@pytest.fixture(autouse=True)
def _registered() -> object:
    yield
    register_all()


def arguments(*words: str) -> list[str]:
    return ["--config-file", DEMO, *words]


def train(datasets: Path, output: Path, *options: str, flags: tuple[str, ...] = ()) -> dict:
    words = [*flags, "DATASETS.ROOT", str(datasets), "OUTPUT_DIR", str(output), *TINY, *options]
    return run(default_argument_parser().parse_args(arguments(*words)))


def scores(folder: Path) -> dict:
    return json.loads((folder / "inference/synthetic_sor_test/sor_metrics.json").read_text())["results"]


def test_train_resume_and_evaluate(datasets: Path, tmp_path: Path) -> None:
    first = train(datasets, tmp_path, "SOLVER.MAX_ITER", "2")
    assert {"sor", "bbox", "segm"} <= set(first)
    assert {"SA-SOR", "SOR", "SOR-images", "MAE", "SA-SOR-shuffled"} <= set(first["sor"])
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert any("sor_loss" in line for line in lines)
    assert list(tmp_path.glob("events.out.tfevents*"))
    log = (tmp_path / "log.txt").read_text()
    assert "copypaste: SA-SOR,SOR,MAE" in log
    assert f"{tmp_path / 'config.yaml'}" in log
    assert "\x1b[" not in log
    assert len(log.splitlines()) < 200

    resumed = train(datasets, tmp_path, "SOLVER.MAX_ITER", "3", flags=("--resume",))
    assert resumed["sor"]["MAE"] >= 0
    last = json.loads((tmp_path / "metrics.json").read_text().splitlines()[-1])
    assert last["iteration"] == 3
    assert "Starting training from iteration 2" in (tmp_path / "log.txt").read_text()

    file = str(tmp_path / "model_final.pth")
    predictor = SORPredictor.from_pretrained(file)  # configuration and class names are in the file
    assert predictor.class_names == ("salient_obj",)
    assert predictor.cfg.MODEL.SOR.DECODE == "all"
    assert predictor(np.zeros((96, 128, 3), np.uint8)).height == 96

    weights = ("MODEL.WEIGHTS", file)
    again = train(datasets, tmp_path / "eval", *weights, flags=("--eval-only",))
    assert again["sor"] == pytest.approx(resumed["sor"], nan_ok=True)
    assert again["segm"] == pytest.approx(resumed["segm"], nan_ok=True)
    single = ("TEST.IMS_PER_BATCH", "1")
    batched = train(datasets, tmp_path / "b", *weights, *single, flags=("--eval-only",))
    assert batched["sor"] == pytest.approx(again["sor"], nan_ok=True, abs=1e-6)


def test_mixed_precision_trains(datasets: Path, tmp_path: Path) -> None:
    options = ("SOLVER.AMP.ENABLED", "True", "TEST.AMP", "True")
    assert "sor" in train(datasets, tmp_path, "SOLVER.MAX_ITER", "1", *options)


def test_views_of_a_picture_are_evaluated(datasets: Path, tmp_path: Path) -> None:
    random = ("MODEL.WEIGHTS", "")
    plain = train(datasets, tmp_path, *random, flags=("--eval-only",))
    both = train(datasets, tmp_path, *random, "TEST.AUG.ENABLED", "True", flags=("--eval-only",))
    assert set(both) == {*plain, *(f"{task}_TTA" for task in plain)}
    assert both["sor"] == pytest.approx(plain["sor"], nan_ok=True)
    assert both["sor_TTA"]["MAE"] >= 0


def test_a_missing_test_set_is_said_before_training(datasets: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"irsr_test|IRSR"):
        train(datasets, tmp_path, "DATASETS.TEST", "('irsr_test',)", "SOLVER.MAX_ITER", "1")
    assert not (tmp_path / "model_final.pth").exists()


def test_a_detector_without_ranks_gets_average_precision(datasets: Path, tmp_path: Path) -> None:
    cfg = make_cfg("configs/sor/exp/maskrcnn.yaml", DATASETS__ROOT=str(datasets), OUTPUT_DIR=str(tmp_path))
    register_from_config(cfg)
    assert isinstance(Trainer.build_evaluator(cfg, "synthetic_sor_test"), SOREvaluator)
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    assert isinstance(Trainer.build_evaluator(cfg, "synthetic_sor_test"), DatasetEvaluators)


def test_half_a_model_is_not_evaluated(datasets: Path, tmp_path: Path) -> None:
    state = build_model(make_cfg(DEMO)).state_dict()
    save_file({k: v for k, v in state.items() if ".sor_head." not in k}, tmp_path / "detector.safetensors")
    options = ("MODEL.WEIGHTS", str(tmp_path / "detector.safetensors"))
    with pytest.raises(CheckpointError, match=r"detector.safetensors: lacks \d+ parameters .*sor_head"):
        train(datasets, tmp_path, *options, flags=("--eval-only",))


def script(*words: str, runner: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
    command = [sys.executable, *runner, "train_net.py", *words]
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runner", "flags"),
    [
        ((), ("--num-gpus", "2")),
        (("-m", "torch.distributed.run", "--nproc-per-node", "2"), ()),
        ((), ("--num-gpus", "2", "SOLVER.PARALLEL", "fsdp", "SOLVER.BEST_METRIC", "sor/MAE")),
    ],
    ids=["launch", "torchrun", "fsdp"],
)
def test_two_processes_evaluate_like_one(
    datasets: Path, tmp_path: Path, runner: tuple[str, ...], flags: tuple[str, ...]
) -> None:
    common = ["DATASETS.ROOT", str(datasets), *TINY]
    options = ("OUTPUT_DIR", str(tmp_path / "two"), *common, "SOLVER.MAX_ITER", "2")
    trained = script(*arguments(*flags, *options), runner=runner)
    assert trained.returncode == 0, trained.stderr[-2000:]
    weights = ["MODEL.WEIGHTS", str(tmp_path / "two/model_final.pth")]
    alone = script(*arguments("--eval-only", "OUTPUT_DIR", str(tmp_path / "one"), *common, *weights))
    assert alone.returncode == 0, alone.stderr[-2000:]
    two, one = scores(tmp_path / "two"), scores(tmp_path / "one")
    assert two.keys() == one.keys()
    for task, values in one.items():
        known = {name: value for name, value in values.items() if value is not None}
        assert {name for name, value in two[task].items() if value is not None} == set(known)
        # threads differ between the runs, so a pixel on the edge of a mask may too
        assert {name: two[task][name] for name in known} == pytest.approx(known, abs=1e-4, nan_ok=True), task


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config-file", "nowhere.yaml"], "nowhere.yaml: expected a config file"),
        (
            arguments("DATASETS.TEST", "('nothing',)"),
            "DATASETS: expected names of registered datasets, found 'nothing'",
        ),
        (arguments("--eval-only", "MODEL.WEIGHTS", "", "DATASETS.ROOT", "/nonexistent"), "no such folder"),
        (
            arguments("--eval-only"),
            'WEIGHTS: expected a weight file ("" on the command line for random weights)',
        ),
        (arguments("--eval-only", "MODEL.WEIGHTS", "nowhere.pth"), "nowhere.pth"),
        (arguments("--eval-only", "DATASETS.TEST", "()"), "DATASETS.TEST: expected at least one dataset"),
        (arguments("--num-gpus", "2", "DATASETS.ROOT", "/nonexistent"), "no such folder"),
    ],
)
def test_mistakes_are_one_line_and_a_failure(words: list[str], message: str, tmp_path: Path) -> None:
    result = script(*words, "OUTPUT_DIR", str(tmp_path)) if len(words) > 2 else script(*words)
    assert result.returncode != 0
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
    assert "Traceback" not in result.stderr
    assert result.stderr.count("error: ") == 1


def test_a_folder_that_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    options = arguments("OUTPUT_DIR", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match=r"OUTPUT_DIR: cannot write to .*/file \(Not a directory\)"):
        run(default_argument_parser().parse_args(options))


def test_pictures_of_the_worst_images_go_to_tensorboard(datasets: Path, tmp_path: Path) -> None:
    options = ("SOLVER.MAX_ITER", "2", "TEST.EVAL_PERIOD", "1", "TEST.PICTURE_PERIOD", "2")
    with patch.object(EventStorage, "put_image", autospec=True) as put:
        train(datasets, tmp_path, *options)
    assert {call.args[0].iter for call in put.call_args_list} == {2}
    names = [call.args[1] for call in put.call_args_list]
    assert names == [f"synthetic_sor_test/worst {number}" for number in range(1, len(names) + 1)]
    assert put.call_args.args[2].shape[0] == 3


SHORT = (
    "SOLVER.MAX_ITER",
    "4",
    "SOLVER.CHECKPOINT_PERIOD",
    "2",
    "DATASETS.TEST",
    "()",
    "DETERMINISTIC",
    "True",
)


@pytest.mark.parametrize(("seed", "iteration"), [("-1", 1), ("3", 3)])
def test_a_resumed_training_ends_like_an_uninterrupted_one(
    datasets: Path, tmp_path: Path, seed: str, iteration: int
) -> None:
    options = [*SHORT, "SEED", seed, "INPUT.COPY_PASTE.ENABLED", "True", "INPUT.COLOR.ENABLED", "True"]
    train(datasets, tmp_path / "whole", *options)
    (tmp_path / "cut").mkdir()
    # all that a kill has left, perhaps just before model_final.pth was written
    shutil.copy(tmp_path / f"whole/model_000000{iteration}.pth", tmp_path / "cut")
    options += ["MODEL.WEIGHTS", "moved.pth"]  # not needed any more
    train(datasets, tmp_path / "cut", *options, "DATALOADER.NUM_WORKERS", "2", flags=("--resume",))
    assert same_state(tmp_path / "whole/model_final.pth", tmp_path / "cut/model_final.pth")


@pytest.mark.slow
@pytest.mark.parametrize("system", [name for name in SYSTEMS if name != "centermask"])
def test_every_system_resumes_like_that(tmp_path: Path, system: str) -> None:
    make_data(tmp_path)

    def run_system(folder: Path) -> None:
        words = training_words(tmp_path, folder, system, workers=0)
        run(default_argument_parser().parse_args(["--resume", *words]))

    run_system(tmp_path / "whole")
    (tmp_path / "cut").mkdir()
    shutil.copy(tmp_path / "whole/model_0000003.pth", tmp_path / "cut")
    run_system(tmp_path / "cut")
    assert same_state(tmp_path / "whole/model_final.pth", tmp_path / "cut/model_final.pth")


def test_accumulation_synchronization_and_the_best_checkpoint(datasets: Path, tmp_path: Path) -> None:
    options = ["SOLVER.ACCUMULATE", "2", "SOLVER.SYNC_BN", "True", "SOLVER.KEEP_CHECKPOINTS", "1"]
    options += ["SOLVER.BEST_METRIC", "sor/MAE", "SOLVER.BEST_MODE", "min", "TEST.EVAL_PERIOD", "1"]
    results = train(datasets, tmp_path, *SHORT[:2], "SOLVER.CHECKPOINT_PERIOD", "1", *options)
    best = json.loads((tmp_path / "model_best.json").read_text())
    assert best["value"] <= results["sor"]["MAE"]
    assert sorted(file.name for file in tmp_path.glob("*.pth")) == [
        "model_0000003.pth",
        "model_best.pth",
        "model_final.pth",
    ]
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"


def test_a_missing_training_image_is_left_out_or_said(datasets: Path, tmp_path: Path) -> None:
    shutil.copytree(datasets / "synthetic_sor", tmp_path / "data/synthetic_sor")
    (tmp_path / "data/synthetic_sor/images/train/train_000002.jpg").unlink()
    options = ("SOLVER.MAX_ITER", "1", "DATASETS.TEST", "()")
    with pytest.raises(DatasetError, match=r"train_000002\.jpg"):
        train(tmp_path / "data", tmp_path, *options)
    train(tmp_path / "data", tmp_path, *options, "DATALOADER.MAX_UNREADABLE", "0.2")
    line = "train_000002.jpg: expected an image, found no such image; left out"
    assert (tmp_path / "log.txt").read_text().count(line) == 1


def test_images_that_cannot_be_shared_are_said(datasets: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"IMS_PER_BATCH: expected a multiple of 3 .*, found 2"):
        train(datasets, tmp_path, "SOLVER.ACCUMULATE", "3")


def test_a_training_that_diverges_ends_in_one_line_and_keeps_its_checkpoint(
    datasets: Path, tmp_path: Path
) -> None:
    first = script(
        *arguments(
            "DATASETS.ROOT",
            str(datasets),
            "OUTPUT_DIR",
            str(tmp_path),
            *TINY,
            *SHORT,
            "SOLVER.CHECKPOINT_PERIOD",
            "1",
            "SOLVER.OPTIMIZER",
            "SGD",
            "SOLVER.BASE_LR",
            "1e30",
            "SOLVER.CLIP_GRADIENTS.ENABLED",
            "False",
        )
    )
    assert first.returncode != 0
    line = first.stderr.strip().splitlines()[-1]
    assert "Traceback" not in first.stderr
    assert line.startswith("error: ")
    assert "finite" in line
    for file in tmp_path.glob("model_*.pth"):
        assert all(value.isfinite().all() for value in torch.load(file)["model"].values())
