"""The named definitions of every metric, each with its rule in full and its source."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from . import rules_maps, rules_sa_sor, rules_sor
from .image import ImageScores
from .score import Score


@dataclass(frozen=True, slots=True)
class Rule:
    """One definition of a metric.

    Attributes:
        metric: the metric it defines.
        name: its name.
        painter: the painter that a bare name means; None for a rule on instances.
        score: the implementation, from (image, painter) to a ``Score``.
        text: the rule in full.
        source: whose definition it is.
    """

    metric: str
    name: str
    painter: str | None
    score: Callable[[ImageScores, str], Score]
    text: str
    source: str


_IRSR = (
    "Images with fewer than two objects are skipped. Masks are 1 where > 0.5. Each object takes its single "
    "best prediction by IoU and loses it if the IoU is below {iou}; of several objects with the same "
    "prediction the one with the highest IoU keeps it and the others stay unmatched (no second choice). "
    "Ranked predictions: the matched ones, and all others too only if there are more predictions than "
    "objects. Rank of a matched object: 1 + number of ranked predictions with a strictly lower score; "
    "unmatched 0. Rank of the truth: 1 + number of objects with a strictly lower rank. All predicted ranks "
    "equal: 0. Otherwise Pearson's correlation; image skipped if all true ranks are equal. Equal IoUs go to "
    "the more salient, then to the earlier in the list. Mean over counted images, in [-1, 1]."
)
_SEQRANK_SA = (
    "Predictions and objects in descending saliency, ties in list order. IoU = intersection / (union + "
    "1e-6). {assign}, pairs with IoU > 0.5 are kept. Predicted rank: number of predictions - position; "
    "unmatched 0. Pearson's correlation with number of objects - position; undefined (one object, no match) "
    "adds 0 and counts. {no_gt}"
)
_ASSR = (
    "Predicted value of an object: the most frequent nonzero grey value inside its full mask (the smallest "
    "of equally frequent ones) if more than trunc({coverage} area) of its pixels are painted, otherwise 0. "
    "Objects without a predicted value{drop} are dropped. Two or more left: Spearman's correlation of the "
    "true and predicted values (average ranks for ties), skipped if one side is constant. One left: 1. None "
    "left: skipped. Mapped to [0, 1] by (x + 1) / 2; mean over counted images."
)
_SEQRANK_SOR = (
    "For each object the most salient prediction with IoU > 0.5 (denominator + 1e-6); several objects may "
    "share one. Spearman's correlation of positions, mapped by (x + 1) / 2; one match gives 1; no match or "
    "constant positions add 0 and count. {no_gt}"
)
_NO_GT_SKIPPED = "No ground truth: skipped (the published code fails)."
_NO_GT_ZERO = "No ground truth: adds 0 and counts."
_GREY_MAE = (
    "Mean over pixels of |painted prediction - painted ground truth| / 255. Ground truth: gtn where the map "
    "is qagnet_n or map_n, gt10 otherwise. No image is skipped; no prediction is a zero map."
)
_LEVELS = (
    "Both sides painted in list order, later instances cover: an object with (rank + 1) / G, a prediction "
    "with (number of strictly lower scores + 1) / P; prediction masks {cut} 0.5. "
)
_LEVEL_F = (
    "For each band (l, u] between neighbouring distinct values of the painted ground truth: F with beta² = "
    "0.3 of the predicted pixels in the band, 0 if nothing is hit. Mean over bands, then over images; an "
    "image without a band is skipped."
)
_NDCG = (
    "Mean grey value inside each full mask, holes as 0; objects sorted by it in descending order (equal: "
    "later in the list first) get grades 5, 4, 3, 2, 1, a zero mean gets 0. True grade: 5 for the most "
    "salient level, one less for each level. Relevance: 5 - |true grade - predicted grade|, listed in "
    "descending true order (ties: later in the list first). Gain: {gain}. DCG with discount 1 / "
    "log2(position + 1) over that of relevance 5 everywhere. Skipped without objects and with more than five "
    "(the published code fails)."
)

_IRSR_SOURCE = "IRSR (Instance-Level Relative Saliency Ranking, TPAMI 2021), metric/SA-SOR.py"
_SEQRANK_SOURCE = "SeqRank (AAAI 2024), evaluation/metrics.py"
_SR_SOURCE = "guanhuankang/Saliency-Ranking"
_ASSR_SOURCE = "ASSR (Inferring Attention Shift Ranks, CVPR 2020), evaluation/evaluate.py"
_IJCV_SOURCE = "ASSR's IJCV extension"


def _sa_sor() -> Iterable[Rule]:
    def rule(name: str, score: Callable[[ImageScores, str], Score], text: str, source: str) -> Rule:
        return Rule("sa_sor", name, None, score, text, source)

    half = _IRSR.format(iou="0.5")
    yield rule("irsr", rules_sa_sor.irsr, half, _IRSR_SOURCE)
    yield rule("irsr_inrepo", rules_sa_sor.irsr, half, "IRSR, the copy used while testing; equals irsr")
    yield rule("qagnet", rules_sa_sor.irsr, half, "QAGNet (CVPR 2024), rankevaluation/SASOR.py; equals irsr")
    for name, confidence, source in (
        ("irsr_conf0.6", 0.6, "IRSR, its inference script"),
        ("qagnet_conf0.7", 0.7, "QAGNet, its inference script"),
    ):
        text = f"Predictions with confidence > {confidence} only, then: {half}"
        yield rule(name, partial(rules_sa_sor.irsr, confidence=confidence), text, source)
    for iou in (0.1, 0.5):
        score = partial(rules_sa_sor.irsr, iou=iou)
        source = "PSR (ACM MM 2023), adet/evaluation/sa_sor.py; its evaluation calls it with 0.1"
        yield rule(f"psr_iou{iou}", score, _IRSR.format(iou=iou), source)
    yield rule(
        "sr_script",
        partial(rules_sa_sor.irsr, list_order=True),
        f"Equal scores are put in list order (earlier = more salient), then: {half}",
        f"{_SR_SOURCE}, scripts/sasor.py",
    )
    optimal = "One-to-one assignment of highest total IoU over all pairs"
    greedy = "Pairs greedily by descending IoU"
    yield rule(
        "seqrank",
        rules_sa_sor.seqrank,
        _SEQRANK_SA.format(assign=optimal, no_gt=_NO_GT_SKIPPED),
        _SEQRANK_SOURCE,
    )
    yield rule(
        "sr_deprecated",
        rules_sa_sor.sr_deprecated,
        _SEQRANK_SA.format(assign=greedy, no_gt=_NO_GT_ZERO),
        f"{_SR_SOURCE}, evaluation/deprecated_metrics.py",
    )
    yield Rule(
        "sa_sor",
        "sr_old",
        "assr",
        rules_sa_sor.sr_old,
        "Instances are the distinct nonzero grey levels of the painted ground truth. Prediction of a level: "
        "the most frequent painted value inside it, background included (smallest of equally frequent ones); "
        "the pixels of exactly that value must reach IoU >= 0.5 (denominator + 1e-6); background never "
        "matches. One-to-one greedily by IoU, equal IoUs: brighter level first. Ranks are positions among "
        "the distinct grey levels, unmatched 0. Pearson; undefined adds 0 and counts.",
        f"{_SR_SOURCE}, scripts/evaluation_old.py",
    )


def _sor() -> Iterable[Rule]:
    for name, painter, coverage, source in (
        ("assr", "assr", 0.5, _ASSR_SOURCE),
        ("ocor", "assr", 0.5, "OCOR (CVPR 2022); equals assr"),
        ("ppa", "area", 0.5, "PPA (ICCV 2021), centermask/evaluation/sor_eval.py; equals assr"),
        ("qagnet", "qagnet10", 0.5, "QAGNet (CVPR 2024), rankevaluation/sor_eval.py; equals assr"),
        ("psr", "area", 0.98, "PSR (ACM MM 2023), adet/evaluation/sor_eval.py"),
    ):
        score = partial(rules_sor.modal_grey, coverage=coverage)
        yield Rule("sor", name, painter, score, _ASSR.format(coverage=coverage, drop=""), source)
    yield Rule(
        "sor",
        "qagnet_rank0",
        "qagnet_n",
        partial(rules_sor.modal_grey, integer_ranks=True, drop_rank0=False),
        _ASSR.format(coverage=0.5, drop="") + " True values are integer ranks from 0, all of them kept.",
        "QAGNet (CVPR 2024) on IRSR and SIFR",
    )
    yield Rule(
        "sor",
        "assr_rank0",
        "qagnet_n",
        partial(rules_sor.modal_grey, integer_ranks=True),
        _ASSR.format(coverage=0.5, drop=", and the least salient objects (integer rank 0),"),
        "The ASSR code fed with integer ranks from 0, as IRSR's data have",
    )
    yield Rule(
        "sor",
        "ijcv",
        "assr_ijcv",
        rules_sor.mean_grey,
        "Predicted value of an object: mean grey value over its full mask, holes as 0. Objects with mean 0 "
        "are dropped. Two or more left: Spearman's correlation, skipped if one side is constant. Fewer: "
        "skipped. Mapped to [0, 1] by (x + 1) / 2.",
        f"{_IJCV_SOURCE}, evaluate_MAE_SOR.py",
    )
    yield Rule(
        "sor",
        "seqrank",
        None,
        rules_sor.seqrank,
        _SEQRANK_SOR.format(no_gt=_NO_GT_SKIPPED),
        _SEQRANK_SOURCE,
    )
    yield Rule(
        "sor",
        "sr_deprecated",
        None,
        partial(rules_sor.seqrank, count_no_gt=True),
        _SEQRANK_SOR.format(no_gt=_NO_GT_ZERO),
        f"{_SR_SOURCE}, evaluation/deprecated_metrics.py",
    )
    yield Rule(
        "sor",
        "sr_old",
        "assr",
        rules_sor.sr_old,
        "As assr, but the objects are the distinct nonzero grey levels of the painted ground truth (hidden "
        "pixels and tied objects merge) and positions among the grey levels are correlated.",
        f"{_SR_SOURCE}, scripts/evaluation_old.py",
    )


def _mae() -> Iterable[Rule]:
    yield Rule(
        "mae",
        "assr",
        "assr",
        rules_maps.grey_error,
        _GREY_MAE,
        "ASSR, PPA, PSR, OCOR, QAGNet and the IJCV extension, identical code",
    )
    yield Rule(
        "mae", "sr_old", "assr", rules_maps.grey_error, _GREY_MAE, f"{_SR_SOURCE}, scripts/evaluation_old.py"
    )
    yield Rule(
        "mae",
        "assr_binary",
        "assr",
        rules_maps.binary_error,
        "Share of pixels where one map is > 0 and the other is not.",
        "ASSR, PPA, PSR, OCOR, QAGNet",
    )
    yield Rule(
        "mae",
        "ijcv_binary",
        "assr_ijcv",
        partial(rules_maps.binary_error, lowest=128),
        "Share of pixels where prediction >= 128 and ground truth > 0 disagree; darker predictions vanish.",
        f"{_IJCV_SOURCE}, evaluate_MAE_SOR.py",
    )
    for name, strict, cut, source in _LEVEL_RULES:
        yield Rule(
            "mae",
            name,
            None,
            partial(rules_maps.level_error, strict=strict),
            _LEVELS.format(cut=cut) + "Mean absolute difference; no image is skipped.",
            source,
        )
    binary = (
        "Mean over pixels of |pixelwise maximum of the raw prediction masks - union of the objects|; ranks "
        "do not enter. No prediction is a zero map. {no_gt}"
    )
    yield Rule(
        "mae", "seqrank", None, rules_maps.union_error, binary.format(no_gt=_NO_GT_SKIPPED), _SEQRANK_SOURCE
    )
    yield Rule(
        "mae",
        "sr_deprecated",
        None,
        partial(rules_maps.union_error, count_no_gt=True),
        binary.format(no_gt=_NO_GT_ZERO),
        f"{_SR_SOURCE}, evaluation/deprecated_metrics.py",
    )


_LEVEL_RULES = (
    ("irsr_levels", True, ">", "IRSR (TPAMI 2021), tools/evaluation/mae_fmeasure_2.py"),
    ("qagnet_levels", False, ">=", "QAGNet (CVPR 2024), rankevaluation/mae_fmeasure_2.py"),
)


def _f_measure() -> Iterable[Rule]:
    for name, strict, cut, source in _LEVEL_RULES:
        score = partial(rules_maps.level_f, strict=strict)
        yield Rule("f_measure", name, None, score, _LEVELS.format(cut=cut) + _LEVEL_F, source)
    yield Rule(
        "f_measure",
        "seqrank",
        None,
        rules_maps.union_f,
        "F with beta² = 0.3 of the union of predictions (> 0.5) against the union of objects, 1e-6 added to "
        f"each denominator; ranks do not enter. {_NO_GT_SKIPPED}",
        _SEQRANK_SOURCE,
    )


def _iou() -> Iterable[Rule]:
    yield Rule(
        "iou",
        "seqrank",
        None,
        rules_maps.union_iou,
        "IoU of the union of predictions (> 0.5) with the union of objects, 1e-6 added to the denominator; "
        f"ranks do not enter. {_NO_GT_SKIPPED}",
        _SEQRANK_SOURCE,
    )


def _ndcg() -> Iterable[Rule]:
    for name, exponential, gain in (("ijcv_lin", False, "relevance"), ("ijcv_exp", True, "2^relevance - 1")):
        yield Rule(
            "ndcg",
            name,
            "assr_ijcv",
            partial(rules_maps.ndcg, exponential=exponential),
            _NDCG.format(gain=gain),
            f"{_IJCV_SOURCE}, evaluate_nDCG.py",
        )


RULES: dict[str, dict[str, Rule]] = {
    metric: {rule.name: rule for rule in rules}
    for metric, rules in (
        ("sa_sor", _sa_sor()),
        ("sor", _sor()),
        ("mae", _mae()),
        ("f_measure", _f_measure()),
        ("iou", _iou()),
        ("ndcg", _ndcg()),
    )
}
