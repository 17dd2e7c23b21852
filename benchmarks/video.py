"""Frames of a video: ranking, tracking and drawing."""

from __future__ import annotations

from typing import Any

import numpy as np
from models import smooth_picture
from timing import Options, Row, Task, Variant, compare


def measure(options: Options) -> list[Row]:
    """Measure the model of the configuration and the training-free ranker."""
    configs = {"ours": options.config, "training-free": "configs/contrast/contrast.yaml"}
    return compare([Variant(name, _tasks, (options, config)) for name, config in configs.items()], options)


def _tasks(options: Options, config: str) -> dict[str, Task]:
    from sor_ppa import SORPredictor
    from sor_ppa.video import rank_frames

    predictor = SORPredictor.from_config_file(config, ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""])
    height, width, count = (64, 96, 2) if options.quick else (480, 640, 8)
    scene = smooth_picture(height, width * 2).permute(1, 2, 0).byte().numpy()
    frames = [(n / 25, np.ascontiguousarray(scene[:, 8 * n : 8 * n + width])) for n in range(count)]

    def run() -> dict[str, Any]:
        drawn = [frame.result.draw(frame.picture[:, :, ::-1]) for frame in rank_frames(frames, predictor)]
        return {"frames": len(drawn)}

    return {f"{count} frames of {height} x {width}": run}
