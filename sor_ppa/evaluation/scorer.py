"""Averages of ranking metrics over a dataset, exact and mergeable over processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .image import ImageScores
from .score import Score, mean_score
from .variants import Names, VariantNames, select

Scores = dict[str, dict[str, Score]]


class RankingScorer:
    """Scores images one by one and averages every chosen variant.

    Example::

        scorer = RankingScorer(metrics=["sa_sor", "sor"], variants={"sor": ["assr@assr", "psr@area"]})
        for image in images:
            scorer.add(image.gt_masks, image.gt_ranks, image.pred_masks, image.pred_scores)
        scorer.result()["sor"]["psr@area"]["value"]
    """

    def __init__(self, metrics: Names = None, variants: VariantNames = None, *, on_map: bool = False) -> None:
        """
        Args:
            metrics, variants, on_map: as in ``variants.select``, which refuses unknown names.
        """
        self.arguments: dict[str, Any] = {"metrics": metrics, "variants": variants, "on_map": on_map}
        self.variants = select(metrics, variants, on_map=on_map)
        self._scores: list[Scores] = []

    def add(self, *arrays: Any, **options: Any) -> Scores:
        """Add an image given as arrays (see ``ImageScores.from_masks``) and return its scores."""
        return self.add_image(ImageScores.from_masks(*arrays, **options))

    def add_rles(self, *arguments: Any, **options: Any) -> Scores:
        """Add an image given as COCO run-length masks (see ``ImageScores.from_rles``)."""
        return self.add_image(ImageScores.from_rles(*arguments, **options))

    def add_map(self, *arrays: Any, **options: Any) -> Scores:
        """Add an image whose prediction is one painted map (see ``ImageScores.from_map``)."""
        return self.add_image(ImageScores.from_map(*arrays, **options))

    def add_image(self, image: ImageScores) -> Scores:
        """Add a prepared image and return ``{metric: {variant: Score}}``."""
        scores = self.score(image)
        self.add_scores(scores)
        return scores

    def score(self, image: ImageScores) -> Scores:
        """Return the scores of a prepared image without adding it."""
        return {
            metric: {name: variant.score(image) for name, variant in found.items()}
            for metric, found in self.variants.items()
        }

    def add_scores(self, scores: Scores) -> None:
        """Add an image by its scores, as ``score`` returns them."""
        self._scores.append(scores)

    def merge(self, other: RankingScorer) -> RankingScorer:
        """Add the images of another scorer and return this one; ``ValueError`` if it has other variants."""
        if self.names() != other.names():
            raise ValueError(f"merge: expected a scorer of {self.names()}, found one of {other.names()}")
        self._scores += other._scores
        return self

    def names(self) -> dict[str, list[str]]:
        """Return the variants of each metric, by the names they were asked for."""
        return {metric: list(found) for metric, found in self.variants.items()}

    def result(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Return the means as ``{metric: {variant: entry}}``, variants as they were asked for.

        An entry has the fields of ``score.mean_score`` and ``variant``, the full name.
        """
        means: dict[str, dict[str, dict[str, Any]]] = {}
        for metric, found in self.variants.items():
            for name, variant in found.items():
                mean = mean_score([Score(*scores[metric][name]) for scores in self._scores])
                means.setdefault(metric, {})[name] = {**mean, "variant": variant.name}
        return means

    def state(self) -> dict[str, Any]:
        """Return everything as plain JSON-able values, to be sent to another process."""
        return {**self.arguments, "scores": self._scores}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> RankingScorer:
        """Restore a scorer from its ``state``."""
        scorer = cls(state["metrics"], state["variants"], on_map=state["on_map"])
        scorer._scores += state["scores"]
        return scorer
