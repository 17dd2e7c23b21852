"""The detectron2 evaluator of salient object ranking."""

from __future__ import annotations

import itertools
import logging
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from numpy.typing import NDArray

from .coco_ap import coco_ap
from .correlation import lowest_place_ranks
from .ground_truth import ImageTruth, Rle, by_image_id, encode_masks, truth_from_dict
from .image import ImageScores
from .report import LABELS, label, table, worst, write_json, write_per_image
from .scorer import Mean, RankingScorer
from .sod import SODScorer, sod_state
from .variants import DEFAULT_METRICS

logger = logging.getLogger(__name__)
_PERMUTATIONS = 10
_SHUFFLED = ("sa_sor", "sor")
_FIELDS = ("pred_boxes", "scores", "pred_masks")


class SOREvaluator(DatasetEvaluator):
    """Scores ranked instances: ranking metrics, COCO box and mask AP, and what shuffled ranks would give.

    Which predictions are ranked: by default those with ``pred_ranks >= 0``, in the order of
    ``pred_ranks`` (the published protocol). With ``rank_field="pred_rank_scores"`` (or any other
    float field) all detections, in the order of that field. Ground truth with a negative ``gt_rank``
    is no ranking ground truth; it does count for AP unless it is a crowd, which AP ignores.
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        output_dir: str | Path | None = None,
        distributed: bool = True,
        metrics: Sequence[str] | str = DEFAULT_METRICS,
        variants: Mapping[str, Sequence[str] | str] | Sequence[str] | str | None = None,
        iou_types: Sequence[str] = ("bbox", "segm"),
        saliency: bool = False,
        rank_field: str = "pred_ranks",
        seed: int = 0,
    ) -> None:
        """
        Args:
            dataset_name: in ``DatasetCatalog``; dicts with ``gt_rank`` in their annotations.
            output_dir: where to write ``sor_metrics.json``, ``sor_per_image.csv`` and
                ``sor_instances_results.json``; None = nowhere.
            distributed: gather from all processes; False = this process only.
            metrics, variants: as in ``RankingScorer``.
            iou_types: of "bbox" and "segm"; empty = no AP.
            saliency: also S, E, F and weighted F of the saliency map against the union of the ranked
                objects: the output's ``saliency`` (H, W) in [0, 1] where it has one, otherwise the
                painted predictions.
            rank_field: which field of the predictions orders them.
            seed: of the shuffled ranks.

        Raises:
            ValueError: unknown metric, variant or IoU type.
        """
        unknown = [kind for kind in iou_types if kind not in ("bbox", "segm")]
        if unknown:
            raise ValueError(f"iou_types: expected bbox, segm; found {unknown}")
        self.dataset_name = dataset_name
        self.iou_types = tuple(iou_types)
        self._output_dir = Path(output_dir) if output_dir else None
        self._distributed = distributed
        self._saliency = saliency
        self._rank_field = rank_field
        self._seed = seed
        self._new_scorer = lambda: RankingScorer(metrics, variants)
        self._scorer = self._new_scorer()
        self._shuffled = {
            metric: names for metric, names in self._scorer.variants.items() if metric in _SHUFFLED
        }
        self._dicts: dict[int | str, Mapping[str, Any]] = {}
        self._records: dict[int | str, dict[str, Any]] = {}

    def reset(self) -> None:
        """Forgets all images."""
        self._records = {}

    def _load(self) -> None:
        if not self._dicts:
            self._dicts = by_image_id(DatasetCatalog.get(self.dataset_name))

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> None:
        """Scores a batch.

        Args:
            inputs: dicts with ``image_id``.
            outputs: dicts with ``instances``, post-processed to the original image size: ``pred_boxes``,
                ``scores``, ``pred_masks`` ((N, H, W) bool, or ``BitMasks``), ``rank_field``, optionally
                ``mask_scores`` and ``pred_rank_scores``.

        Raises:
            ValueError: an image that the data set does not have, or a missing field.
        """
        self._load()
        for given, output in zip(inputs, outputs, strict=True):
            image_id = given["image_id"]
            if image_id not in self._dicts:
                raise ValueError(
                    f"image_id: expected one of data set {self.dataset_name!r}, found {image_id!r}"
                )
            truth = truth_from_dict(self._dicts[image_id])
            self._records[image_id] = self._score(truth, output)

    def _score(self, truth: ImageTruth, output: Mapping[str, Any]) -> dict[str, Any]:
        instances = output["instances"].to("cpu")
        missing = [name for name in (*_FIELDS, self._rank_field) if not instances.has(name)]
        if missing:
            given = ", ".join(instances.get_fields()) or "no fields"
            raise ValueError(
                f"{truth.name}: expected predictions with the field {missing[0]!r}, found {given}"
            )
        given_masks = instances.pred_masks
        masks = np.asarray(getattr(given_masks, "tensor", given_masks), dtype=np.bool_)
        if masks.shape[1:] != truth.size and len(masks):
            raise ValueError(
                f"{truth.name}: expected predicted masks of size {truth.size}, found {masks.shape[1:]}"
            )
        rles = encode_masks(masks)
        order = np.asarray(instances.get(self._rank_field), dtype=np.float64)
        ranked = np.flatnonzero(order >= 0) if self._rank_field == "pred_ranks" else np.arange(len(order))
        image = ImageScores.from_rles(
            truth.ranked_rles,
            truth.dense_ranks,
            [rles[index] for index in ranked],
            order[ranked],
            truth.size,
            np.asarray(instances.scores, dtype=np.float64)[ranked],
        )
        return {
            "image_id": truth.image_id,
            "name": truth.name,
            "n_gt": image.n_gt,
            "n_pred": image.n_pred,
            "scores": self._scorer.score(image),
            "shuffled": self._shuffle(image, truth.image_id),
            "detections": self._detections(instances, rles, order, ranked),
            "sod": self._sod(image, output) if self._saliency else None,
        }

    def _shuffle(self, image: ImageScores, image_id: int | str) -> list[dict[str, Any]]:
        generator = np.random.default_rng([self._seed, zlib.crc32(str(image_id).encode())])
        results = []
        for _ in range(_PERMUTATIONS):
            other = image.with_scores(generator.permutation(image.scores))
            results.append(
                {
                    metric: {name: variant.score(other) for name, variant in names.items()}
                    for metric, names in self._shuffled.items()
                }
            )
        return results

    @staticmethod
    def _sod(image: ImageScores, output: Mapping[str, Any]) -> dict[str, Any]:
        given = output.get("saliency")
        grey = image.saliency_map("assr") if given is None else np.asarray(given.cpu(), np.float64)
        return sod_state(grey, image.regions.image(image.gt_union))

    def _detections(
        self, instances: Any, rles: list[Rle], order: NDArray[np.float64], ranked: NDArray[np.int64]
    ) -> list[dict[str, Any]]:
        if not self.iou_types and self._output_dir is None:
            return []
        boxes = np.asarray(instances.pred_boxes.tensor, dtype=np.float64).copy()
        boxes[:, 2:] -= boxes[:, :2]
        rank = np.zeros(len(order), np.int64)
        rank[ranked] = lowest_place_ranks(-order[ranked])
        by_score = instances.has("pred_rank_scores")
        rank_scores = np.asarray(instances.pred_rank_scores if by_score else order, dtype=np.float64)
        scores = np.asarray(instances.scores, dtype=np.float64)
        mask_scores = (
            np.asarray(instances.mask_scores, dtype=np.float64) if instances.has("mask_scores") else None
        )
        found = []
        for index, rle in enumerate(rles):
            detection = {
                "bbox": boxes[index].tolist(),
                "score": float(scores[index]),
                "segmentation": rle,
                "rank": int(rank[index]) or None,
                "rank_score": float(rank_scores[index]),
            }
            if mask_scores is not None:
                detection["mask_score"] = float(mask_scores[index])
            found.append(detection)
        return found

    def evaluate(self) -> OrderedDict[str, dict[str, float]]:
        """Gathers, averages, writes and logs.

        Returns:
            ``{"sor": {"SA-SOR": ..., "SOR": ..., "SOR-images": ..., "MAE": ..., "SA-SOR-shuffled": ...,
            ...}, "bbox": {"AP": ...}, "segm": {...}}``; ranking metrics in their own units, AP in
            percent; empty on all but the main process.
        """
        records = self._gather()
        if records is None:
            return OrderedDict()
        self._load()
        rows = [records[key] for key in sorted(records, key=lambda key: (str(type(key)), key))]
        if not rows:
            logger.warning("data set %s: no image was evaluated", self.dataset_name)
        elif len(rows) < len(self._dicts):
            logger.warning(
                "data set %s: only %d of %d images were evaluated",
                self.dataset_name,
                len(rows),
                len(self._dicts),
            )
        scorer = self._new_scorer()
        shuffled = {metric: {name: Mean() for name in names} for metric, names in self._shuffled.items()}
        sod = SODScorer()
        for row in rows:
            scorer.add_scores(row["scores"])
            for permuted in row["shuffled"]:
                for metric, means in shuffled.items():
                    for name, mean in means.items():
                        mean.add(permuted[metric][name])
            if row["sod"] is not None:
                sod.add_state(row["sod"])
        ranking = _flat(scorer, shuffled)
        results: OrderedDict[str, dict[str, float]] = OrderedDict(sor=ranking)
        truths = [truth_from_dict(self._dicts[row["image_id"]]) for row in rows] if self.iou_types else []
        detections = {row["image_id"]: row["detections"] for row in rows}
        for iou_type in self.iou_types:
            results[iou_type] = coco_ap(truths, detections, iou_type)
        if self._saliency:
            results["saliency"] = sod.result()
        self._log(scorer, ranking, rows)
        if self._output_dir is not None:
            self._write(results, scorer, shuffled, rows)
        return results

    def _gather(self) -> dict[int | str, dict[str, Any]] | None:
        """Records of all processes by image, on the main process; an image that came twice counts once."""
        if not self._distributed or comm.get_world_size() == 1:
            return self._records
        comm.synchronize()
        gathered = comm.gather(self._records, dst=0)
        if not comm.is_main_process():
            return None
        return dict(itertools.chain.from_iterable(part.items() for part in gathered))

    def _log(self, scorer: RankingScorer, ranking: Mapping[str, float], rows: list[dict[str, Any]]) -> None:
        logger.info("Ranking results on %s:\n%s", self.dataset_name, table(scorer.result()))
        chance = ", ".join(
            f"{name} {value:.4f}" for name, value in ranking.items() if name.endswith("-shuffled")
        )
        if chance:
            logger.info("The same predictions with ranks shuffled (%d times): %s", _PERMUTATIONS, chance)
        for metric, names in scorer.names().items():
            found = worst(rows, metric, names[0])
            if found:
                lines = "\n".join(f"  {value:9.4f}  {name}" for name, value in found)
                logger.info("Worst images by %s (%s):\n%s", LABELS[metric], names[0], lines)

    def _write(
        self,
        results: Mapping[str, Any],
        scorer: RankingScorer,
        shuffled: Mapping[str, Mapping[str, Mean]],
        rows: list[dict[str, Any]],
    ) -> None:
        assert self._output_dir is not None
        self._output_dir.mkdir(parents=True, exist_ok=True)
        details = {
            "dataset": self.dataset_name,
            "images": len(rows),
            "rank_field": self._rank_field,
            "results": results,
            "variants": scorer.result(),
            "shuffled": {
                metric: {name: mean.result() for name, mean in means.items()}
                for metric, means in shuffled.items()
            },
        }
        write_json(self._output_dir / "sor_metrics.json", details)
        write_per_image(self._output_dir / "sor_per_image.csv", rows)
        predictions = [
            {"image_id": row["image_id"], "category_id": 0, **detection}
            for row in rows
            for detection in row["detections"]
        ]
        write_json(self._output_dir / "sor_instances_results.json", predictions, indent=None)
        logger.info("Results written to %s", self._output_dir)


def _flat(scorer: RankingScorer, shuffled: Mapping[str, Mapping[str, Mean]]) -> dict[str, float]:
    values: dict[str, float] = {}
    for metric, entries in scorer.result().items():
        for name, entry in entries.items():
            key = label(scorer.variants[metric][name])
            values[key] = _number(entry["value"])
            if metric == "sor":
                values[f"{key}-images"] = float(entry["counted"] + entry["nan_as_0"])
    for metric, means in shuffled.items():
        for name, mean in means.items():
            values[f"{label(scorer.variants[metric][name])}-shuffled"] = _number(mean.value)
    return values


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
