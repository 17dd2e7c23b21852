"""Metrics by name: a variant is a rule (``"irsr"``), or a rule on a painted map (``"assr@qagnet10"``).

The bare name of a rule on maps means its first painter: ``"psr"`` is ``"psr@area"``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..visualization.rank_maps import PAINTERS
from .definitions import METRICS, RULES, MetricRule
from .image import ImageScores
from .score import Score

Names = Sequence[str] | str | None
VariantNames = Mapping[str, Sequence[str] | str] | Sequence[str] | str | None

MAP_PAINTERS = {
    "map": "the given map; ground truth is painted as `gt10` where it is needed",
    "map_n": "the given map; ground truth is painted as `gtn` where it is needed",
}
DEFAULTS: dict[str, str] = {name: metric.default for name, metric in METRICS.items()}
DEFAULT_METRICS = ("sa_sor", "sor", "mae")
PUBLISHED: dict[str, tuple[str, ...]] = {
    metric: tuple(
        name
        for rule in rules.values()
        for name in [f"{rule.name}@{m}" for m in rule.maps] or [rule.name]
        if not name.endswith("@ppa")
    )
    for metric, rules in RULES.items()
}
"""The combinations that published code uses or that the reference numbers compare; others work as well. The
map ``ppa`` has to be asked for, since it needs labels."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A rule of a metric with its painter, "" for a rule on instances."""

    metric: str
    rule: MetricRule
    painter: str

    @property
    def name(self) -> str:
        """The full name, for example ``"psr@area"``."""
        return f"{self.rule.name}@{self.painter}" if self.painter else self.rule.name

    @property
    def text(self) -> str:
        """The rule in full, its painter included."""
        rule, text = self.rule, self.rule.summary
        while rule.like:
            rule = RULES[self.metric][rule.like]
            text += f" `{rule.name}`: {rule.summary}"
        if not self.painter:
            return text
        return f"{text} Map: {MAP_PAINTERS.get(self.painter) or PAINTERS[self.painter].rule}"

    def score(self, image: ImageScores) -> Score:
        """Return the metric of one image.

        Raises:
            ValueError: it needs instances and the image has a map, or the other way round.
        """
        if image.is_map != (self.painter in MAP_PAINTERS):
            kind = "a painted map" if image.is_map else "instances"
            raise ValueError(f"{self.metric}: variant {self.name!r} is not defined on {kind}")
        if self.painter in PAINTERS and PAINTERS[self.painter].outlined:
            return self.rule.score(image.as_map(self.painter), "map")
        return self.rule.score(image, self.painter)


def find_variant(metric: str, name: str, *, on_map: bool = False) -> Variant:
    """Return a variant by name: a rule, or rule@painter.

    Args:
        metric: one of ``RULES``.
        name: of the variant.
        on_map: a bare name means the given map (``@map``) instead of the rule's own painter.

    Raises:
        ValueError: unknown metric or variant; the message lists the known ones.
    """
    _check_metric(metric)
    base, at, painter = str(name).partition("@")
    rule = RULES[metric].get(base)
    painters = [*(name for name, how in PAINTERS.items() if not how.of_gt), *MAP_PAINTERS]
    if rule is None or (at and (not rule.maps or painter not in painters)):
        raise ValueError(
            f"variant: expected for {metric} one of {', '.join(PUBLISHED[metric])}"
            f" (rules on maps also @ {', '.join(painters)}); found {name!r}"
        )
    if rule.maps and not at:
        painter = "map" if on_map else rule.maps[0]
    return Variant(metric, rule, painter)


def describe(metric: str, variant: str | None = None) -> str:
    """Return the rule of a variant (None = the default of the metric) in full, and its source.

    Raises:
        ValueError: unknown names.
    """
    found = find_variant(metric, variant or DEFAULTS.get(metric, ""))
    return f"{metric} {found.name}: {found.text} Source: {found.rule.source}."


def select(
    metrics: Names = None, variants: VariantNames = None, *, on_map: bool = False
) -> dict[str, dict[str, Variant]]:
    """Return the variants to compute: ``{metric: {name as asked for: Variant}}``.

    Args:
        metrics: names of metrics, or ``"metric:variant"``; None = the three defaults (on maps SOR and MAE),
            "all" = all.
        variants: None = the default of each metric, "all" = every published one; a mapping from metric to
            names; or a list of names, each for all the chosen metrics that know it, or ``"metric:variant"``.
        on_map: for painted maps.

    Raises:
        ValueError: unknown names, or a metric that is not defined on maps.
    """
    if metrics is None:
        usual = DEFAULT_METRICS[1:] if on_map else DEFAULT_METRICS
        metrics = list(variants) if isinstance(variants, Mapping) else usual
    defined = [metric for metric in RULES if not on_map or _rules_on_maps(metric)]
    entries = [name for entry in _listed(metrics) for name in (defined if entry == "all" else [entry])]
    chosen = dict.fromkeys(entry.partition(":")[0] for entry in entries)
    for metric in chosen:
        _check_metric(metric, on_map=on_map)
    if isinstance(variants, Mapping):
        entries += [f"{metric}:{name}" for metric, given in variants.items() for name in _listed(given)]
    elif variants != "all":
        for name in _listed(variants or []):
            entries += [name] if ":" in name else _for_metrics(name, chosen)
    names: dict[str, list[str]] = {}
    for entry in entries:
        metric, _, name = entry.partition(":")
        _check_metric(metric, on_map=on_map)
        names.setdefault(metric, []).extend([name] if name else [])
    return {
        metric: {
            name: find_variant(metric, name, on_map=on_map)
            for name in found or _default_names(metric, every=variants == "all", on_map=on_map)
        }
        for metric, found in names.items()
    }


def _listed(names: Sequence[str] | str) -> Sequence[str]:
    return [names] if isinstance(names, str) else names


def _check_metric(metric: str, *, on_map: bool = False) -> None:
    if metric not in RULES:
        raise ValueError(f"metric: expected one of {', '.join(RULES)}; found {metric!r}")
    if on_map and not _rules_on_maps(metric):
        raise ValueError(f"metric: {metric} is not defined on painted maps, it needs instances")


def _for_metrics(name: str, chosen: Iterable[str]) -> list[str]:
    """Return ``metric:name`` for each of the chosen metrics that knows a variant."""
    found = [f"{metric}:{name}" for metric in chosen if name.partition("@")[0] in RULES[metric]]
    if not found:
        known = "; ".join(f"{metric}: {', '.join(PUBLISHED[metric])}" for metric in chosen)
        raise ValueError(f"variant: expected a name that a chosen metric knows ({known}); found {name!r}")
    return found


def _default_names(metric: str, *, every: bool, on_map: bool) -> Sequence[str]:
    if on_map:
        names = [f"{name}@map" for name in _rules_on_maps(metric)]
        return names if every else names[:1]
    return PUBLISHED[metric] if every else [DEFAULTS[metric]]


def _rules_on_maps(metric: str) -> list[str]:
    return [name for name, rule in RULES[metric].items() if rule.maps and rule.maps != ("ppa",)]
