"""Frames of a video: ranking, tracking and drawing, in every runtime and by the training-free ranker."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from export import RUNTIMES, exported_ranker, kept_folder
from inference import DETECTIONS, our_model
from models import smooth_picture
from timing import Options, Row, Task, Variant, compare


def measure(options: Options) -> list[Row]:
    """Measure the model of the configuration and the training-free ranker."""
    with kept_folder(options) as folder:
        arguments = (options, f"{folder}/weights.pth")
        variants = [Variant("PyTorch", _ours, arguments)]
        variants += [Variant(name, _exported, (*arguments, *kind)) for name, kind in RUNTIMES.items()]
        return compare([*variants, Variant("training-free", _training_free, (options,))], options)


def _ours(options: Options, weights: str) -> dict[str, Task]:
    from sor_ppa.cpu_inference import tune_for_inference

    return _tasks(tune_for_inference(our_model(options, weights)), options)


def _exported(options: Options, weights: str, form: str, precision: str) -> dict[str, Task]:
    return _tasks(exported_ranker(options, weights, form, precision), options)


def _tasks(model: Any, options: Options) -> dict[str, Task]:
    from sor_ppa import SORPredictor
    from sor_ppa.config import load_config

    cfg = load_config(options.config, ["MODEL.DEVICE", "cpu", *DETECTIONS, *options.opts])
    return _video(SORPredictor(cfg, model=model), options)


def _training_free(options: Options) -> dict[str, Task]:
    from sor_ppa import SORPredictor

    return _video(SORPredictor.from_config_file("configs/contrast/contrast.yaml"), options)


def _video(predictor: Any, options: Options) -> dict[str, Task]:
    height, width = options.size or ((64, 96) if options.quick else (480, 640))
    count = 2 if options.quick else 8
    scene = smooth_picture(height, width * 2).permute(1, 2, 0).byte().numpy()
    frames = [(n / 25, np.ascontiguousarray(scene[:, 8 * n : 8 * n + width])) for n in range(count)]
    return {f"{count} frames of {height} x {width}": partial(_run, frames, predictor)}


def _run(frames: list[tuple[float, Any]], predictor: Any) -> dict[str, Any]:
    from sor_ppa.video import rank_frames

    drawn = [frame.result.draw(frame.picture[:, :, ::-1]) for frame in rank_frames(frames, predictor)]
    return {"done": len(drawn)}
