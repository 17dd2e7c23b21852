#!/usr/bin/env python
"""Time ``sor-ppa compare`` on simulated methods: many images of small run-length masks."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as mask_util

from sor_ppa.cli import compare

HEIGHT, WIDTH = 120, 160


def ellipse(center: np.ndarray, radius: np.ndarray) -> dict[str, Any]:
    """An ellipse as compressed run lengths."""
    y, x = np.ogrid[:HEIGHT, :WIDTH]
    mask = ((y - center[0]) / radius[0]) ** 2 + ((x - center[1]) / radius[1]) ** 2 < 1
    rle = mask_util.encode(np.asfortranarray(mask, np.uint8))
    return {"size": [HEIGHT, WIDTH], "counts": rle["counts"].decode("ascii")}


def simulate(folder: Path, images: int, methods: int) -> list[str]:
    """Write truth.json and a file for each method; return their paths.

    An image has one to five objects. A method finds most of them, at a place that is a little wrong, confuses
    ranks by noise that grows with its number, and finds about one thing more.
    """
    rng = np.random.default_rng(0)
    truth: list[dict[str, Any]] = []
    found: list[list[dict[str, Any]]] = [[] for _ in range(methods)]
    listed = [{"id": i, "file_name": f"{i}.jpg", "height": HEIGHT, "width": WIDTH} for i in range(images)]
    for image in range(images):
        for rank in range(1, rng.integers(1, 6) + 1):
            center = rng.uniform(0.15, 0.85, 2) * (HEIGHT, WIDTH)
            radius = rng.uniform(8, 26, 2)
            truth.append({"image_id": image, "segmentation": ellipse(center, radius), "rank": rank})
            for method in range(methods):
                if rng.random() < 0.1:
                    continue
                shape = ellipse(center + rng.normal(0, 2, 2), radius * rng.uniform(0.9, 1.1, 2))
                score = -rank + rng.normal(0, 0.4 + 0.3 * method)
                found[method].append(instance(image, shape, score, rng.uniform(0.4, 1)))
        for method in range(methods):
            if rng.random() < 0.7:
                shape = ellipse(rng.uniform(0, 1, 2) * (HEIGHT, WIDTH), rng.uniform(5, 15, 2))
                found[method].append(instance(image, shape, rng.normal(-4, 1), rng.uniform(0.1, 0.7)))
    (folder / "truth.json").write_text(json.dumps({"images": listed, "annotations": truth}))
    for method, entries in enumerate(found):
        (folder / f"method{method}.json").write_text(json.dumps(entries))
    return [str(folder / f"method{method}.json") for method in range(methods)]


def instance(image: int, shape: dict[str, Any], rank_score: float, score: float) -> dict[str, Any]:
    """An instance as a file holds it."""
    return {
        "image_id": image,
        "segmentation": shape,
        "rank_score": round(rank_score, 4),
        "score": round(score, 4),
    }


def main() -> int:
    """Simulate, compare, and print the time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000, metavar="N", help="default: 10000")
    parser.add_argument("--methods", type=int, default=5, metavar="N", help="default: 5")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes (default: 2)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep files and report here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        predictions = simulate(folder, options.images, options.methods)
        own = argparse.ArgumentParser()
        compare.add_arguments(own)
        arguments = [*predictions, "--truth", str(folder / "truth.json"), "--output", str(folder / "report")]
        start = time.perf_counter()
        status = compare.run(
            own.parse_args([*arguments, "--missing", "empty", "--workers", str(options.workers)])
        )
        sys.stdout.write(
            f"{options.images} images, {options.methods} methods: {time.perf_counter() - start:.1f} s\n"
        )
    return status


if __name__ == "__main__":
    sys.exit(main())
