#!/usr/bin/env python
"""Time to register a dataset, with cold and warm files, against opening every image.

Makes an ASSR folder of the published size (7,646 images of 640 x 480, 1.7 GB) in a temporary directory.
Files are cold after ``/proc/sys/vm/drop_caches`` (root only), else after ``posix_fadvise`` on each of them.

Example:
    python benchmarks/bench_registration.py --images 7646
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from sor_ppa.data.builtin import DatasetSource
from sor_ppa.data.images import image_sizes


def make_folder(root: Path, images: int, photos: list[Path]) -> None:
    """Write the ASSR folder with copies of some photographs, or of generated ones."""
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
        shutil.copyfile(photos[index % len(photos)], root / "images" / "train" / f"{name}.jpg")
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


def drop_page_cache(root: Path) -> None:
    """Make the files of a folder cold."""
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3")
    except OSError:
        for path in root.rglob("*"):
            if path.is_file():
                with open(path, "rb") as stream:
                    os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def timed(action: Callable[[], object]) -> float:
    """Return the seconds that an action takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main() -> int:
    """Run the benchmark; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--images", type=int, default=7646)
    parser.add_argument("--photos", type=Path, nargs="*", default=[], help="JPEG files to copy")
    parser.add_argument("--workdir", type=Path, default=None, help="where to make the folder")
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.workdir) as folder:
        root = Path(folder)
        make_folder(root / "ASSR", args.images, list(args.photos))
        source = DatasetSource("assr_train", "ASSR", "assr", "train", str(root))
        paths = sorted((root / "ASSR" / "images" / "train").glob("*.jpg"))
        sys.stdout.write(f"{args.images} images, {os.cpu_count()} cores\n{'':30s}  cold s  warm s\n")
        for name, action in (
            ("decoding every image", lambda: [cv2.imread(str(path)) for path in paths]),
            ("sizes from headers", lambda: image_sizes(paths)),
            ("registering the dataset", source),
        ):
            drop_page_cache(root)
            cold = timed(action)
            warm = min(timed(action) for _ in range(args.repeat))
            sys.stdout.write(f"{name:30s} {cold:7.2f} {warm:7.2f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
