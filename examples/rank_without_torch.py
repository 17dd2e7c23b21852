#!/usr/bin/env python
"""Rank the objects of photos with a model of ``sor-ppa export``; needs numpy, Pillow and onnxruntime.

python examples/rank_without_torch.py model.onnx photo.jpg ...
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

LINEAR = Image.Resampling.BILINEAR


def main(model, files):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    info = json.loads(session.get_modelmeta().custom_metadata_map["sor_ppa"])
    names = [output.name for output in session.get_outputs()]
    unread = 0
    for file in files:
        try:
            photo = read(file)
        except (OSError, ValueError) as error:
            unread += 1
            print(f"{file}: {error}", file=sys.stderr)
            continue
        found = dict(zip(names, session.run(names, network_input(photo, info)), strict=True))
        boxes, masks = outlines(found, photo, info)
        order = np.lexsort((-found["scores"], -found["rank_scores"], -found["ranks"]))
        for place, i in enumerate((i for i in order if (boxes[i, 2:] > boxes[i, :2]).all()), 1):
            rank = place if found["ranks"][i] >= 0 else None
            number = int(found["classes"][i])
            label = info["class_names"][number] if info["class_names"] else str(number)
            score, box = round(float(found["scores"][i]), 4), boxes[i].round(2).tolist()
            line = {"rank": rank, "class": label, "score": score, "box": box, "area": int(masks[i].sum())}
            print(json.dumps({"file": file, **line}))
    return min(unread, 1)


def read(file):
    """The photo in RGB: the upper 8 of 16 bits, transparency on white."""
    photo = ImageOps.exif_transpose(Image.open(file))
    if photo.mode.startswith(("I", "F")):
        values = np.asarray(photo).astype(np.float32)
        if photo.mode == "F":
            values = np.rint(values * (255 if values.max() <= 1 else 1))
        elif photo.mode != "I" or values.max() > 255:
            values = values // 256
        photo = Image.fromarray(values.clip(0, 255).astype(np.uint8))
    if photo.has_transparency_data:
        photo = photo.convert("RGBA")
        photo = Image.alpha_composite(Image.new("RGBA", photo.size, "white"), photo)
    return photo.convert("RGB")


def network_size(photo, info):
    """Width and height for the network: the short side as configured, the long side limited."""
    scale = min(info["short_side"] / min(photo.size), info["long_side"] / max(photo.size))
    return tuple(max(int(side * scale + 0.5), 1) for side in photo.size)


def network_input(photo, info):
    pixels = np.asarray(photo.resize(network_size(photo, info), LINEAR), np.float32)
    pixels = pixels if info["format"] == "RGB" else pixels[:, :, ::-1]
    height, width = pixels.shape[:2]
    step = info["divisibility"]
    images = np.zeros((1, 3, -(-height // step) * step, -(-width // step) * step), np.float32)
    images[0, :, :height, :width] = pixels.transpose(2, 0, 1)
    return {"images": images, "sizes": np.array([[height, width]], np.int64)}


def outlines(found, photo, info):
    """Boxes (N, 4) in pixels of the photo, and N masks (H, W) bool."""
    network, step = network_size(photo, info), info["divisibility"]
    if info.get("masks") == "image":  # logits on a grid over the padded image
        padded = [-(-side // step) * step for side in network]
        maps = (Image.fromarray(x[0]).resize(padded, LINEAR).crop((0, 0, *network)) for x in found["masks"])
        masks = [np.asarray(x.resize(photo.size, LINEAR)) > 0 for x in maps]
        return np.array([extent(mask) for mask in masks], float).reshape(-1, 4), masks
    boxes = (found["boxes"] * np.tile(np.divide(photo.size, network), 2)).clip(0, np.tile(photo.size, 2))
    return boxes, [paste(mask[0], box, photo.size) for mask, box in zip(found["masks"], boxes, strict=True)]


def extent(mask):
    """The box XYXY of a mask; zeros for an empty one."""
    y, x = mask.nonzero()
    return (x.min(), y.min(), x.max() + 1, y.max() + 1) if len(x) else (0, 0, 0, 0)


def paste(mask, box, size):
    """The mask (H, W) bool of an object from probabilities on a grid over its box."""
    a, e = ((box[2:] - box[:2]) / mask.shape[::-1]).clip(1e-6)
    to_grid = (1 / a, 0, 1 - box[0] / a, 0, 1 / e, 1 - box[1] / e)
    grid = Image.fromarray(np.pad(mask, 1))  # zeros outside the box
    return np.asarray(grid.transform(size, Image.Transform.AFFINE, to_grid, LINEAR)) >= 0.5


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]) if len(sys.argv) > 2 else __doc__)
