"""The detectron2 evaluators of salient object ranking and salient object detection."""

from __future__ import annotations

import itertools
import logging
import math
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from numpy.typing import NDArray

from ..data.export import write_png
from ..data.sod import read_mask
from ..visualization.rank_maps import PAINTERS, lowest_place_ranks, paint
from .checks import Identity, expect
from .coco_ap import CocoAP
from .definitions import METRICS
from .ground_truth import ImageTruth, by_image_id, truth_from_dict
from .group import Group
from .image import ImageScores
from .pictures import draw_beside_truth, score_line, worst_by
from .report import label, table, worst_rows, write_nullable_json, write_per_image
from .scorer import RankingScorer, Scores
from .segmentations import Rle, encode_masks
from .sod import SODScorer, State, sod_state
from .variants import DEFAULT_METRICS, VariantNames

logger = logging.getLogger(__name__)
_PERMUTATIONS = 10
_FIELDS = ("pred_boxes", "scores", "pred_masks")


class SOREvaluator(DatasetEvaluator):
    """Scores ranked instances: ranking metrics, COCO box and mask AP, and the level of shuffled ranks.

    By default the predictions with ``pred_ranks >= 0`` are ranked, in that order (the published protocol).
    With another ``rank_field`` all detections are ranked, in the order of that field. Ground truth with a
    negative ``gt_rank`` is not ranked; it counts for AP unless it is a crowd, which AP ignores.
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        output_dir: str | Path | None = None,
        distributed: bool = True,
        metrics: Sequence[str] | str = DEFAULT_METRICS,
        variants: VariantNames = None,
        iou_types: Sequence[str] = ("bbox", "segm"),
        saliency: bool = False,
        rank_field: str = "pred_ranks",
        rank_maps: str = "",
        pictures: int = 0,
        seed: int = 0,
    ) -> None:
        """
        Args:
            dataset_name: in ``DatasetCatalog``; its dicts have ``gt_rank`` in their annotations.
            output_dir: where to write ``sor_metrics.json``, ``sor_per_image.csv`` and
                ``sor_instances_results.json``; None = nowhere.
            distributed: gather from all processes; False = this process only.
            metrics, variants: as in ``variants.select``.
            iou_types: of "bbox" and "segm"; empty = no AP.
            saliency: also score the output's ``saliency`` (H, W) in [0, 1], or else the painted predictions,
                against the union of the ranked objects by the measures of ``sod``.
            rank_field: field that orders the predictions, such as "pred_rank_scores".
            rank_maps: painter of ``visualization.rank_maps`` by which the predictions are written as
                ``output_dir/rank_maps/NAME.png``; "" = none.
            pictures: put this many of the worst images, with truth and prediction, into detectron2's event
                storage, which writes TensorBoard's files; only inside a training.
            seed: of the shuffled ranks.

        Raises:
            ValueError: unknown metric, variant or IoU type.
        """
        expect({"bbox", "segm"}.issuperset(iou_types), "iou_types", "bbox, segm", iou_types)
        self.dataset_name = dataset_name
        self.iou_types = tuple(iou_types)
        self._output_dir = Path(output_dir) if output_dir else None
        self._distributed = distributed
        self._saliency = saliency
        self._rank_field = rank_field
        self._pictures = pictures
        self._painter = rank_maps if output_dir else ""
        self._seed = seed
        self._scorer = RankingScorer(metrics, variants)
        shuffled = [
            f"{metric}:{name}"
            for metric in ("sa_sor", "sor")
            for name, variant in self._scorer.variants.get(metric, {}).items()
            if variant.painter != "ppa"  # slow to draw
        ]
        self._shuffled = RankingScorer(shuffled)
        self._records: dict[Identity, dict[str, Any]] = {}

    def reset(self) -> None:
        """Forget all images."""
        self._records = {}

    @cached_property
    def _dicts(self) -> dict[Identity, Mapping[str, Any]]:
        return by_image_id(DatasetCatalog.get(self.dataset_name))

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> None:
        """Score a batch.

        Args:
            inputs: dicts with ``image_id``.
            outputs: dicts with ``instances``, post-processed to the original image size: ``pred_boxes``,
                ``scores``, ``pred_masks`` ((N, H, W) bool, or ``BitMasks``), ``rank_field``, optionally
                ``mask_scores`` and ``pred_rank_scores``.

        Raises:
            ValueError: an image that the dataset does not have, or a missing field.
        """
        for given, output in zip(inputs, outputs, strict=True):
            image_id = given["image_id"]
            wanted = f"one of dataset {self.dataset_name!r}"
            expect(image_id in self._dicts, "image_id", wanted, repr(image_id))
            self._records[image_id] = self._score(truth_from_dict(self._dicts[image_id]), output)

    def _score(self, truth: ImageTruth, output: Mapping[str, Any]) -> dict[str, Any]:
        instances = output["instances"].to("cpu")
        for name in (*_FIELDS, self._rank_field):
            given = ", ".join(instances.get_fields()) or "no fields"
            expect(instances.has(name), truth.name, f"predictions with the field {name!r}", given)
        masks = np.asarray(getattr(instances.pred_masks, "tensor", instances.pred_masks), dtype=np.bool_)
        fits = masks.shape[1:] == truth.size or not len(masks)
        expect(fits, truth.name, f"predicted masks of size {truth.size}", masks.shape[1:])
        rles = encode_masks(masks)
        order = np.asarray(instances.get(self._rank_field), dtype=np.float64)
        ranked = np.flatnonzero(order >= 0) if self._rank_field == "pred_ranks" else np.arange(len(order))
        confidences = np.asarray(instances.scores, dtype=np.float64)[ranked]
        gt, found = (truth.ranked_rles, truth.dense_ranks), [rles[index] for index in ranked]
        image = ImageScores.from_rles(*gt, found, order[ranked], truth.size, confidences)
        image.gt_labels = truth.ranks[truth.ranks >= 0]
        if instances.has("pred_ranks"):
            image.labels = np.asarray(instances.pred_ranks)[ranked]
        if self._painter:
            labels = image.labels if PAINTERS[self._painter].outlined else None
            gray = paint(masks[ranked], image.scores if labels is None else labels, self._painter)
            write_png(Path(self._output_dir or "") / "rank_maps" / f"{Path(truth.name).stem}.png", gray)
        return {
            "image_id": truth.image_id,
            "name": truth.name,
            "n_gt": image.n_gt,
            "n_pred": image.n_pred,
            "scores": self._scorer.score(image),
            "shuffled": self._shuffle(image, truth.image_id),
            "detections": self._detections(instances, rles, order, ranked),
            "sod": self._saliency_state(image, output) if self._saliency else None,
        }

    def _shuffle(self, image: ImageScores, image_id: Identity) -> list[Scores]:
        """Return the scores under permuted ranks, the same permutations in every run."""
        generator = np.random.default_rng([self._seed, zlib.crc32(str(image_id).encode())])
        images = [image.with_scores(generator.permutation(image.scores)) for _ in range(_PERMUTATIONS)]
        Group(images)
        return [self._shuffled.score(other) for other in images]

    @staticmethod
    def _saliency_state(image: ImageScores, output: Mapping[str, Any]) -> State:
        given = output.get("saliency")
        gray = image.saliency_map("assr") if given is None else np.asarray(given.cpu(), np.float64)
        return sod_state(gray, image.regions.image(image.gt_union))

    def _detections(
        self, instances: Any, rles: list[Rle], order: NDArray[np.float64], ranked: NDArray[np.int64]
    ) -> list[dict[str, Any]]:
        """Return the detections as COCO results with ranks, of which 1 is the most salient."""
        if not self.iou_types and self._output_dir is None and not self._pictures:
            return []
        boxes = np.asarray(instances.pred_boxes.tensor, dtype=np.float64).copy()
        boxes[:, 2:] -= boxes[:, :2]
        labels = instances.pred_ranks.tolist() if instances.has("pred_ranks") else [None] * len(order)
        rank = np.zeros(len(order), np.int64)
        rank[ranked] = lowest_place_ranks(-order[ranked])
        columns: dict[str, list[Any]] = {
            "bbox": boxes.tolist(),
            "segmentation": rles,
            "rank": [place or None for place in rank.tolist()],
            "rank_label": labels,
            "score": instances.scores.double().tolist(),
            "rank_score": order.tolist(),
        }
        if instances.has("pred_rank_scores"):
            columns["rank_score"] = instances.pred_rank_scores.double().tolist()
        for column, field in (
            ("mask_score", "mask_scores"),
            ("expected_rank", "pred_expected_rank"),
            ("first_probability", "pred_first_probability"),
        ):
            if instances.has(field):
                columns[column] = instances.get(field).double().tolist()
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]

    def evaluate(self) -> OrderedDict[str, dict[str, float]]:
        """Gather, average, write and log.

        Returns:
            ``{"sor": {"SA-SOR": ..., "SOR": ..., "SOR-images": ..., "MAE": ..., "SA-SOR-shuffled": ...,
            ...}, "bbox": {"AP": ...}, "segm": {...}}``, AP in percent; empty on all but the main process.
        """
        rows = gather_records(self._records, self._distributed)
        if rows is None:
            return OrderedDict()
        if len(rows) < len(self._dicts):
            found = len(rows), len(self._dicts)
            logger.warning("dataset %s: only %d of %d images were evaluated", self.dataset_name, *found)
        scorer, shuffled = (RankingScorer(**part.arguments) for part in (self._scorer, self._shuffled))
        sod = SODScorer()
        for row in rows:
            scorer.add_scores(row["scores"])
            for permuted in row["shuffled"]:
                shuffled.add_scores(permuted)
            if row["sod"] is not None:
                sod.states.append(row["sod"])
        ranking = _flat(scorer, shuffled)
        results: OrderedDict[str, dict[str, float]] = OrderedDict(sor=ranking)
        if self.iou_types:
            average_precision = CocoAP([truth_from_dict(self._dicts[row["image_id"]]) for row in rows])
            detections = {row["image_id"]: row["detections"] for row in rows}
            results |= {kind: average_precision(detections, kind) for kind in self.iou_types}
        if self._saliency:
            results["saliency"] = sod.result()
        self._log(scorer, ranking, rows)
        if self._pictures:
            self._show(worst_by(rows, self._pictures))
        if self._output_dir is not None:
            run = {"dataset": self.dataset_name, "images": len(rows), "rank_field": self._rank_field}
            values = {"results": results, "variants": scorer.result(), "shuffled": shuffled.result()}
            self._write(self._output_dir, run | values, rows)
        return results

    def _log(self, scorer: RankingScorer, ranking: Mapping[str, float], rows: list[dict[str, Any]]) -> None:
        logger.info("Ranking results on %s:\n%s", self.dataset_name, table(scorer.result()))
        chance = [f"{name} {value:.4f}" for name, value in ranking.items() if name.endswith("-shuffled")]
        if chance:
            text = "The same predictions with ranks shuffled (%d times): %s"
            logger.info(text, _PERMUTATIONS, ", ".join(chance))
        for metric, names in scorer.names().items():
            found = worst_rows(rows, metric, names[0])
            if found:
                values = ((row["scores"][metric][names[0]].value, row["name"]) for row in found)
                lines = "\n".join(f"  {value:9.4f}  {name}" for value, name in values)
                logger.info("Worst images by %s (%s):\n%s", METRICS[metric].label, names[0], lines)

    def _show(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Put pictures of images into detectron2's event storage."""
        for number, row in enumerate(rows, start=1):
            found = [item for item in row["detections"] if item["rank"]]
            rles, confidences = ([item[key] for item in found] for key in ("segmentation", "score"))
            ranked = rles, [-item["rank"] for item in found], confidences
            picture = draw_beside_truth(self._dicts[row["image_id"]], ranked, score_line(row))
            name = f"{self.dataset_name}/worst {number}"
            get_event_storage().put_image(name, picture.transpose(2, 0, 1))

    @staticmethod
    def _write(folder: Path, details: Mapping[str, Any], rows: list[dict[str, Any]]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        write_nullable_json(folder / "sor_metrics.json", details)
        write_per_image(folder / "sor_per_image.csv", rows)
        predictions = [
            {"image_id": row["image_id"], "category_id": 0, **detection}
            for row in rows
            for detection in row["detections"]
        ]
        write_nullable_json(folder / "sor_instances_results.json", predictions, indent=None)
        logger.info("Results written to %s", folder)


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
            ``{"saliency": {measure: number in [0, 1]}}``; empty without images and on other processes.
        """
        states = gather_records(self._states, self._distributed)
        if not states:
            return OrderedDict()
        scorer = SODScorer()
        scorer.states += states
        values = scorer.result()
        lines = "\n".join(f"  {name:12} {value:.4f}" for name, value in values.items())
        logger.info("Saliency on %s (%d images):\n%s", self.dataset_name, len(states), lines)
        if self._output_dir is not None:
            self._output_dir.mkdir(parents=True, exist_ok=True)
            content = {"dataset": self.dataset_name, "images": len(states), "results": values}
            write_nullable_json(self._output_dir / "sod_metrics.json", content)
        return OrderedDict(saliency=values)


def gather_records(records: Mapping[Identity, Any], distributed: bool) -> list[Any] | None:
    """Return the records (by image id) of all processes in the order of ids; None beside the main process."""
    if distributed and comm.get_world_size() > 1:
        comm.synchronize()
        gathered = comm.gather(records, dst=0)
        if not comm.is_main_process():
            return None
        records = dict(itertools.chain.from_iterable(part.items() for part in gathered))
    return [records[key] for key in sorted(records, key=lambda key: (str(type(key)), key))]


def _flat(scorer: RankingScorer, shuffled: RankingScorer) -> dict[str, float]:
    """Return the means as one flat dict, under the names that detectron2 prints."""
    values: dict[str, float] = {}
    for suffix, part in (("", scorer), ("-shuffled", shuffled)):
        for metric, entries in part.result().items():
            for name, entry in entries.items():
                key = label(part.variants[metric][name])
                values[key + suffix] = math.nan if entry["value"] is None else entry["value"]
                if metric == "sor" and not suffix:
                    values[f"{key}-images"] = float(entry["counted"] + entry["nan_as_0"])
    return values
