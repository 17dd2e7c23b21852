"""Rank photos with numpy, Pillow and onnxruntime: python rank_without_torch.py MODEL.onnx PHOTO ..."""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps
from PIL.Image import AFFINE, BILINEAR


def main(model, files):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    info = json.loads(session.get_modelmeta().custom_metadata_map["sor_ppa"])
    names = [output.name for output in session.get_outputs()]
    for file in files:
        try:
            photo = ImageOps.exif_transpose(Image.open(file)).convert("RGBA")
        except (OSError, ValueError) as error:
            sys.exit(f"{file}: {error}")
        photo = Image.alpha_composite(Image.new("RGBA", photo.size, "white"), photo).convert("RGB")
        found = dict(zip(names, session.run(names, inputs := network_input(photo, info)), strict=True))
        boxes, masks = outlines(found, inputs, photo.size, info)
        order = np.lexsort((-found["scores"], -found["rank_scores"], -found["ranks"]))
        for place, i in enumerate((i for i in order if (boxes[i, 2:] > boxes[i, :2]).all()), 1):
            rank, number = place if found["ranks"][i] >= 0 else None, int(found["classes"][i])
            label, box = (info["class_names"] or range(number + 1))[number], boxes[i].round(2).tolist()
            line = {"file": file, "rank": rank, "class": str(label), "score": float(found["scores"][i])}
            print(json.dumps({**line, "box": box, "area": int(masks[i].sum())}))


def network_input(photo, info):
    """The photo, its short side as configured, its long side limited, padded to what the network divides."""
    scale = min(info["short_side"] / min(photo.size), info["long_side"] / max(photo.size))
    width, height = (max(int(side * scale + 0.5), 1) for side in photo.size)
    pixels = np.asarray(photo.resize((width, height), BILINEAR), np.float32).transpose(2, 0, 1)
    padding = [(0, -side % info["divisibility"]) for side in (height, width)]
    images = np.pad(pixels[:: 1 if info["format"] == "RGB" else -1], [(0, 0), *padding])
    return {"images": images[None], "sizes": np.array([[height, width]])}


def outlines(found, inputs, size, info):
    """Boxes (N, 4), XYXY in pixels of the photo of ``size`` (width, height), and N masks (H, W) bool."""
    network, padded = inputs["sizes"][0, ::-1].tolist(), inputs["images"].shape[:1:-1]
    if info.get("masks") == "image":  # logits on a grid over the padded image
        maps = (Image.fromarray(x[0]).resize(padded, BILINEAR).crop((0, 0, *network)) for x in found["masks"])
        images = [Image.fromarray(np.asarray(x.resize(size, BILINEAR)) > 0) for x in maps]
        boxes = [image.getbbox() or (0, 0, 0, 0) for image in images]
        return np.array(boxes, float).reshape(-1, 4), list(map(np.asarray, images))
    boxes = (found["boxes"] * np.tile(np.divide(size, network), 2)).clip(0, np.tile(size, 2))
    masks, zeros = [], [(0, 0), (0, 0), (1, 1), (1, 1)]  # around probabilities on a grid over the box
    for (mask,), box in zip(np.pad(found["masks"], zeros), boxes, strict=True):
        a, e = ((box[2:] - box[:2]) / np.subtract(mask.shape[::-1], 2)).clip(1e-6)
        to_grid = (1 / a, 0, 1 - box[0] / a, 0, 1 / e, 1 - box[1] / e)
        masks.append(np.asarray(Image.fromarray(mask).transform(size, AFFINE, to_grid, BILINEAR)) >= 0.5)
    return boxes, masks


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
