"""The data loader of the pre-training: two views of unlabelled images."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetFromList, build_batch_data_loader
from detectron2.data.samplers import TrainingSampler
from detectron2.utils import comm
from torch.utils.data import Dataset

from ..data.unlabelled import ProposalCache, build_proposal_cache, unlabelled_records
from .region_proposals import make_proposer
from .view_mapper import TwoViewMapper

__all__ = [
    "ViewDataset",
    "build_pretraining_loader",
    "load_proposals",
]


REPLACEMENTS = 100  # images tried in place of one that gives no sample


def load_proposals(cfg: CfgNode, records: list[dict[str, Any]]) -> ProposalCache | None:
    """The cached boxes of all records; the main process proposes what is missing, the others wait.

    Returns:
        the cache, or None for random boxes.

    Raises:
        ValueError: the cache was made for other images or settings.
    """
    propose, settings = make_proposer(cfg)
    if propose is None:
        return None
    node = cfg.INPUT.TWO_VIEWS.PROPOSALS
    folder = node.CACHE or os.path.join(cfg.OUTPUT_DIR, "proposals")
    files = [record["file_name"] for record in records]
    if comm.is_main_process():
        build_proposal_cache(files, folder, propose, settings, node.WORKERS)
    comm.synchronize()
    return ProposalCache(folder)


class ViewDataset(Dataset[dict[str, Any]]):
    """Samples of a mapper; an image that gives none is replaced by another one, drawn at random.

    detectron2's ``MapDataset`` does so as well, but fails there from Python 3.11 on.

    Args:
        records: the images.
        mapper: record to sample, or None.
    """

    def __init__(self, records: list[dict[str, Any]], mapper: Callable[[dict[str, Any]], Any]) -> None:
        self.records = DatasetFromList(records, copy=False)
        self.mapper = mapper

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One sample.

        Raises:
            ValueError: no image gives one, as far as was tried.
        """
        for _ in range(REPLACEMENTS):
            sample = self.mapper(self.records[index])
            if sample is not None:
                return dict(sample)
            index = int(np.random.randint(len(self.records)))
        raise ValueError(
            f"DATASETS.TRAIN: found no sample in {REPLACEMENTS} draws from {len(self.records)} images, "
            "expected images that can be read and whose views share a region"
        )


def build_pretraining_loader(cfg: CfgNode) -> Any:
    """Endless batches of :class:`TwoViewMapper` samples of ``DATASETS.TRAIN``.

    Raises:
        ValueError: no image has a proposal.
    """
    records = unlabelled_records(cfg.DATASETS.TRAIN)
    proposals = load_proposals(cfg, records)
    if proposals is not None:
        filled = np.flatnonzero(proposals.counts())
        records = [records[i] for i in filled]
        if not records:
            raise ValueError(f"{proposals.folder}: found no box for any image, expected some")
    dataset = ViewDataset(records, TwoViewMapper(cfg, proposals))
    return build_batch_data_loader(
        dataset,
        TrainingSampler(len(dataset)),
        cfg.SOLVER.IMS_PER_BATCH,
        aspect_ratio_grouping=False,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )
