"""The detectron2 evaluator of salient object detection."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.evaluation import DatasetEvaluator

from ..data.export import write_png
from ..data.sod import read_mask
from .checks import Identity, expect
from .evaluator import gather_records
from .report import write_json
from .sod import SODScorer, State, sod_state

logger = logging.getLogger(__name__)


class SODEvaluator(DatasetEvaluator):
    """Scores saliency maps against masks by the measures of ``sod``.

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
        self._states: dict[Identity, State] = {}

    def reset(self) -> None:
        """Forget all images."""
        self._states = {}

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> None:
        """Score a batch.

        Args:
            inputs: dicts with ``image_id``, ``file_name`` and ``mask_file_name``.
            outputs: dicts with ``saliency`` (H, W) in [0, 1] at the size of the mask.

        Raises:
            ValueError: a map that is missing or of another size than its mask.
        """
        for given, output in zip(inputs, outputs, strict=True):
            name = str(given["file_name"])
            expect("saliency" in output, name, "the output saliency", sorted(output))
            values = np.asarray(output["saliency"].cpu(), np.float64)
            gray = (values * 255).astype(np.uint8)
            mask = read_mask(given["mask_file_name"])
            expect(mask.shape == gray.shape, name, f"a map of size {mask.shape}", gray.shape)
            if self._output_dir is not None and self._save_maps:
                write_png(self._output_dir / "maps" / f"{Path(name).stem}.png", gray)
            self._states[given["image_id"]] = sod_state(gray, mask)

    def evaluate(self) -> OrderedDict[str, dict[str, float]]:
        """Gather, average, write and log.

        Returns:
            ``{"saliency": {"mae": ..., "s_measure": ..., ..., "mba": ...}}``, all in [0, 1]; empty on all
            but the main process, and without images.
        """
        states = gather_records(self._states, self._distributed)
        if not states:
            return OrderedDict()
        scorer = SODScorer()
        for state in states:
            scorer.add_state(state)
        values = scorer.result()
        lines = "\n".join(f"  {name:12s} {value:.4f}" for name, value in values.items())
        logger.info("Saliency on %s (%d images):\n%s", self.dataset_name, len(states), lines)
        if self._output_dir is not None:
            self._output_dir.mkdir(parents=True, exist_ok=True)
            content = {"dataset": self.dataset_name, "images": len(states), "results": values}
            write_json(self._output_dir / "sod_metrics.json", content)
        return OrderedDict(saliency=values)
