"""Two processes with half a batch each learn what one learns from the whole batch."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from detectron2.modeling import build_model
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tests.distributed import run_processes
from tests.models import bitmask_targets, make_cfg


def _example(seed: int, objects: int) -> dict:
    generator = torch.Generator().manual_seed(seed)
    boxes = [[30 * k, 10 + 20 * k, 30 * k + 30, 34 + 20 * k] for k in range(objects)]
    instances = bitmask_targets((96, 128), boxes, list(range(1, objects + 1)))
    return {"image": torch.rand((3, 96, 128), generator=generator) * 255, "instances": instances}


def _model() -> nn.Module:
    torch.manual_seed(0)
    cfg = make_cfg("configs/sor/demo.yaml", MODEL__SOR__TRANSFORMER__DROPOUT=0.0)
    cfg.merge_from_list(["MODEL.VOVNET.NORM", "FrozenBN", "MODEL.FPN.NORM", ""])
    return build_model(cfg).train()


def _gradients(model: nn.Module, batch: list[dict]) -> dict[str, torch.Tensor]:
    sum(model(batch).values()).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def _half(counts: tuple[int, int]) -> dict[str, torch.Tensor]:
    rank = dist.get_rank()
    model = DistributedDataParallel(_model(), broadcast_buffers=False)
    grads = _gradients(model, [_example(rank, counts[rank])])
    return {name.removeprefix("module."): g for name, g in grads.items()}


@pytest.mark.slow
@pytest.mark.parametrize("counts", [(1, 3), (0, 2)])
def test_gradients_are_those_of_the_whole_batch(counts: tuple[int, int]) -> None:
    whole = _gradients(_model(), [_example(i, n) for i, n in enumerate(counts)])
    halves = run_processes(2, _half, counts)
    assert set(halves[0]) == set(whole)
    for name, expected in whole.items():
        for half in halves:
            # float32 noise only: normalizing by each process's own count would be off by a third
            assert (half[name] - expected).norm() <= 3e-3 * expected.norm() + 1e-7, name
