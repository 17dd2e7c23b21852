"""The data loader of the pre-training: two views of unlabeled images."""

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

__all__ = ["ViewDataset", "build_pretraining_loader", "load_proposals"]

REPLACEMENTS = 100  # images tried in place of one without a sample


def load_proposals(cfg: CfgNode, records: list[dict[str, Any]]) -> ProposalCache | None:
    """Return the cached boxes of all records, or None for random boxes.

    The main process computes missing boxes while the others wait.

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
    """Samples of a mapper; an image without a sample is replaced by a random other one.

    detectron2's ``MapDataset`` does the same, but its replacement fails on Python 3.11 and later.

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
        """Return one sample.

        Raises:
            ValueError: none of the images tried has a sample.
        """
        for _ in range(REPLACEMENTS):
            sample = self.mapper(self.records[index])
            if sample is not None:
                return dict(sample)
            index = int(np.random.randint(len(self.records)))
        raise ValueError(
            "DATASETS.TRAIN: expected readable images whose views share a region, "
            f"found none in {REPLACEMENTS} draws from {len(self.records)} images"
        )


def build_pretraining_loader(cfg: CfgNode) -> Any:
    """Return endless batches of :class:`TwoViewMapper` samples of ``DATASETS.TRAIN``.

    Raises:
        ValueError: no image has a proposal.
    """
    records = unlabelled_records(cfg.DATASETS.TRAIN)
    proposals = load_proposals(cfg, records)
    if proposals is not None:
        filled = np.flatnonzero(proposals.counts())
        records = [records[i] for i in filled]
        if not records:
            raise ValueError(f"{proposals.folder}: expected boxes, found none for any image")
    dataset = ViewDataset(records, TwoViewMapper(cfg, proposals))
    return build_batch_data_loader(
        dataset,
        TrainingSampler(len(dataset)),
        cfg.SOLVER.IMS_PER_BATCH,
        aspect_ratio_grouping=False,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )
