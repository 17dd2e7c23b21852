"""Looking up metrics by name: a variant is a rule, or a rule on a painted map.

``"irsr"``, ``"assr@qagnet10"``. A rule that works on maps has a painter of its own, which a bare name
means: ``"psr"`` is ``"psr@area"``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .definitions import RULES, Rule
from .image import ImageScores
from .painters import PAINTERS
from .score import Score

MAP_PAINTERS = {
    "map": "the given map; ground truth painted as gt10 where grey ground truth is needed",
    "map_n": "the given map; ground truth painted as gtn where grey ground truth is needed",
}


@dataclass(frozen=True, slots=True)
class Variant:
    """A rule with its painter.

    Attributes:
        rule: the rule.
        painter: the painter, None for a rule on instances.
    """

    rule: Rule
    painter: str | None

    @property
    def name(self) -> str:
        """The full name, for example ``"psr@area"``."""
        return self.rule.name if self.painter is None else f"{self.rule.name}@{self.painter}"

    @property
    def text(self) -> str:
        """The rule in full, its painter included."""
        if self.painter is None:
            return self.rule.text
        how = MAP_PAINTERS.get(self.painter) or PAINTERS[self.painter].rule
        return f"{self.rule.text} Map: {how}"

    def score(self, image: ImageScores) -> Score:
        """The metric of one image.

        Raises:
            ValueError: instances are needed and the image has a map, or the other way round.
        """
        if image.is_map != (self.painter in MAP_PAINTERS):
            kind = "a painted map" if image.is_map else "instances"
            raise ValueError(f"{self.rule.metric}: variant {self.name!r} is not defined on {kind}")
        return self.rule.score(image, self.painter or "")


DEFAULTS: dict[str, str] = {
    "sa_sor": "irsr",
    "sor": "assr@assr",
    "mae": "assr@assr",
    "f_measure": "irsr_levels",
    "iou": "seqrank",
    "ndcg": "ijcv_lin@assr_ijcv",
}
DEFAULT_METRICS = ("sa_sor", "sor", "mae")
PUBLISHED: dict[str, tuple[str, ...]] = {
    "sa_sor": (
        *(name for name in RULES["sa_sor"] if name != "sr_old"),
        "sr_old@assr",
        "sr_old@qagnet_n",
    ),
    "sor": (
        "seqrank",
        "sr_deprecated",
        "sr_old@assr",
        "sr_old@qagnet_n",
        "assr@assr",
        "assr@assr_ijcv",
        "assr@qagnet10",
        "assr@area",
        "assr@qagnet_n",
        "ocor@assr",
        "ppa@area",
        "ppa@assr",
        "psr@area",
        "psr@assr",
        "ijcv@assr_ijcv",
        "ijcv@assr",
        "qagnet@qagnet10",
        "qagnet_rank0@qagnet_n",
        "assr_rank0@qagnet_n",
    ),
    "mae": (
        "seqrank",
        "sr_deprecated",
        "sr_old@assr",
        "sr_old@qagnet_n",
        "assr@assr",
        "assr@assr_ijcv",
        "assr@qagnet10",
        "assr@qagnet_n",
        "assr@area",
        "assr_binary@assr",
        "ijcv_binary@assr",
        "assr_binary@qagnet_n",
        "ijcv_binary@qagnet_n",
        "irsr_levels",
        "qagnet_levels",
    ),
    "f_measure": tuple(RULES["f_measure"]),
    "iou": tuple(RULES["iou"]),
    "ndcg": ("ijcv_lin@assr", "ijcv_exp@assr", "ijcv_lin@assr_ijcv", "ijcv_exp@assr_ijcv"),
}
"""The combinations that published code uses or that the reference numbers compare; any other
combination of a rule on maps with a painter works as well."""


def find_variant(metric: str, name: str, *, on_map: bool = False) -> Variant:
    """Looks up a variant.

    Args:
        metric: one of ``RULES``.
        name: a rule, or rule@painter.
        on_map: a bare name means the given map (``@map``) instead of the rule's own painter.

    Raises:
        ValueError: unknown metric or variant; the message lists the known ones.
    """
    if metric not in RULES:
        raise ValueError(f"metric: expected one of {', '.join(RULES)}; found {metric!r}")
    base, _, painter = str(name).partition("@")
    rule = RULES[metric].get(base)
    own = None if rule is None else rule.painter
    painters = [*(name for name, how in PAINTERS.items() if not how.of_gt), *MAP_PAINTERS]
    if rule is None or (painter and (own is None or painter not in painters)) or str(name).endswith("@"):
        raise ValueError(
            f"variant: expected for {metric} one of {', '.join(PUBLISHED[metric])}"
            f" (rules on maps also @ {', '.join(painters)}); found {name!r}"
        )
    if own is not None and not painter:
        painter = "map" if on_map else own
    return Variant(rule, painter or None)


def select(
    metrics: Sequence[str] | str | None = None,
    variants: Mapping[str, Sequence[str] | str] | Sequence[str] | str | None = None,
    *,
    on_map: bool = False,
) -> dict[str, dict[str, Variant]]:
    """Which variants to compute.

    Args:
        metrics: names of metrics, or ``"metric:variant"``; None means the three defaults, "all" means all.
        variants: None: the default of each metric. "all": every published one. A mapping from metric
            to names. A list of names: each goes to all the metrics that know it.
        on_map: for painted maps.

    Returns:
        ``{metric: {name as asked for: Variant}}``.

    Raises:
        ValueError: unknown names.
    """
    if isinstance(metrics, str):
        metrics = list(RULES) if metrics == "all" else [metrics]
    if metrics is None:
        metrics = list(variants) if isinstance(variants, Mapping) else DEFAULT_METRICS
    chosen: dict[str, dict[str, Variant]] = {}
    plain = []
    for entry in metrics:
        metric, _, name = entry.partition(":")
        if metric not in RULES:
            raise ValueError(f"metric: expected one of {', '.join(RULES)}; found {metric!r}")
        chosen.setdefault(metric, {})
        if name:
            chosen[metric][name] = find_variant(metric, name, on_map=on_map)
        else:
            plain.append(metric)
    for metric, names in _names(plain, variants, on_map=on_map).items():
        chosen.setdefault(metric, {})
        for name in names:
            chosen[metric][name] = find_variant(metric, name, on_map=on_map)
    return {metric: found for metric, found in chosen.items() if found}


def _names(
    metrics: list[str],
    variants: Mapping[str, Sequence[str] | str] | Sequence[str] | str | None,
    *,
    on_map: bool,
) -> dict[str, list[str]]:
    if variants is None:
        return {metric: _default_names(metric, on_map=on_map) for metric in metrics}
    if variants == "all":
        return {metric: _all_names(metric, on_map=on_map) for metric in metrics}
    if isinstance(variants, Mapping):
        known = {
            metric: [names] if isinstance(names, str) else list(names) for metric, names in variants.items()
        }
        return {
            metric: _default_names(metric, on_map=on_map) for metric in metrics if metric not in known
        } | known
    names = [variants] if isinstance(variants, str) else list(variants)
    result: dict[str, list[str]] = {metric: [] for metric in metrics}
    for name in names:
        takers = [metric for metric in metrics if name.partition("@")[0] in RULES[metric]]
        if not takers:
            known_names = "; ".join(f"{metric}: {', '.join(PUBLISHED[metric])}" for metric in metrics)
            raise ValueError(f"variant: {name!r} is not known to any chosen metric ({known_names})")
        for metric in takers:
            result[metric].append(name)
    return {m: found or _default_names(m, on_map=on_map) for m, found in result.items()}


def _default_names(metric: str, *, on_map: bool) -> list[str]:
    if not on_map:
        return [DEFAULTS[metric]]
    return (
        [f"{DEFAULTS[metric].partition('@')[0]}@map"]
        if "@" in DEFAULTS[metric]
        else _all_names(metric, on_map=True)
    )


def _all_names(metric: str, *, on_map: bool) -> list[str]:
    if not on_map:
        return list(PUBLISHED[metric])
    return [f"{name}@map" for name, rule in RULES[metric].items() if rule.painter is not None]
