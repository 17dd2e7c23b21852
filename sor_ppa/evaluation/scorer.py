"""Averages of ranking metrics over a dataset, exact and mergeable over processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .image import ImageScores
from .score import Score, ScoreMean
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
        self._means = {
            metric: {name: ScoreMean() for name in found} for metric, found in self.variants.items()
        }

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
        for mean, score in self._pairs(scores):
            mean.add(Score(*score))

    def merge(self, other: RankingScorer) -> RankingScorer:
        """Add the images of another scorer and return this one; ``ValueError`` if it has other variants."""
        if self.names() != other.names():
            raise ValueError(f"merge: expected a scorer of {self.names()}, found one of {other.names()}")
        for mean, added in self._pairs(other._means):
            mean.merge(added)
        return self

    def _pairs(self, other: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[ScoreMean, Any]]:
        """Yield the mean of each variant with what another table has for it."""
        for metric, found in self._means.items():
            for name, mean in found.items():
                yield mean, other[metric][name]

    def names(self) -> dict[str, list[str]]:
        """Return the variants of each metric, by the names they were asked for."""
        return {metric: list(found) for metric, found in self.variants.items()}

    def result(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Return the means as ``{metric: {variant: entry}}``, variants as they were asked for.

        An entry has the fields of ``ScoreMean.result`` and ``variant``, the full name.
        """
        return {
            metric: {
                name: {**self._means[metric][name].result(), "variant": variant.name}
                for name, variant in found.items()
            }
            for metric, found in self.variants.items()
        }

    def state(self) -> dict[str, Any]:
        """Return everything as plain JSON-able values, to be sent to another process."""
        means = {
            metric: {name: mean.state() for name, mean in found.items()}
            for metric, found in self._means.items()
        }
        return {**self.arguments, "means": means}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> RankingScorer:
        """Restore a scorer from its ``state``."""
        scorer = cls(state["metrics"], state["variants"], on_map=state["on_map"])
        for metric, found in state["means"].items():
            for name, mean in found.items():
                scorer._means[metric][name] = ScoreMean.from_state(mean)
        return scorer
