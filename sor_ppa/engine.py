"""Training and evaluation: the set-up that ``train_net.py`` calls, and the trainer."""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from detectron2.config import CfgNode
from detectron2.data import (
    DatasetCatalog,
    DatasetFromList,
    MapDataset,
    MetadataCatalog,
    get_detection_dataset_dicts,
)
from detectron2.data.samplers import InferenceSampler
from detectron2.engine import DefaultTrainer, SimpleTrainer, TrainerBase, default_setup
from detectron2.evaluation import COCOEvaluator, DatasetEvaluator, DatasetEvaluators, verify_results
from detectron2.modeling import META_ARCH_REGISTRY, ROI_HEADS_REGISTRY
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import setup_logger
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from .augmented import unresized, with_views
from .building import build_checked_model, needs_weights
from .checkpoint import SORCheckpointer
from .config import ConfigError, load_config
from .data.builtin import DatasetSource, register_from_config
from .data.fraction import train_loader
from .data.mapper import RankingDatasetMapper
from .data.sod import SODSource, register_sod_from_config
from .data.unlabelled import register_folders
from .evaluation.evaluator import SOREvaluator
from .evaluation.sod_evaluator import SODEvaluator
from .inspyrenet.stage import with_saliency

__all__ = ["ConfigError", "Trainer", "evaluate", "load_config", "run", "setup", "summary"]

_log = logging.getLogger(__name__)


def setup(args: argparse.Namespace) -> CfgNode:
    """Configuration, datasets, logging and seed of a run.

    Args:
        args: of detectron2's ``default_argument_parser``.

    Returns:
        The frozen configuration.

    Raises:
        ConfigError: see :func:`load_config`.
    """
    cfg = load_config(args.config_file, args.opts)
    register_from_config(cfg)
    register_sod_from_config(cfg)
    register_folders(cfg.DATASETS.TRAIN)
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        if name not in MetadataCatalog.list() or not MetadataCatalog.get(name).get("thing_classes"):
            raise ConfigError(f"DATASETS: found {name!r}, which is not a registered dataset")
    cfg.freeze()
    _make_writable(cfg.OUTPUT_DIR)
    default_setup(cfg, args)
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="sor_ppa")
    return cfg


def _make_writable(folder: str) -> None:
    """Make the folder for results, before hours are spent on what could not be written."""
    if not folder or not comm.is_main_process():
        return
    try:
        PathManager.mkdirs(folder)
        if "://" not in folder:
            tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ConfigError(f"OUTPUT_DIR: cannot write to {folder} ({error.strerror or error})") from error


def _of_architecture(cfg: CfgNode, name: str) -> Any:
    """What the meta-architecture brings under a name instead of the trainer's own; None if nothing."""
    return getattr(META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE), name, None)


class AutocastTrainer(SimpleTrainer):
    """Mixed precision on any device: bfloat16 on a CPU, float16 with scaled gradients on a GPU."""

    def __init__(self, model: nn.Module, data_loader: Any, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(model, data_loader, optimizer)
        self.device_type = next(model.parameters()).device.type
        self.dtype = torch.bfloat16 if self.device_type == "cpu" else torch.float16
        self.grad_scaler = torch.amp.GradScaler(self.device_type, enabled=self.dtype == torch.float16)

    def run_step(self) -> None:
        """Forward, backward, update."""
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        with torch.autocast(self.device_type, dtype=self.dtype):
            losses = self.model(data)
        self.optimizer.zero_grad()
        self.grad_scaler.scale(sum(losses.values())).backward()
        self._write_metrics(losses, data_time)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.grad_scaler.load_state_dict(state_dict.get("grad_scaler", {}))


class Trainer(DefaultTrainer):
    """detectron2's trainer on any device, with our data, checkpoints and metrics.

    ``DefaultTrainer`` wires distributed training to GPUs; this one also runs on CPUs (gloo), and
    saves the optimizer with every version of detectron2.
    """

    def __init__(self, cfg: CfgNode) -> None:
        TrainerBase.__init__(self)
        if not logging.getLogger("detectron2").isEnabledFor(logging.INFO):
            setup_logger()
        cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)
        model = _distribute(model)
        kind = AutocastTrainer if cfg.SOLVER.AMP.ENABLED else SimpleTrainer
        self._trainer = kind(model, data_loader, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = SORCheckpointer(model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.start_iter, self.max_iter = 0, cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.register_hooks(self.build_hooks())

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """The model of a configuration.

        Raises:
            ConfigError: in one line, for a setting that no model can have.
        """
        model = build_checked_model(cfg)
        _log.info("Model:\n%s", model)
        return model

    def state_dict(self) -> dict[str, Any]:
        return TrainerBase.state_dict(self) | {"_trainer": self._trainer.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        TrainerBase.load_state_dict(self, state_dict)
        if "_trainer" in state_dict:
            self._trainer.load_state_dict(state_dict["_trainer"])

    def train(self) -> OrderedDict[str, Any] | None:
        """Train to the end.

        Returns:
            The last evaluation's results on the main process; None elsewhere or without one.
        """
        TrainerBase.train(self, self.start_iter, self.max_iter)
        results = getattr(self, "_last_eval_results", None)
        if results is not None and comm.is_main_process():
            verify_results(self.cfg, results)
            return results
        return None

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """SGD or AdamW (``SOLVER.OPTIMIZER``).

        A model with a method ``parameter_groups(cfg)`` decides what learns at which rate; others get
        detectron2's groups. A meta-architecture with a ``build_optimizer(cfg, model)`` of its own has
        its way.
        """
        if own := _of_architecture(cfg, "build_optimizer"):
            return own(cfg, model)
        groups: Any = getattr(model, "parameter_groups", None)
        if groups is not None:
            params = groups(cfg)
        else:
            params = get_default_optimizer_params(
                model,
                base_lr=cfg.SOLVER.BASE_LR,
                weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
                bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
                weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
            )
        common = {"lr": cfg.SOLVER.BASE_LR, "weight_decay": cfg.SOLVER.WEIGHT_DECAY}
        name = cfg.SOLVER.OPTIMIZER
        if name == "SGD":
            momentum = {"momentum": cfg.SOLVER.MOMENTUM, "nesterov": cfg.SOLVER.NESTEROV}
            return _clipping(cfg, torch.optim.SGD)(params, **common, **momentum)
        if name == "AdamW":
            return _clipping(cfg, torch.optim.AdamW)(params, **common)
        raise ConfigError(f"SOLVER.OPTIMIZER: found {name!r}, expected 'SGD' or 'AdamW'")

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: torch.optim.Optimizer) -> Any:
        """detectron2's schedules.

        A meta-architecture with a ``build_lr_scheduler(cfg, optimizer)`` of its own has its way.
        """
        if own := _of_architecture(cfg, "build_lr_scheduler"):
            return own(cfg, optimizer)
        return super().build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Any:
        """Batches of augmented images with ranked objects.

        A meta-architecture with a ``build_train_loader(cfg)`` of its own has its way.
        """
        if own := _of_architecture(cfg, "build_train_loader"):
            return own(cfg)
        return train_loader(cfg, RankingDatasetMapper(cfg, is_train=True))

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> DataLoader:
        """Batches of ``TEST.IMS_PER_BATCH`` images; every process gets its share, none twice.

        A meta-architecture with a ``build_test_mapper(cfg)`` of its own has its way with each image.
        """
        dicts = get_detection_dataset_dicts(dataset_name, filter_empty=False)
        own = _of_architecture(cfg, "build_test_mapper")
        mapper = own(cfg) if own else RankingDatasetMapper(unresized(cfg), is_train=False)
        dataset = MapDataset(DatasetFromList(dicts), mapper)
        return DataLoader(
            dataset,
            batch_size=cfg.TEST.IMS_PER_BATCH,
            sampler=InferenceSampler(len(dataset)),
            num_workers=cfg.DATALOADER.NUM_WORKERS,
            collate_fn=list,
        )

    @classmethod
    def build_evaluator(
        cls, cfg: CfgNode, dataset_name: str, output_folder: str | None = None
    ) -> DatasetEvaluator:
        """The evaluator of a dataset's ``evaluator_type``: ranking metrics, COCO AP, or saliency measures.

        A detector that does not rank gets COCO AP on ranked data.
        """
        folder = output_folder or os.path.join(cfg.OUTPUT_DIR, "inference", dataset_name)
        kind = MetadataCatalog.get(dataset_name).get("evaluator_type", "coco")
        if kind == "sod":
            return SODEvaluator(dataset_name, output_dir=folder)
        if kind in ("coco", "pascal_voc") or not cfg.MODEL.MASK_ON or (kind == "sor" and not _ranks(cfg)):
            tasks = None if cfg.MODEL.MASK_ON else ("bbox",)
            return DatasetEvaluators([COCOEvaluator(dataset_name, tasks=tasks, output_dir=folder)])
        if kind == "sor":
            return SOREvaluator(dataset_name, output_dir=folder, rank_field=cfg.TEST.RANK_FIELD)
        known = "'sor', 'coco', 'pascal_voc' or 'sod'"
        raise ConfigError(f"dataset {dataset_name}: found evaluator_type {kind!r}, expected {known}")

    @classmethod
    def test(
        cls, cfg: CfgNode, model: nn.Module, evaluators: list[DatasetEvaluator] | None = None
    ) -> OrderedDict[str, Any]:
        """Evaluate on every dataset of ``DATASETS.TEST``; see detectron2's ``DefaultTrainer.test``.

        With the views of ``TEST.AUG``, and with what ``MODEL.SOR.REFINE`` and ``RANK_BY`` ask for.
        """
        device = next(model.parameters()).device
        _share_buffers(model)
        try:
            model = with_saliency(cfg, with_views(cfg, model))
        except (FileNotFoundError, ValueError) as error:
            raise ConfigError(str(error)) from error
        with _autocast(device, cfg.TEST.AMP):
            results = super().test(cfg, model, evaluators)
        if comm.is_main_process():
            _log.info("Results in short:\n%s", summary(results))
        return results


def _ranks(cfg: CfgNode) -> bool:
    """Whether objects get ranks: without a ranking head, and with detectron2's own ROI heads, none."""
    two_stage = cfg.MODEL.META_ARCHITECTURE in ("GeneralizedRCNN", "SalientObjectRanker")
    foreign = two_stage and ROI_HEADS_REGISTRY.get(cfg.MODEL.ROI_HEADS.NAME).__module__.startswith(
        "detectron2."
    )
    return cfg.MODEL.SOR.RANK_BY != "head" or bool(cfg.MODEL.SOR.NAME and not foreign)


def _share_buffers(model: nn.Module) -> None:
    """Give every process the buffers of the first, which are those that checkpoints hold.

    Running statistics of batch normalisation differ between processes in training; an evaluation
    that shares out the images must not depend on which process has which.
    """
    if comm.get_world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


def summary(results: dict[str, Any]) -> str:
    """The numbers that papers on salient object ranking report, a line each.

    Args:
        results: of :meth:`Trainer.test`, for one dataset or by dataset.
    """
    if "saliency" in results and "sor" not in results:
        return "\n".join(f"  {name:24}{value:10.4f}" for name, value in results["saliency"].items())
    if "sor" not in results and "bbox" not in results:
        known = ("sor", "saliency", "bbox")
        named = [(k, v) for k, v in results.items() if isinstance(v, dict) and any(n in v for n in known)]
        return "\n".join(f"{name}\n{summary(part)}" for name, part in named)
    ranking = results.get("sor", {})
    lines = [f"  {name:24}{ranking[name]:10.4f}" for name in ("SA-SOR", "SOR", "MAE") if name in ranking]
    lines += [f"  {name:24}{value:10.4f}" for name, value in ranking.items() if name.endswith("-shuffled")]
    if "SOR-images" in ranking:
        lines.append(f"  {'images used by SOR':24}{ranking['SOR-images']:10.0f}")
    for task, name in (("bbox", "box AP / AP50"), ("segm", "mask AP / AP50")):
        if task in results:
            lines.append(f"  {name:24}{results[task]['AP']:10.2f} / {results[task]['AP50']:.2f}")
    return "\n".join(lines)


def _clipping(cfg: CfgNode, kind: type[torch.optim.Optimizer]) -> Any:
    """An optimizer that clips gradients before its step as ``SOLVER.CLIP_GRADIENTS`` says.

    To detectron2's types comes "full_model": the norm over all parameters together.
    """
    options = cfg.SOLVER.CLIP_GRADIENTS
    if not options.ENABLED or options.CLIP_TYPE != "full_model":
        return maybe_add_gradient_clipping(cfg, kind)

    class FullModelClipping(kind):  # type: ignore[valid-type,misc]
        def step(self, closure: Any = None) -> Any:
            params = [p for group in self.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(params, options.CLIP_VALUE, options.NORM_TYPE)
            return super().step(closure)

    return FullModelClipping


@contextmanager
def _autocast(device: torch.device, enabled: bool) -> Iterator[None]:
    dtype = torch.bfloat16 if device.type == "cpu" else torch.float16
    with torch.autocast(device.type, dtype=dtype, enabled=enabled):
        yield


def _distribute(model: nn.Module) -> nn.Module:
    """The model in DistributedDataParallel where there is more than one process."""
    if comm.get_world_size() == 1:
        return model
    device = next(model.parameters()).device
    ids = None if device.type == "cpu" else [device.index]
    return DistributedDataParallel(model, device_ids=ids, broadcast_buffers=False)


def evaluate(cfg: CfgNode, resume: bool = False) -> OrderedDict[str, Any]:
    """Evaluate ``MODEL.WEIGHTS`` (or, with ``resume``, the last checkpoint) on ``DATASETS.TEST``.

    Raises:
        CheckpointError: the file leaves a part of the model at its random initialisation.
    """
    model = Trainer.build_model(cfg)
    if not needs_weights(cfg):
        return _evaluated(cfg, model)
    checkpointer = SORCheckpointer(model, save_dir=cfg.OUTPUT_DIR)
    checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume, complete=cfg.MODEL.SOR.RANK_BY == "head")
    if not cfg.MODEL.WEIGHTS and checkpointer.fit is None:
        _log.warning("MODEL.WEIGHTS is empty: the model keeps its random weights, its scores mean nothing")
    return _evaluated(cfg, model)


def _evaluated(cfg: CfgNode, model: nn.Module) -> OrderedDict[str, Any]:
    results = Trainer.test(cfg, model)
    if comm.is_main_process():
        verify_results(cfg, results)
    return results


def run(args: argparse.Namespace) -> OrderedDict[str, Any] | None:
    """Train or, with ``--eval-only``, evaluate: what one process of ``train_net.py`` does.

    Args:
        args: of detectron2's ``default_argument_parser``.

    Returns:
        Results per dataset or task; None in training without evaluation.

    Raises:
        ConfigError: see :func:`setup`; no dataset to train or evaluate on; unusable views (``TEST.AUG``).
        DatasetError: a dataset for training or evaluation is missing or broken.
    """
    cfg = setup(args)
    if not args.eval_only and not needs_weights(cfg):
        found = cfg.MODEL.META_ARCHITECTURE
        raise ConfigError(
            f"MODEL.META_ARCHITECTURE: expected a model with weights to train, found {found}"
        )
    key = "TEST" if args.eval_only else "TRAIN"
    if not cfg.DATASETS[key]:
        raise ConfigError(f"DATASETS.{key}: found (), expected at least one dataset")
    if args.eval_only:
        return evaluate(cfg, args.resume)
    for name in cfg.DATASETS.TEST:
        source = DatasetCatalog.data.get(name)
        if isinstance(source, (DatasetSource, SODSource)):
            source()  # what the evaluation will miss is said before the training, not after it
    trainer = Trainer(cfg)
    with_views(cfg, trainer.model)  # what it cannot do is also said before the training
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()
