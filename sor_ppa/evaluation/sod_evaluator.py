"""The detectron2 evaluator of salient object detection."""

from __future__ import annotations

import itertools
import json
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from .boundary import BoundaryAccuracy, boundary_accuracy
from .sod import SODScorer, sod_state

__all__ = ["SODEvaluator"]

logger = logging.getLogger(__name__)


class SODEvaluator(DatasetEvaluator):
    """Scores saliency maps against masks: MAE, S, E, F, weighted F and mBA.

    As published, maps are taken as bytes (255 times the value, truncated) before they are scored.
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        output_dir: str | Path | None = None,
        distributed: bool = True,
        save_maps: bool = True,
    ) -> None:
        """
        Args:
            dataset_name: for messages.
            output_dir: where to write ``sod_metrics.json`` and ``maps/NAME.png``; None = nowhere.
            distributed: gather from all processes; False = this process only.
            save_maps: write the maps.
        """
        self.dataset_name = dataset_name
        self._output_dir = Path(output_dir) if output_dir else None
        self._distributed = distributed
        self._save_maps = save_maps
        self._records: dict[int | str, dict[str, Any]] = {}

    def reset(self) -> None:
        """Forgets all images."""
        self._records = {}

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> None:
        """Scores a batch.

        Args:
            inputs: dicts with ``image_id``, ``file_name`` and ``mask_file_name``.
            outputs: dicts with ``saliency`` (H, W) in [0, 1] at the size of the mask.

        Raises:
            ValueError: a map that is missing or of another size than its mask.
        """
        from ..data.sod import read_mask

        for given, output in zip(inputs, outputs, strict=True):
            name = str(given["file_name"])
            if "saliency" not in output:
                raise ValueError(f"{name}: expected the output saliency, found {sorted(output)}")
            values = np.asarray(output["saliency"].cpu(), np.float64)
            grey = (values * 255).astype(np.uint8)
            mask = read_mask(given["mask_file_name"])
            if mask.shape != grey.shape:
                raise ValueError(f"{name}: expected a map of size {mask.shape}, found {grey.shape}")
            if self._output_dir is not None and self._save_maps:
                self._save(grey, Path(name).stem)
            self._records[given["image_id"]] = {
                "state": sod_state(grey, mask),
                "boundary": boundary_accuracy(grey, mask),
            }

    def _save(self, grey: np.ndarray, name: str) -> None:
        import cv2

        assert self._output_dir is not None
        folder = self._output_dir / "maps"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.png"
        if not cv2.imwrite(str(path), grey):
            raise OSError(f"{path}: cannot be written")

    def evaluate(self) -> OrderedDict[str, dict[str, float]]:
        """Gathers, averages, writes and logs.

        Returns:
            ``{"saliency": {"mae": ..., "s_measure": ..., ..., "mba": ...}}``, all in [0, 1]; empty on all
            but the main process, and without images.
        """
        records = self._gather()
        if not records:
            return OrderedDict()
        scorer, boundary = SODScorer(), BoundaryAccuracy()
        for key in sorted(records, key=lambda key: (str(type(key)), key)):
            scorer.add_state(records[key]["state"])
            boundary.add_value(records[key]["boundary"])
        values = scorer.result()
        values["mba"] = float("nan") if (mean := boundary.result()) is None else mean
        lines = "\n".join(f"  {name:12s} {value:.4f}" for name, value in values.items())
        logger.info("Saliency on %s (%d images):\n%s", self.dataset_name, len(records), lines)
        if self._output_dir is not None:
            self._output_dir.mkdir(parents=True, exist_ok=True)
            content = {"dataset": self.dataset_name, "images": len(records), "results": values}
            (self._output_dir / "sod_metrics.json").write_text(json.dumps(content, indent=1) + "\n")
        return OrderedDict(saliency=values)

    def _gather(self) -> dict[int | str, dict[str, Any]] | None:
        if not self._distributed or comm.get_world_size() == 1:
            return self._records
        comm.synchronize()
        gathered = comm.gather(self._records, dst=0)
        if not comm.is_main_process():
            return None
        return dict(itertools.chain.from_iterable(part.items() for part in gathered))
