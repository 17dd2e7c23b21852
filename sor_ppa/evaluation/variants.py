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
    _check_metric(metric, on_map=False)
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
        metrics: names of metrics, or ``"metric:variant"``; None means the three defaults (on maps SOR
            and MAE), "all" means all.
        variants: None: the default of each metric. "all": every published one. A mapping from metric
            to names. A list of names: each goes to all the chosen metrics that know it; one given as
            ``"metric:variant"`` to that metric only.
        on_map: for painted maps.

    Returns:
        ``{metric: {name as asked for: Variant}}``.

    Raises:
        ValueError: unknown names, or a metric that is not defined on maps.
    """
    asked = _metrics(metrics, variants, on_map=on_map)
    names: dict[str, list[str]] = {}
    for entry in asked:
        metric, _, name = entry.partition(":")
        _check_metric(metric, on_map=on_map)
        names.setdefault(metric, [])
        if name:
            names[metric].append(name)
    if variants == "all":
        names = {metric: found or _all_names(metric, on_map=on_map) for metric, found in names.items()}
    elif isinstance(variants, Mapping):
        for metric, given in variants.items():
            _check_metric(metric, on_map=on_map)
            names.setdefault(metric, []).extend([given] if isinstance(given, str) else given)
    elif variants is not None:
        for name in [variants] if isinstance(variants, str) else variants:
            _hand_out(name, names)
    return {
        metric: {
            name: find_variant(metric, name, on_map=on_map)
            for name in found or [_default_name(metric, on_map=on_map)]
        }
        for metric, found in names.items()
    }


def _metrics(metrics: Sequence[str] | str | None, variants: object, *, on_map: bool) -> list[str]:
    if isinstance(metrics, str):
        metrics = [metrics]
    if metrics is None:
        if isinstance(variants, Mapping):
            return list(variants)
        return [metric for metric in DEFAULT_METRICS if metric != "sa_sor" or not on_map]
    everything = [metric for metric in RULES if not on_map or _rules_on_maps(metric)]
    return [name for entry in metrics for name in (everything if entry == "all" else [entry])]


def _check_metric(metric: str, *, on_map: bool) -> None:
    if metric not in RULES:
        raise ValueError(f"metric: expected one of {', '.join(RULES)}; found {metric!r}")
    if on_map and not _rules_on_maps(metric):
        raise ValueError(f"metric: {metric} is not defined on painted maps, it needs instances")


def _hand_out(name: str, names: dict[str, list[str]]) -> None:
    metric, _, only = name.partition(":")
    if only:
        names.setdefault(metric, []).append(only)
        return
    takers = [metric for metric in names if name.partition("@")[0] in RULES[metric]]
    if not takers:
        known = "; ".join(f"{metric}: {', '.join(PUBLISHED[metric])}" for metric in names)
        raise ValueError(f"variant: expected a name that a chosen metric knows ({known}); found {name!r}")
    for metric in takers:
        names[metric].append(name)


def _rules_on_maps(metric: str) -> list[str]:
    return [name for name, rule in RULES[metric].items() if rule.painter is not None]


def _default_name(metric: str, *, on_map: bool) -> str:
    return f"{_rules_on_maps(metric)[0]}@map" if on_map else DEFAULTS[metric]


def _all_names(metric: str, *, on_map: bool) -> list[str]:
    return [f"{name}@map" for name in _rules_on_maps(metric)] if on_map else list(PUBLISHED[metric])
