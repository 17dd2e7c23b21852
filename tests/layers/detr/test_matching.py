"""The matcher against the published one, and targets in several processes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch import distributed as dist

from sor_ppa.layers.detr.matching import BoxTargets
from tests.distributed import run_processes
from tests.salience_detr.units import MATCHER, two_images, unit


def test_costs_equal_the_published() -> None:
    unit().close("match_cost", MATCHER.cost(*two_images())[0, 0])


def test_matches_equal_the_published() -> None:
    matches = MATCHER(*two_images())
    first = matches.image[0] == 0
    unit().equal("match_src", matches.query[0, first])
    unit().equal("match_tgt", matches.target[0, first])


def targets_of_this_worker() -> Tensor:
    counts = [1, 4] if dist.get_rank() else [0, 1]
    return BoxTargets.pad([torch.zeros(n, 4) for n in counts], [torch.zeros(n) for n in counts]).mean_count()


def test_targets_are_averaged_over_the_workers() -> None:
    assert run_processes(2, targets_of_this_worker) == [3.0, 3.0]
