"""Images of one size go together, on a CPU in small groups."""

from __future__ import annotations

import torch

from sor_ppa.layers.batching import CPU_PIXELS, same_size_groups

SIZES = [(64, 96), (480, 640), (64, 96), (480, 640), (2000, 3000), (96, 64), (2000, 3000)]


def test_sizes_do_not_mix_and_no_image_is_lost() -> None:
    for device in ("cpu", "cuda"):
        groups = same_size_groups(SIZES, torch.device(device))
        assert sorted(i for group in groups for i in group) == list(range(len(SIZES)))
        assert all(len({SIZES[i] for i in group}) == 1 for group in groups)


def test_a_cpu_takes_few_pixels_at_once() -> None:
    assert same_size_groups([(480, 640)] * 3, torch.device("cpu")) == [[0], [1], [2]]
    assert same_size_groups([(480, 640)] * 3, torch.device("cuda")) == [[0, 1, 2]]
    groups = same_size_groups([(160, 224)] * 30, torch.device("cpu"))
    assert [len(group) for group in groups] == [CPU_PIXELS // (160 * 224)] * 2 + [8]
    assert same_size_groups([(0, 5)], torch.device("cpu")) == [[0]]
    assert same_size_groups([], torch.device("cpu")) == []
