"""The one table of metrics and their published definitions.

The functions of this package, ``--list`` and the tables of docs/metrics.md are made from it. The text of a
rule is the docstring of the function that computes it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

from .image import ImageScores
from .rules import maps, sa_sor, sor
from .score import Score


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric: its label in tables, default variant, range, direction, and what it measures."""

    label: str
    default: str
    text: str
    low: int = 0
    high: int = 1
    higher_is_better: bool = True


@dataclass(frozen=True, slots=True)
class MetricRule:
    """One definition of a metric.

    Attributes:
        name: its name.
        function: the implementation, from (image, painter, **options) to a ``Score``.
        source: who defined it.
        maps: the painters it is published with, the first one meant by the bare name; empty for a rule
            on instances.
        like: the rule of the same metric from which this one differs by ``text``, if at all.
        text: the difference.
        no_gt: the status of an image without objects; "" leaves it to ``function``.
        options: keyword arguments of ``function``.
    """

    name: str
    function: Callable[..., Score]
    source: str
    maps: tuple[str, ...] = ()
    like: str = ""
    text: str = ""
    no_gt: Literal["", "skipped", "nan_as_0"] = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """The rule in words, with reference to another rule where it has one."""
        if self.like:
            return f"As `{self.like}`. {self.text}" if self.text else f"Same as `{self.like}`."
        return " ".join((inspect.getdoc(self.function) or "").partition("\n\n")[0].split())

    def score(self, image: ImageScores, painter: str) -> Score:
        """Return the metric of one image; ``painter`` is "" for a rule on instances."""
        if self.no_gt and image.n_gt == 0:
            return Score(None, self.no_gt, "no ground truth")
        return self.function(image, painter, **self.options)


METRICS: dict[str, Metric] = {
    "sa_sor": Metric(
        "SA-SOR",
        "irsr",
        "Pearson's correlation of ranks after instances have been matched by mask IoU. Measures whether the "
        "objects are found and in the right order.",
        low=-1,
    ),
    "sor": Metric(
        "SOR",
        "assr@assr",
        "Spearman's correlation of ranks (average ranks for ties), mapped to [0, 1] by (x + 1) / 2. Measures "
        "whether the painted objects are in the right order; missed and false ones matter little.",
    ),
    "mae": Metric(
        "MAE",
        "assr@assr",
        "Mean absolute error of ranked saliency. Measures how far the painted map is from the painted truth.",
        higher_is_better=False,
    ),
    "f_measure": Metric("F-measure", "irsr_levels", "F-measure with beta² = 0.3."),
    "iou": Metric(
        "IoU", "seqrank", "IoU of the union of predictions with the union of objects, without ranks."
    ),
    "ndcg": Metric(
        "nDCG", "ijcv_lin@assr_ijcv", "Normalized discounted cumulative gain of up to five objects."
    ),
}

_IRSR = "IRSR (TPAMI 2021)"
_QAGNET = "QAGNet (CVPR 2024)"
_PSR = "PSR (ACM MM 2023), adet/evaluation"
_SEQRANK = "SeqRank (AAAI 2024), evaluation/metrics.py"
_SR = "guanhuankang/Saliency-Ranking"
_SR_OLD = f"{_SR}, scripts/evaluation_old.py"
_IJCV = "ASSR's IJCV extension"
_NO_GT = "An image without ground truth adds 0 and counts."
_CONFIDENCE = "Predictions with confidence <= {} are ignored."
_IOU = "The IoU threshold is 0.1, as in PSR's evaluation."
_LIST_ORDER = "Equal scores are first put in list order (earlier = more salient)."
_HALF = "Prediction masks are 1 where >= 0.5."
_COVERED = (
    "More than trunc(0.98 area) of an object must be painted. Most images lose objects or drop out, and the "
    "mean rises."
)
_ON_IRSR = "The ASSR program on integer ranks from 0, as IRSR's data have"
_RANK_0_KEPT = "True values are integer ranks from 0; all objects are kept."
_RANK_0_DROPPED = "True values are integer ranks from 0, and the least salient objects (rank 0) are dropped."
_IJCV_MAPS = ("assr_ijcv", "assr", "qagnet_n")
_DARK = "The prediction counts where it is >= 128; darker objects vanish."


def _like(
    base: MetricRule, name: str, source: str, text: str = "", maps: tuple[str, ...] = (), **options: Any
) -> MetricRule:
    """Return a rule that differs from ``base`` by ``text``, or not at all."""
    return replace(base, name=name, source=source, maps=maps, like=base.name, text=text, options=options)


def _with_no_gt_as_0(base: MetricRule, text: str = "", **options: Any) -> MetricRule:
    rule = _like(base, "sr_deprecated", f"{_SR}, evaluation/deprecated_metrics.py", text + _NO_GT, **options)
    return replace(rule, no_gt="nan_as_0")


_skip = partial(MetricRule, no_gt="skipped")
_irsr = _skip("irsr", sa_sor.sa_sor_of_best_match, f"{_IRSR}, metric/SA-SOR.py")
_irsr_like = partial(_like, _irsr)
_sa_seqrank = _skip("seqrank", sa_sor.sa_sor_of_assignment, _SEQRANK)
_assr = MetricRule(
    "assr",
    sor.sor_of_modal_gray,
    "ASSR (CVPR 2020), evaluation/evaluate.py",
    ("assr", "assr_ijcv", "qagnet10", "area", "qagnet_n"),
)
_seqrank = _skip("seqrank", sor.sor_of_first_match, _SEQRANK)
_gray = MetricRule(
    "assr",
    maps.gray_error,
    "ASSR, PPA, PSR, OCOR, QAGNet and the IJCV extension, identical code",
    ("assr", "assr_ijcv", "qagnet10", "qagnet_n", "area"),
)
_binary = MetricRule("assr_binary", maps.binary_error, "ASSR, PPA, PSR, OCOR, QAGNet", ("assr", "qagnet_n"))
_levels = MetricRule("irsr_levels", maps.level_error, f"{_IRSR}, tools/evaluation/mae_fmeasure_2.py")
_union = _skip("seqrank", maps.union_error, _SEQRANK)
_level_f = MetricRule("irsr_levels", maps.level_f, _levels.source)
_ndcg = _skip("ijcv_lin", maps.graded_ndcg, f"{_IJCV}, evaluate_nDCG.py", ("assr_ijcv", "assr"))

_TABLE: dict[str, tuple[MetricRule, ...]] = {
    "sa_sor": (
        _irsr,
        _irsr_like("irsr_inrepo", f"{_IRSR}, the copy used while testing"),
        _irsr_like("qagnet", f"{_QAGNET}, rankevaluation/SASOR.py"),
        _irsr_like("irsr_conf0.6", f"{_IRSR}, inference script", _CONFIDENCE.format(0.6), confidence=0.6),
        _irsr_like("qagnet_conf0.7", f"{_QAGNET}, inference script", _CONFIDENCE.format(0.7), confidence=0.7),
        _irsr_like("psr_iou0.1", f"{_PSR}/sa_sor.py", _IOU, iou=0.1),
        _irsr_like("psr_iou0.5", f"{_PSR}/sa_sor.py"),
        _irsr_like("sr_script", f"{_SR}, scripts/sasor.py", _LIST_ORDER, list_order=True),
        _sa_seqrank,
        _with_no_gt_as_0(_sa_seqrank, "Pairs are taken greedily by descending IoU. ", greedy=True),
        MetricRule("sr_old", sa_sor.sa_sor_of_levels, _SR_OLD, ("assr", "qagnet_n")),
    ),
    "sor": (
        _assr,
        _like(_assr, "ocor", "OCOR (CVPR 2022)", maps=("assr",)),
        _like(_assr, "ppa", "PPA (ICCV 2021), sor_eval.py", maps=("area", "assr", "ppa")),
        _like(_assr, "qagnet", f"{_QAGNET}, rankevaluation/sor_eval.py", maps=("qagnet10",)),
        _like(_assr, "psr", f"{_PSR}/sor_eval.py", _COVERED, ("area", "assr"), coverage=0.98),
        _like(_assr, "qagnet_rank0", f"{_QAGNET} on IRSR and SIFR", _RANK_0_KEPT, ("qagnet_n",)),
        _like(_assr, "assr_rank0", _ON_IRSR, _RANK_0_DROPPED, ("qagnet_n",), keep_last=False),
        MetricRule("ijcv", sor.sor_of_mean_gray, f"{_IJCV}, evaluate_MAE_SOR.py", maps=("assr_ijcv", "assr")),
        _seqrank,
        _with_no_gt_as_0(_seqrank),
        _skip("sr_old", sor.sor_of_levels, _SR_OLD, ("assr", "qagnet_n")),
    ),
    "mae": (
        _gray,
        _like(_gray, "sr_old", _SR_OLD, maps=("assr", "qagnet_n")),
        _like(_gray, "ppa", "PPA (ICCV 2021), as its training program reports it", maps=("ppa",)),
        _binary,
        _like(
            _binary,
            "ijcv_binary",
            f"{_IJCV}, evaluate_MAE_SOR.py",
            _DARK,
            ("assr_ijcv", *_binary.maps),
            lowest=128,
        ),
        _levels,
        _like(_levels, "qagnet_levels", f"{_QAGNET}, rankevaluation/mae_fmeasure_2.py", _HALF, strict=False),
        _union,
        _with_no_gt_as_0(_union),
    ),
    "f_measure": (
        _level_f,
        _like(_level_f, "qagnet_levels", f"{_QAGNET}, rankevaluation/mae_fmeasure_2.py", _HALF, strict=False),
        _skip("seqrank", maps.union_f, _SEQRANK),
    ),
    "iou": (_skip("seqrank", maps.union_iou, _SEQRANK),),
    "ndcg": (
        _ndcg,
        _like(_ndcg, "ijcv_exp", _ndcg.source, "The gain is 2^relevance - 1.", _ndcg.maps, exponential=True),
    ),
}
RULES: dict[str, dict[str, MetricRule]] = {
    metric: {rule.name: rule for rule in rules} for metric, rules in _TABLE.items()
}
