"""Training and evaluation: the set-up that ``train_net.py`` calls, and the trainer."""

from __future__ import annotations

import argparse
import copy
import logging
import os
import weakref
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from detectron2.data.samplers import InferenceSampler
from detectron2.engine import DefaultTrainer, HookBase, TrainerBase, hooks
from detectron2.evaluation import (
    COCOEvaluator,
    DatasetEvaluator,
    DatasetEvaluators,
    inference_on_dataset,
    verify_results,
)
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from detectron2.utils.logger import setup_logger
from torch import nn

from .building import build_checked_model, check_weights_named, find_weights, needs_weights
from .checkpoint import CheckpointInfo
from .config import ConfigError, check_classes, load_config
from .cpu_inference import keep_free_memory, tune_for_inference
from .data.builtin import DatasetSource
from .data.mapper import RankingDatasetMapper
from .data.own import DetectionSource, allow_unreadable, register_datasets
from .data.sod import SODSource
from .data.train_loader import CheckedLoader, Samples, TrainingBatches, train_loader
from .data.unlabelled import register_folders
from .evaluation.evaluator import SODEvaluator, SOREvaluator
from .inference_model import gives_ranks, wrap_for_inference
from .inspyrenet.mapper import SODDatasetMapper
from .launching import may_restart
from .layers import gathered, is_split
from .processes import exit_with_parent
from .run_log import log_copypaste, model_line, start_run, summary
from .siamese_detr.base import event_storage
from .siamese_detr.loading import build_pretraining_loader
from .solver import build_lr_scheduler, build_optimizer
from .test_time_augmentation import unresized, with_views
from .training import (
    BestCheckpointHook,
    TrainingCheckpointer,
    TrainingStep,
    amp_dtype,
    half_precision,
    has_checkpoint,
    replicate,
    share_buffers,
    split_parameters,
    splits_parameters,
    synchronize_norms,
)

__all__ = ["MAPPERS", "TRAIN_LOADERS", "Trainer", "evaluate", "run", "setup"]

_log = logging.getLogger(__name__)

_PICTURES = 4  # of the worst images, in TensorBoard
#: Dataset mapper of each meta-architecture, called with (cfg, is_train=...); others get RankingDatasetMapper.
MAPPERS: dict[str, Callable[..., Any]] = {"InSPyReNet": SODDatasetMapper}
#: Training loader of meta-architectures that do not read one image at a time, called with (cfg).
TRAIN_LOADERS: dict[str, Callable[[CfgNode], Any]] = {"SiameseDETR": build_pretraining_loader}


def setup(args: argparse.Namespace) -> CfgNode:
    """Set up configuration, datasets, logging and seed of a run; return the frozen configuration.

    Args:
        args: of detectron2's ``default_argument_parser``.

    Raises:
        ConfigError: see :func:`load_config`; an unknown dataset, or a folder that cannot be written.
        FileNotFoundError: see :func:`find_weights`.
    """
    cfg = load_config(args.config_file, args.opts)
    register_datasets(cfg)
    allow_unreadable(cfg)
    register_folders(cfg.DATASETS.TRAIN)
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        if name not in MetadataCatalog.list() or not MetadataCatalog.get(name).get("thing_classes"):
            raise ConfigError(f"DATASETS: expected names of registered datasets, found {name!r}")
        check_classes(cfg, name, len(MetadataCatalog.get(name).thing_classes))
    if not (args.resume and has_checkpoint(cfg.OUTPUT_DIR)):
        cfg.MODEL.WEIGHTS = find_weights(cfg.MODEL.WEIGHTS)
    cfg.freeze()
    start_run(cfg, args)
    return cfg


class Trainer(DefaultTrainer):
    """detectron2's trainer with the data, checkpoints and metrics of this package.

    ``DefaultTrainer`` trains on several GPUs; this one also on several CPU processes (gloo). It saves the
    optimizer with every version of detectron2.
    """

    def __init__(self, cfg: CfgNode) -> None:
        TrainerBase.__init__(self)
        if not logging.getLogger("detectron2").isEnabledFor(logging.INFO):
            setup_logger()
        cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
        _check_batch(cfg)
        model = synchronize_norms(cfg, self.build_model(cfg))
        if splits_parameters(cfg):
            model = split_parameters(model)
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)
        device_type = next(model.parameters()).device.type
        if not splits_parameters(cfg):
            model = replicate(model)
        self._trainer: TrainingStep = TrainingStep(
            model,
            data_loader,
            optimizer,
            seed=cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed(),
            dtype=amp_dtype(cfg, device_type) if cfg.SOLVER.AMP.ENABLED else torch.float32,
            accumulate=cfg.SOLVER.ACCUMULATE,
            max_skipped=cfg.SOLVER.SKIP_NON_FINITE,
        )
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = TrainingCheckpointer(
            model,
            cfg.OUTPUT_DIR,
            keep=cfg.SOLVER.KEEP_CHECKPOINTS,
            trainer=weakref.proxy(self),
            info=_checkpoint_info(cfg),
        )
        self.start_iter, self.max_iter = 0, cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.register_hooks(self.build_hooks())

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """See :func:`sor_ppa.building.build_checked_model`."""
        model = build_checked_model(cfg)
        _log.info("Model: %s", model_line(model))
        return model

    def build_hooks(self) -> list[HookBase]:
        """Return detectron2's hooks, and the one for the best checkpoint."""
        found = [hook for hook in super().build_hooks() if hook is not None]
        for precise in [hook for hook in found if isinstance(hook, hooks.PreciseBN)]:
            # take the same batches every time, as a resumed training does
            restart = partial(setattr, precise, "_data_iter", None)
            found.append(hooks.CallbackHook(before_step=lambda trainer, restart=restart: restart()))
        solver, period = self.cfg.SOLVER, self.cfg.TEST.EVAL_PERIOD
        evaluation = next(i for i, hook in enumerate(found) if isinstance(hook, hooks.EvalHook))
        is_main, all_save = comm.is_main_process(), splits_parameters(self.cfg)
        if solver.BEST_METRIC and (is_main or all_save):
            best = BestCheckpointHook(period, self.checkpointer, solver.BEST_METRIC, solver.BEST_MODE)
            found.insert(evaluation + 1, best)
        if all_save and not is_main:  # detectron2 has added it to the main process
            found.insert(evaluation, hooks.PeriodicCheckpointer(self.checkpointer, solver.CHECKPOINT_PERIOD))
        return found

    def state_dict(self) -> dict[str, Any]:
        step = self._trainer
        return TrainerBase.state_dict(self) | {"_trainer": step.state_dict(), "seed": step.seed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        TrainerBase.load_state_dict(self, state_dict)
        if "_trainer" in state_dict:
            self._trainer.load_state_dict(state_dict["_trainer"])
        if self.cfg.SEED < 0:  # goes on with the seed that was drawn
            self._trainer.seed = state_dict.get("seed", self._trainer.seed)

    def train(self) -> OrderedDict[str, Any] | None:
        """Train; return the results of the last evaluation, None without one or beside the main process.

        Raises:
            NonFiniteError: the training diverged, see ``SOLVER.SKIP_NON_FINITE``.
            DatasetError: images cannot be read, see ``DATALOADER.MAX_UNREADABLE``.
        """
        _log.info("Starting training from iteration %d", self.start_iter)
        if self._trainer.device_type == "cpu":
            keep_free_memory()
        loader = self._trainer.data_loader
        if isinstance(loader, TrainingBatches):
            loader.seed, loader.start = self._trainer.seed, self.start_iter
        if self.start_iter >= self.max_iter:  # killed between its last two checkpoints, or finished
            self.iter = self.start_iter - 1
            self.checkpointer.save("model_final", iteration=self.iter)
        self.iter = self.start_iter
        with EventStorage(self.start_iter) as self.storage:
            try:
                self.before_train()
                for iteration in range(self.start_iter, self.max_iter):
                    self.iter = iteration
                    self.before_step()
                    self.run_step()
                    self.after_step()
            except BaseException:
                for hook in self._hooks:  # the other hooks expect a finished training
                    if isinstance(hook, hooks.PeriodicWriter):
                        with suppress(OSError):  # a full disk: the first error says so
                            hook.after_train()
                raise
            self.iter = self.max_iter
            self.after_train()
        results = getattr(self, "_last_eval_results", None)
        if results is not None and comm.is_main_process():
            verify_results(self.cfg, results)
            return results
        return None

    build_optimizer = staticmethod(build_optimizer)
    build_lr_scheduler = staticmethod(build_lr_scheduler)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Any:
        """Return batches of augmented training images; see ``TRAIN_LOADERS`` and ``MAPPERS``."""
        own = TRAIN_LOADERS.get(cfg.MODEL.META_ARCHITECTURE)
        return own(cfg) if own else train_loader(cfg, _mapper(cfg, is_train=True))

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> CheckedLoader:
        """Return batches of ``TEST.IMS_PER_BATCH`` images; each image goes to one process."""
        dicts = get_detection_dataset_dicts(dataset_name, filter_empty=False)
        dataset = Samples(dicts, _mapper(cfg, is_train=False))
        return CheckedLoader(
            dataset,
            batch_size=cfg.TEST.IMS_PER_BATCH,
            sampler=InferenceSampler(len(dataset)),
            num_workers=cfg.DATALOADER.NUM_WORKERS,
            collate_fn=list,
            worker_init_fn=exit_with_parent,
        )

    @classmethod
    def build_evaluator(
        cls, cfg: CfgNode, dataset_name: str, output_folder: str | None = None
    ) -> DatasetEvaluator:
        """Return the evaluator for a dataset: ranking metrics, COCO AP, or saliency measures.

        The dataset's ``evaluator_type`` decides. A detector without ranks gets COCO AP.
        """
        kind = "inference_TTA" if cfg.TEST.AUG.ENABLED else "inference"
        folder = output_folder or os.path.join(cfg.OUTPUT_DIR, kind, dataset_name)
        kind = MetadataCatalog.get(dataset_name).get("evaluator_type", "coco")
        if kind == "sod":
            return SODEvaluator(dataset_name, output_dir=folder)
        if cfg.MODEL.MASK_ON and kind not in ("sor", "coco", "pascal_voc"):
            known = "'sor', 'coco', 'pascal_voc' or 'sod'"
            raise ConfigError(f"dataset {dataset_name}: evaluator_type: expected {known}, found {kind!r}")
        if kind == "sor" and cfg.MODEL.MASK_ON and gives_ranks(cfg):
            options: dict[str, Any] = {"rank_field": cfg.TEST.RANK_FIELD, "rank_maps": cfg.TEST.RANK_MAPS}
            options["pictures"] = _PICTURES if _pictures_are_due(cfg) else 0
            return SOREvaluator(dataset_name, output_dir=folder, metrics=list(cfg.TEST.METRICS), **options)
        tasks = None if cfg.MODEL.MASK_ON else ("bbox",)
        return DatasetEvaluators([COCOEvaluator(dataset_name, tasks=tasks, output_dir=folder)])

    @classmethod
    def test(
        cls, cfg: CfgNode, model: nn.Module, evaluators: list[DatasetEvaluator] | None = None
    ) -> OrderedDict[str, Any]:
        """Evaluate on every dataset of ``DATASETS.TEST``, with :func:`wrap_for_inference`.

        On a CPU, a model in training is copied and tuned, so that the results are those of ``--eval-only``.
        With ``TEST.AUG.ENABLED`` the results of the augmented views follow, as ``<task>_TTA``. All processes
        get the results of all images.
        """
        device = next(model.parameters()).device
        share_buffers(model)
        if is_split(next(model.parameters())):
            model = _whole_copy(cfg, model)
        if model.training and device.type == "cpu":
            model = tune_for_inference(copy.deepcopy(getattr(model, "module", model)))
        results: OrderedDict[str, Any] = OrderedDict()
        for views in (False, True) if cfg.TEST.AUG.ENABLED else (False,):
            part = cfg.clone()
            part.merge_from_list(["TEST.AUG.ENABLED", views])
            with torch.autocast(device.type, dtype=half_precision(device.type), enabled=cfg.TEST.AMP):
                found = cls._test_each(part, wrap_for_inference(part, model), evaluators)
            results.update({f"{name}_TTA" if views else name: value for name, value in found.items()})
            if comm.is_main_process() and (lines := summary(found)):
                title = "Results with test-time augmentation" if views else "Results in short"
                _log.info("%s:\n%s", title, lines)
        every: list[OrderedDict[str, Any]] = comm.all_gather(results)
        return every[0]

    @classmethod
    def _test_each(
        cls, cfg: CfgNode, model: nn.Module, evaluators: list[DatasetEvaluator] | None
    ) -> OrderedDict[str, Any]:
        """Return the results by dataset, or those of the only one."""
        results: OrderedDict[str, Any] = OrderedDict()
        for index, name in enumerate(cfg.DATASETS.TEST):
            evaluator = evaluators[index] if evaluators else cls.build_evaluator(cfg, name)
            results[name] = inference_on_dataset(model, cls.build_test_loader(cfg, name), evaluator) or {}
            if comm.is_main_process():
                _log.info("Results on %s in csv format:", name)
                log_copypaste(results[name])
        return next(iter(results.values())) if len(results) == 1 else results


def _pictures_are_due(cfg: CfgNode) -> bool:
    """Return whether this is one of every ``TEST.PICTURE_PERIOD`` evaluations of a training."""
    storage, period = event_storage(), cfg.TEST.PICTURE_PERIOD
    if storage is None or not period:
        return False
    done = min(storage.iter + 1, cfg.SOLVER.MAX_ITER)  # the last evaluation follows the last iteration
    evaluations = done // cfg.TEST.EVAL_PERIOD if cfg.TEST.EVAL_PERIOD else 0
    return evaluations % period == 0


def _check_batch(cfg: CfgNode) -> None:
    """Check that the images of an iteration can be split among processes and parts."""
    share = comm.get_world_size() * cfg.SOLVER.ACCUMULATE
    if cfg.SOLVER.IMS_PER_BATCH % share:
        expected = f"a multiple of {share} (processes x SOLVER.ACCUMULATE)"
        raise ConfigError(f"SOLVER.IMS_PER_BATCH: expected {expected}, found {cfg.SOLVER.IMS_PER_BATCH}")


def _mapper(cfg: CfgNode, *, is_train: bool) -> Any:
    """Return the dataset mapper of the meta-architecture."""
    own = MAPPERS.get(cfg.MODEL.META_ARCHITECTURE)
    if own is not None:
        return own(cfg, is_train=is_train)
    return RankingDatasetMapper(cfg if is_train else unresized(cfg), is_train=is_train)


def _checkpoint_info(cfg: CfgNode) -> CheckpointInfo:
    """Return what checkpoints say about the training: configuration and classes."""
    name = next(iter(cfg.DATASETS.TRAIN), "")
    return CheckpointInfo(cfg.dump(), tuple(MetadataCatalog.get(name).get("thing_classes", ())))


def _whole_copy(cfg: CfgNode, model: nn.Module) -> nn.Module:
    """Return a copy of a split model that is whole in each process."""
    copied = build_checked_model(cfg)
    copied.load_state_dict({name: gathered(tensor) for name, tensor in model.state_dict().items()})
    return copied.train(model.training)


def evaluate(cfg: CfgNode, resume: bool = False) -> OrderedDict[str, Any]:
    """Evaluate ``MODEL.WEIGHTS`` (or, with ``resume``, the last checkpoint) on ``DATASETS.TEST``.

    Raises:
        CheckpointError: the file leaves a part of the model at its random initialization.
    """
    model = Trainer.build_model(cfg)
    if needs_weights(cfg):
        checkpointer = TrainingCheckpointer(model, cfg.OUTPUT_DIR)
        complete = cfg.MODEL.SOR.RANK_BY == "head"
        checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume, complete=complete)
        if checkpointer.fit is None:
            _log.warning(
                "MODEL.WEIGHTS is empty: the model keeps its random weights, its scores mean nothing"
            )
    results = Trainer.test(cfg, tune_for_inference(model))
    if comm.is_main_process():
        verify_results(cfg, results)
    return results


def run(args: argparse.Namespace) -> OrderedDict[str, Any] | None:
    """Train, or evaluate with ``--eval-only``; one process of ``train_net.py``.

    Args:
        args: of detectron2's ``default_argument_parser``.

    Returns:
        Results per dataset or task; None in training without evaluation.

    Raises:
        ConfigError: see :func:`setup`; no dataset to train or evaluate on; a model without ``TEST.AUG``.
        DatasetError: a dataset for training or evaluation is missing or broken.
    """
    cfg = setup(args)
    if not args.resume and not args.eval_only and may_restart():
        # every process takes the answer of the first: a checkpoint may just be written
        args.resume = comm.all_gather(has_checkpoint(cfg.OUTPUT_DIR))[0]
        if args.resume:
            _log.info("%s has a checkpoint, and this training may be restarted: resuming", cfg.OUTPUT_DIR)
    if not args.eval_only and not needs_weights(cfg):
        found = cfg.MODEL.META_ARCHITECTURE
        raise ConfigError(
            f"MODEL.META_ARCHITECTURE: expected a model that can be trained, found {found} (use --eval-only)"
        )
    key = "TEST" if args.eval_only else "TRAIN"
    if not cfg.DATASETS[key]:
        raise ConfigError(f"DATASETS.{key}: expected at least one dataset, found ()")
    if not args.resume:
        check_weights_named(cfg, args.opts, training=not args.eval_only)
    if args.eval_only:
        return evaluate(cfg, args.resume)
    for name in cfg.DATASETS.TEST:
        source = DatasetCatalog.data.get(name)
        if isinstance(source, (DatasetSource, DetectionSource, SODSource)):
            source()  # fail before the training if the evaluation cannot read its data
    trainer = Trainer(cfg)
    with_views(cfg, trainer.model)  # fail early if test-time augmentation is unsupported
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()
