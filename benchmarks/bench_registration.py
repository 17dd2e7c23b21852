#!/usr/bin/env python
"""Time to register a dataset, against opening every image as published readers do.

Makes an ASSR folder of the published size (7,646 images of 640 x 480) in a temporary directory; the
images are links to a few generated photographs-like JPEG files, so it takes little room.

Example:
    python benchmarks/bench_registration.py --images 7646
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from sor_ppa.data.builtin import DatasetSource


def make_folder(root: Path, images: int, photos: list[Path]) -> None:
    """Write the ASSR folder."""
    rng = np.random.default_rng(0)
    for part in ("images", "rank_order"):
        (root / part / "train").mkdir(parents=True)
    if not photos:
        for index in range(8):
            small = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
            image = cv2.resize(small, (640, 480), interpolation=cv2.INTER_CUBIC)
            image = np.clip(image + rng.normal(0, 12, image.shape), 0, 255).astype(np.uint8)
            photos.append(root / f"photo_{index}.jpg")
            cv2.imwrite(str(photos[-1]), image)
    angle = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    entries = []
    for index in range(images):
        name = f"COCO_train2014_{index:012d}"
        os.link(photos[index % len(photos)], root / "images" / "train" / f"{name}.jpg")
        count = int(rng.integers(3, 12))
        objects = []
        for x, y, radius in rng.uniform((80, 80, 10), (560, 400, 70), (count, 3)):
            points = np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1).round(2)
            box = [*np.floor(points.min(0)), *np.ceil(points.max(0))]
            objects.append({"bbox": list(map(int, box)), "segmentation": [points.reshape(-1).tolist()]})
        entries.append({"img": name, "object_data": objects})
        values = [1.0, 0.9, 0.8, 0.7, 0.6, *[-0.3] * 10][:count]
        (root / "rank_order" / "train" / f"{name}.json").write_text(json.dumps({"rank_order": values}))
    (root / "obj_seg_data_train.json").write_text(json.dumps(entries))


def timed(action: Callable[[], object]) -> float:
    """Seconds that an action takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main() -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--images", type=int, default=7646)
    parser.add_argument("--photos", type=Path, nargs="*", default=[], help="JPEG files on the same disk")
    parser.add_argument("--workdir", type=Path, default=None, help="where to make the folder")
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    write = sys.stdout.write
    with tempfile.TemporaryDirectory(dir=args.workdir) as folder:
        root = Path(folder)
        os.environ["SOR_PPA_CACHE"] = str(root / "cache")
        make_folder(root / "ASSR", args.images, list(args.photos))
        source = DatasetSource("assr_train", "ASSR", "assr", "train", str(root))
        paths = sorted((root / "ASSR" / "images" / "train").glob("*.jpg"))
        write(f"{args.images} images, {os.cpu_count()} cores\n")

        opened = timed(lambda: [cv2.imread(str(path)) for path in paths])
        write(f"opening every image (as published): {opened:8.2f} s\n")
        plain = DatasetSource("assr_train", "ASSR", "assr", "train", str(root), cache=False)
        cold = min(timed(plain) for _ in range(args.repeat))
        write(f"registering from headers:           {cold:8.2f} s   {opened / cold:6.1f} times faster\n")
        first = timed(source)
        write(f"the same, writing the cache:        {first:8.2f} s   {opened / first:6.1f} times faster\n")
        warm = min(timed(source) for _ in range(args.repeat))
        write(f"registering from a checked cache:   {warm:8.2f} s   {opened / warm:6.1f} times faster\n")
        if source() != plain():
            sys.stderr.write("error: the cache and the files give different records\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
