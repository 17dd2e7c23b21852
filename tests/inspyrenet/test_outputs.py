"""Composed pictures against the recorded 8-bit ones, and bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sor_ppa.inspyrenet.foreground import estimate_foreground
from sor_ppa.inspyrenet.layers import resize
from sor_ppa.inspyrenet.outputs import compose, cut_out
from tests.parity import deterministic

from .fixtures import arrays, case_image, manifest


def saliency() -> np.ndarray:
    data = arrays("compose")
    size = manifest()["compose"]["image"]
    resized = resize(torch.from_numpy(data["pred96"]), (size["height"], size["width"]), align_corners=True)
    np.testing.assert_allclose(resized.numpy(), data["pred_resized"], atol=1e-6)
    return data["pred_resized"][0, 0]


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("map", "map", {}),
        ("rgba_threshold", "rgba", {"threshold": 0.5}),
        ("green", "green", {}),
        ("white", "white", {}),
        ("color_255_0_0", "[255, 0, 0]", {}),
        ("blur", "blur", {}),
        ("overlay", "overlay", {}),
        ("background_image", "background", {}),
        ("map_reverse", "map", {"reverse": True}),
        ("map_threshold", "map", {"threshold": 0.5}),
        ("green_reverse", "green", {"reverse": True}),
    ],
)
def test_published_outputs(name: str, kind: str, options: dict) -> None:
    spec = manifest()["compose"]["background"]
    if kind == "background":
        options = {"background": deterministic().image(spec["key"], spec["height"], spec["width"])}
    found = compose(case_image("compose"), saliency(), kind, **options)
    expected = arrays("compose")[f"out/{name}"]
    assert found.shape == expected.shape
    assert found.dtype == np.uint8
    # The rounding of the blur differs between OpenCV versions.
    allowed = 1 if kind in ("blur", "background") else 0
    assert np.abs(found.astype(int) - expected).max() <= allowed


def test_the_cut_out_without_matting_keeps_the_colors() -> None:
    found = cut_out(case_image("compose"), saliency(), clean=False)
    np.testing.assert_array_equal(found, arrays("compose")["out/rgba_nomatting"])


def test_the_cut_out_is_close_to_the_published_matting() -> None:
    found = compose(case_image("compose"), saliency(), "rgba")
    expected = arrays("compose")["out/rgba_matting"]
    np.testing.assert_array_equal(found[..., 3], expected[..., 3])
    seen = expected[..., 3] > 12  # colors of nearly transparent pixels do not matter
    difference = np.abs(found[..., :3].astype(int) - expected[..., :3])[seen]
    assert difference.mean() < 2.0


def test_the_foreground_of_a_flat_mixture_is_found() -> None:
    alpha = torch.linspace(0, 1, 64).repeat(48, 1)
    front, back = torch.tensor([0.9, 0.2, 0.1]), torch.tensor([0.1, 0.3, 0.8])
    image = alpha * front[:, None, None] + (1 - alpha) * back[:, None, None]
    found = estimate_foreground(image, alpha)
    assert (found - front[:, None, None]).abs()[:, :, 8:].max() < 0.05


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3, 2)])
def test_the_smallest_pictures_compose(size: tuple[int, int]) -> None:
    image, alpha = np.full((*size, 3), 9, np.uint8), np.full(size, 0.5, np.float32)
    for kind in ("map", "rgba", "green", "white", "blur", "overlay", "1,2,3"):
        assert compose(image, alpha, kind).shape[:2] == size


@pytest.mark.parametrize("kind", ["300,0,0", "red", "1,2", "[1,2,3,4]"])
def test_unknown_kinds_are_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="type: expected one of map, .*, a color such as .*, found"):
        compose(np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), np.float32), kind)
