"""The global discrimination head: the recorded case ``global_head`` of the published code."""

from __future__ import annotations

import pytest
import torch

from sor_ppa.siamese_detr.heads import GlobalDiscriminationHead
from tests.parity import deterministic

from .published import fixture

NAME = "global_head"


class Pass:
    def __init__(self) -> None:
        case = self.case = fixture(NAME)
        self.head = GlobalDiscriminationHead(256, 256).train()
        prefix = case.manifest["weights"]["prefix"] + "."
        self.head.load_state_dict({k: case.fill(prefix + k, v) for k, v in self.head.state_dict().items()})
        self.memories = [
            deterministic().fill_tensor(
                f"siamese_detr/global/memory_v{v}", torch.zeros(8, 256, 5, 6), gain=16
            )
            for v in (1, 2)
        ]
        for memory in self.memories:
            memory.requires_grad_()
        self.loss = self.head(*[m.mean((2, 3)) for m in self.memories])
        self.loss.backward()
        self.running = {k: v.clone() for k, v in self.head.state_dict().items() if "running" in k}


@pytest.fixture(scope="module")
def run() -> Pass:
    return Pass()


def test_inputs_follow_the_recipe(run):
    for view in (1, 2):
        run.case.check(f"memory_v{view}", run.memories[view - 1])


def test_loss_equals_the_published(run):
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


def test_one_image_over_all_workers_is_refused():
    head = GlobalDiscriminationHead(8, 8).train()
    with pytest.raises(AssertionError, match="two images"):
        head(torch.zeros(1, 8), torch.zeros(1, 8))
