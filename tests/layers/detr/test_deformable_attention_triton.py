"""The Triton kernels compute the sums and gradients of the PyTorch formulations."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from .test_deformable_attention import gradients


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs triton (comes with CUDA torch)")
def test_triton_kernels_in_the_interpreter() -> None:
    """The kernels' arithmetic on the CPU; a process of its own, as Triton reads the variable on import."""
    code = (
        "import torch\n"
        "from tests.layers.detr.test_deformable_attention import gradients\n"
        "for a, b in zip(gradients('triton'), gradients('bag'), strict=True):\n"
        "    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)\n"
    )
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_triton_on_the_gpu() -> None:
    for a, b in zip(gradients("triton", "cuda"), gradients("bag"), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
