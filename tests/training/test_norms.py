from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn

from sor_ppa.training import synchronize_norms
from tests.distributed import run_processes
from tests.models import make_cfg

IMAGES = torch.rand(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))


def _normalized(sync: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The output for this process's images, and the running mean."""
    model = synchronize_norms(make_cfg(None, SOLVER__SYNC_BN=sync), nn.Sequential(nn.BatchNorm2d(3)))
    rank, size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    return model(IMAGES[rank::size]).detach(), model.state_dict()["0.running_mean"]


def test_synchronized_norms_of_two_processes_are_those_of_the_whole_batch() -> None:
    whole, mean = _normalized(sync=True)
    (first, first_mean), (second, second_mean) = run_processes(2, _normalized, True)
    torch.testing.assert_close(torch.stack((first, second), 1).flatten(0, 1), whole, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close((first_mean, second_mean), (mean, mean), rtol=1e-4, atol=1e-5)


def test_norms_stay_as_they_are_unless_asked_for() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3))
    assert type(synchronize_norms(make_cfg(None), model)[0]) is nn.BatchNorm2d
