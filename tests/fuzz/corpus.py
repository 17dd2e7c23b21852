"""Valid small files of every kind that this package reads; the fuzzer damages copies of them."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from pycocotools import mask as mask_util
from safetensors.torch import save_file

from sor_ppa.data.export import WRITERS, write_records
from sor_ppa.data.record import ImageRecord, ObjectRecord
from sor_ppa.data.shards import write_shards

SIZE = (60, 80)  # of the images, (height, width)


def _mask(top: int, left: int) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    mask[top : top + 20, left : left + 25] = 1
    return mask


def write_corpus(folder: Path) -> None:
    """Write the corpus: a folder for each format of datasets, and ``pictures``, ``weights`` and ``files``."""
    files, pictures, weights = (folder / name for name in ("files", "pictures", "weights"))
    for place in (files, pictures, weights):
        place.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    records = []
    for index in range(2):
        picture = files / f"photo{index}.jpg"
        cv2.imwrite(str(picture), pixels)
        polygon = [[5.0, 5.0, 40.0, 5.0, 40.0, 30.0, 5.0, 30.0]]
        run_lengths = mask_util.encode(np.asfortranarray(_mask(30, 40)))
        objects = (
            ObjectRecord((5, 5, 40, 30), polygon, 0),
            ObjectRecord((40, 30, 65, 50), {**run_lengths, "counts": run_lengths["counts"].decode()}, 1),
        )
        records.append(ImageRecord(str(picture), *SIZE, objects, index + 1))
    for kind in WRITERS:
        write_records(records, folder / kind, kind, "train", images="copy")
    write_shards(records, folder / "shards", "train")
    _write_pictures(pictures, pixels)
    _write_predictions(files)
    _write_weights(weights)
    (files / "config.yaml").write_text(
        "MODEL:\n  META_ARCHITECTURE: SalientObjectRanker\n  SOR:\n    NAME: SelfAttentionWithPosConvCat\n"
        "  VOVNET: {NORM: BN, OUT_FEATURES: [stage3, stage4]}\nINPUT:\n  MIN_SIZE_TRAIN: (160, 192)\n"
        "SOLVER:\n  BASE_LR: 0.01\n  STEPS: (10, 20)\n"
    )


def _write_pictures(folder: Path, pixels: np.ndarray) -> None:
    picture = Image.fromarray(pixels)
    for suffix in ("png", "webp", "gif", "bmp", "tif", "jp2", "ppm"):
        picture.save(folder / f"picture.{suffix}")
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(folder / "deep.png")
    picture.convert("RGBA").save(folder / "alpha.png")
    picture.convert("P").save(folder / "palette.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(folder / "turned.jpg", exif=exif)
    picture.convert("CMYK").save(folder / "cmyk.jpg")


def _write_predictions(files: Path) -> None:
    run_lengths = mask_util.encode(np.asfortranarray(_mask(6, 6)))
    run_lengths["counts"] = run_lengths["counts"].decode()
    square = [[5.0, 5.0, 40.0, 5.0, 40.0, 30.0]]
    shapes = [run_lengths, square, {"size": list(SIZE), "counts": [300, 30, 4470]}]
    instances = [
        {"image_id": 1 + index % 2, "segmentation": shape, "score": 0.9, "rank": 1 + index // 2}
        for index, shape in enumerate(shapes)
    ]
    (files / "instances.json").write_text(json.dumps(instances))


def _write_weights(folder: Path) -> None:
    weights = {
        "stem.weight": torch.ones(4, 3),
        "head.bias": torch.arange(5),
        "steps": torch.tensor(3),
    }
    torch.save({"model": weights, "iteration": 7, "__author__": "somebody"}, folder / "weights.pth")
    torch.save(weights, folder / "old.pth", _use_new_zipfile_serialization=False)
    save_file(weights, folder / "weights.safetensors", {"format": "pt"})
    arrays = {name: value.numpy() for name, value in weights.items()}
    for protocol in (2, 4):
        content = pickle.dumps({"model": arrays, "matching_heuristics": True}, protocol=protocol)
        (folder / f"zoo{protocol}.pkl").write_bytes(content)
