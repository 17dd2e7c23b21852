"""Averages over a data set: exact, mergeable over processes, in memory independent of its size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from numpy.typing import ArrayLike

from .image import ImageScores
from .score import Score
from .variants import Variant, select

_SCALE = 1074  # every double is an integer multiple of 2**-1074
Scores = dict[str, dict[str, Score]]


class Mean:
    """Mean of scores.

    The sum is an integer count of 2**-1074, so it is exact, and neither the order of the images nor
    the number of processes can change a bit of the result.
    """

    __slots__ = ("counted", "nan_as_0", "reasons", "skipped", "total")

    def __init__(self) -> None:
        self.total = 0
        self.counted = 0
        self.skipped = 0
        self.nan_as_0 = 0
        self.reasons: Counter[str] = Counter()

    def add(self, score: Score) -> None:
        """Adds one image."""
        if score.status == "counted":
            assert score.value is not None
            numerator, denominator = float(score.value).as_integer_ratio()
            self.total += numerator << (_SCALE - denominator.bit_length() + 1)
            self.counted += 1
            return
        if score.status == "skipped":
            self.skipped += 1
        else:
            self.nan_as_0 += 1
        self.reasons[score.reason] += 1

    def merge(self, other: Mean) -> None:
        """Adds the images of another mean."""
        self.total += other.total
        self.counted += other.counted
        self.skipped += other.skipped
        self.nan_as_0 += other.nan_as_0
        self.reasons += other.reasons

    @property
    def value(self) -> float | None:
        """The mean over counted and nan_as_0 images; None without any."""
        count = self.counted + self.nan_as_0
        return float(Fraction(self.total, count << _SCALE)) if count else None

    def result(self) -> dict[str, Any]:
        """``value``, ``counted``, ``skipped``, ``nan_as_0``, ``images`` and ``reasons`` {why: how many}."""
        return {
            "value": self.value,
            "counted": self.counted,
            "skipped": self.skipped,
            "nan_as_0": self.nan_as_0,
            "images": self.counted + self.skipped + self.nan_as_0,
            "reasons": dict(sorted(self.reasons.items())),
        }

    def state(self) -> dict[str, Any]:
        """Plain numbers from which ``from_state`` restores this mean exactly."""
        return {
            "total": str(self.total),
            "counted": self.counted,
            "skipped": self.skipped,
            "nan_as_0": self.nan_as_0,
            "reasons": dict(self.reasons),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Mean:
        """The inverse of ``state``."""
        mean = cls()
        mean.total = int(state["total"])
        mean.counted, mean.skipped, mean.nan_as_0 = state["counted"], state["skipped"], state["nan_as_0"]
        mean.reasons = Counter(state["reasons"])
        return mean


class RankingScorer:
    """Scores images one by one and averages every chosen variant.

    Example::

        scorer = RankingScorer(metrics=["sa_sor", "sor"], variants={"sor": ["assr@assr", "psr@area"]})
        for image in images:
            scorer.add(image.gt_masks, image.gt_ranks, image.pred_masks, image.pred_scores)
        scorer.result()["sor"]["psr@area"]["value"]
    """

    def __init__(
        self,
        metrics: Sequence[str] | str | None = None,
        variants: Mapping[str, Sequence[str] | str] | Sequence[str] | str | None = None,
        *,
        on_map: bool = False,
    ) -> None:
        """
        Args:
            metrics: of "sa_sor", "sor", "mae", "f_measure", "iou", "ndcg" (also "metric:variant");
                None = the first three, or the keys of ``variants``; "all" = all.
            variants: None = each metric's default; "all" = every published one; a mapping from metric
                to names; or a list of names, each used by all the metrics that know it.
            on_map: predictions are painted maps (``add_map``), a bare name means the given map.

        Raises:
            ValueError: unknown names; the message lists the known ones.
        """
        self._arguments = (metrics, variants, on_map)
        self.variants: dict[str, dict[str, Variant]] = select(metrics, variants, on_map=on_map)
        self._means = {metric: {name: Mean() for name in found} for metric, found in self.variants.items()}

    def add(
        self,
        gt_masks: ArrayLike,
        gt_ranks: ArrayLike,
        pred_masks: ArrayLike,
        pred_scores: ArrayLike,
        *,
        pred_confidences: ArrayLike | None = None,
    ) -> Scores:
        """Adds an image given as arrays (see ``ImageScores.from_masks``) and returns its scores."""
        return self.add_image(
            ImageScores.from_masks(gt_masks, gt_ranks, pred_masks, pred_scores, pred_confidences)
        )

    def add_rles(
        self,
        gt_rles: Sequence[dict[str, Any]],
        gt_ranks: ArrayLike,
        pred_rles: Sequence[dict[str, Any]],
        pred_scores: ArrayLike,
        size: tuple[int, int],
        *,
        pred_confidences: ArrayLike | None = None,
    ) -> Scores:
        """Adds an image given as COCO run-length masks, measured without decoding them; exact.

        Args:
            gt_rles, pred_rles: dicts with ``size`` and ``counts``.
            size: (height, width).
            gt_ranks, pred_scores, pred_confidences: as in ``add``.
        """
        return self.add_image(
            ImageScores.from_rles(gt_rles, gt_ranks, pred_rles, pred_scores, size, pred_confidences)
        )

    def add_map(self, gt_masks: ArrayLike, gt_ranks: ArrayLike, saliency_map: ArrayLike) -> Scores:
        """Adds an image whose prediction is one painted map, (H, W) uint8."""
        return self.add_image(ImageScores.from_map(gt_masks, gt_ranks, saliency_map))

    def add_image(self, image: ImageScores) -> Scores:
        """Adds a prepared image and returns ``{metric: {variant: Score}}``."""
        scores = self.score(image)
        self.add_scores(scores)
        return scores

    def score(self, image: ImageScores) -> Scores:
        """The scores of a prepared image, which is not added."""
        return {
            metric: {name: variant.score(image) for name, variant in found.items()}
            for metric, found in self.variants.items()
        }

    def add_scores(self, scores: Scores) -> None:
        """Adds an image by its scores, as ``score`` returns them."""
        for metric, means in self._means.items():
            for name, mean in means.items():
                mean.add(Score(*scores[metric][name]))

    def merge(self, other: RankingScorer) -> RankingScorer:
        """Adds the images of another scorer with the same variants; returns this one.

        Raises:
            ValueError: the other scorer computes other variants.
        """
        if self.names() != other.names():
            raise ValueError(f"merge: expected a scorer of {self.names()}, found one of {other.names()}")
        for metric, means in self._means.items():
            for name, mean in means.items():
                mean.merge(other._means[metric][name])
        return self

    def names(self) -> dict[str, list[str]]:
        """The variants of each metric, by the names they were asked for."""
        return {metric: list(found) for metric, found in self.variants.items()}

    def result(self) -> dict[str, dict[str, dict[str, Any]]]:
        """The means.

        Returns:
            ``{metric: {variant: entry}}``, the variant under the name it was asked for; an entry has
            ``value`` (None without images), ``counted``, ``skipped``, ``nan_as_0``, ``images``,
            ``reasons`` {why not counted: how many} and ``variant``, the full name.
        """
        return {
            metric: {
                name: {**mean.result(), "variant": self.variants[metric][name].name}
                for name, mean in means.items()
            }
            for metric, means in self._means.items()
        }

    def state(self) -> dict[str, Any]:
        """Everything as plain JSON-able values, to be sent to another process."""
        metrics, variants, on_map = self._arguments
        return {
            "metrics": metrics,
            "variants": variants,
            "on_map": on_map,
            "means": {
                metric: {name: mean.state() for name, mean in means.items()}
                for metric, means in self._means.items()
            },
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> RankingScorer:
        """The inverse of ``state``."""
        scorer = cls(state["metrics"], state["variants"], on_map=state["on_map"])
        scorer._means = {
            metric: {name: Mean.from_state(mean) for name, mean in means.items()}
            for metric, means in state["means"].items()
        }
        return scorer
