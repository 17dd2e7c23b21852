"""The global discrimination head: the recorded case ``global_head``, and training in several processes."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from sor_ppa.siamese_detr.heads import GlobalDiscriminationHead
from tests.distributed import run_processes
from tests.parity import deterministic

from .published import fixture

NAME = "global_head"
SAMPLES, CHANNELS = 8, 6


class Pass:
    def __init__(self) -> None:
        case = self.case = fixture(NAME)
        self.head = GlobalDiscriminationHead(256, 256).train()
        prefix = case.manifest["weights"]["prefix"] + "."
        self.head.load_state_dict({k: case.fill(prefix + k, v) for k, v in self.head.state_dict().items()})
        names, like = [f"siamese_detr/global/memory_v{view}" for view in (1, 2)], torch.zeros(8, 256, 5, 6)
        self.memories = [deterministic().fill_tensor(n, like, gain=16).requires_grad_() for n in names]
        self.loss = self.head(*[m.mean((2, 3)) for m in self.memories])
        self.loss.backward()
        self.running = {k: v.clone() for k, v in self.head.state_dict().items() if "running" in k}


@pytest.fixture(scope="module")
def run() -> Pass:
    return Pass()


def test_loss_equals_the_published(run):
    for view in (1, 2):
        run.case.check(f"memory_v{view}", run.memories[view - 1])
    assert run.loss.item() == pytest.approx(run.case.manifest["loss"], abs=1e-5)


def test_projection_and_prediction_equal_the_published(run):
    with torch.no_grad():
        for view in (1, 2):
            projection, prediction = run.head.project(run.memories[view - 1].mean((2, 3)))
            run.case.check(f"projection_v{view}", projection)
            run.case.check(f"prediction_v{view}", prediction)


def test_gradients_equal_the_published(run):
    ours = dict(run.head.named_parameters())
    for name, norm in run.case.manifest["grad_norms"].items():
        if norm > 1e-6:
            found = ours[name.removeprefix("enc_head.0.")].grad.norm().item()
            assert found == pytest.approx(norm, rel=1e-3), name
    for view in (1, 2):
        run.case.check(f"grad_memory_v{view}", run.memories[view - 1].grad, atol=1e-6)


def test_running_statistics_equal_the_published(run):
    for key in run.case.arrays:
        if key.startswith("after_forward/"):
            run.case.check(key, run.running[key.removeprefix("after_forward/enc_head.0.")])


def head_step(rank: int | None = None, size: int = 1) -> dict[str, torch.Tensor]:
    """Loss, gradients and running statistics of the head, averaged over the workers as DDP does."""
    torch.manual_seed(0)
    head = GlobalDiscriminationHead(CHANNELS, CHANNELS).train()
    first, second = torch.randn(2, SAMPLES, CHANNELS)
    if dist.is_initialized():
        rank, size = dist.get_rank(), dist.get_world_size()
        share = slice(rank * SAMPLES // size, (rank + 1) * SAMPLES // size)
        first, second = first[share], second[share]
    loss = head(first, second)
    loss.backward()
    result = {"loss": loss.detach(), **{n: p.grad for n, p in head.named_parameters()}}
    if size > 1:
        for value in result.values():
            dist.all_reduce(value)
            value /= size
    return result | {n: b for n, b in head.named_buffers() if "running" in n}


def test_global_discrimination_spans_all_workers():
    whole = head_step()
    for part in run_processes(2, head_step):
        for name, value in whole.items():
            torch.testing.assert_close(part[name], value, atol=2e-5, rtol=1e-4, msg=name)
