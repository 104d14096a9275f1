"""The claims about networks: below the critical rate the flow's solution, above it the edge, and what the norm does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float
from scipy.stats import kendalltau

from edgescope.report import Finding, Verdict, judge
from edgescope.store import Record
from edgescope.studies.seen import by_run
from edgescope.studies.tradeoff.claims_beside import rescaled, sign_of_curvature
from edgescope.studies.tradeoff.claims_diagonal import diagonal_findings
from edgescope.studies.tradeoff.claims_test_loss import valley_findings
from edgescope.studies.tradeoff.curves import MATVEEV, SECOND_HAND, Curve, curves_of
from edgescope.studies.tradeoff.kink import kink, one_step

ALIGNED, ALIGNED_BY = 0.8, 0.05
"""Up to which share of the critical rate ends agree with the flow's, and by how much (claim 1)."""

EDGE, EDGE_BY = 1.1, 0.10
"""From which multiple of the critical rate on the final sharpness is 2/lr, and by how much (claim 2)."""

STRAIGHT = 0.9
"""The least R² of a straight line (claim 3)."""

SHARPENS = 1.2
"""How many times its first value the flow's sharpness must reach: else there is no edge of stability to speak of."""

KEPT = 0.5
"""The share of a norm's growth that must be left when what oscillates is taken out."""

FALLS = -0.5
"""Kendall's tau below which a quantity falls with the rate."""


def tradeoff_findings(runs: dict[str, Record]) -> list[Finding]:
    """A verdict on every claim of the study."""
    return [*network_findings(curves_of(runs)), rescaled(runs), *diagonal_findings(runs)]


def network_findings(found: Sequence[Curve]) -> list[Finding]:
    """A verdict on every claim about networks."""
    curves = {curve.name: curve for curve in found}
    sharpening = {name: curve for name, curve in curves.items() if curve.sharpening >= SHARPENS}
    return [
        sharpens(curves),
        flow_aligned(curves),
        at_the_edge(sharpening),
        norm_grows(sharpening),
        bends_at_critical(sharpening),
        *valley_findings(curves),
        not_oscillation(sharpening),
        scale_free(sharpening),
        sign_of_curvature(curves),
    ]


Figures = dict[str, float]


def _judged(
    curves: Mapping[str, Curve], each: Callable[[Curve], tuple[Figures, Verdict]]
) -> tuple[Figures, Verdict, str]:
    """The figures of all curves, one verdict over them, and in words which curves it comes from."""
    found = {name: each(curve) for name, curve in curves.items()}
    measured = {f"{name}: {figure}": value for name, (figures, _) in found.items() for figure, value in figures.items()}
    verdict, words = by_run({name: one for name, (_, one) in found.items()})
    return measured, verdict, words


def sharpens(curves: Mapping[str, Curve]) -> Finding:
    """The condition of all that follows, which MNIST is said not to meet."""

    def each(curve: Curve) -> tuple[Figures, Verdict]:
        figures = {"start": curve.start, "s_GF": curve.highest, "s_GF/start": curve.sharpening}
        return figures, judge(curve.sharpening >= SHARPENS, curve.sharpening)

    measured, verdict, words = _judged(curves, each)
    return Finding(
        claim="Gradient flow sharpens on its way to the threshold, so that there is an edge of stability to reach",
        source="public reviews of the paper: MNIST is said to show no progressive sharpening",
        expected=f"the largest sharpness of gradient flow at least {SHARPENS} times that of the initialisation",
        measured=measured,
        verdict=verdict,
        why=f"{words}What fails here is left out of the claims about the edge: there 2/η lies at or below the "
        "sharpness that the network starts with, and descent flattens at once or diverges.",
        status="the limit is ours",
    )


def flow_aligned(curves: Mapping[str, Curve]) -> Finding:
    def each(curve: Curve) -> tuple[Figures, Verdict]:
        rows = curve.between(0, ALIGNED)
        if not rows.height or not curve.flow_reached:
            return {}, "inconclusive"
        worst = {
            title: float((rows[column] / curve.flow[column] - 1).abs().max())  # type: ignore[arg-type]
            for column, title in (("sharpness", "S"), ("l1", "l1"), ("l2", "l2"))
        }
        return worst, judge(max(worst.values()) <= ALIGNED_BY, *worst.values())

    measured, verdict, words = _judged(curves, each)
    return Finding(
        claim="Below the critical rate descent ends with the sharpness and the norm of gradient flow",
        source=f"{MATVEEV}, claim 1",
        expected=f"within {ALIGNED_BY:.0%} of the flow's, at every rate up to {ALIGNED} of the critical one",
        measured=measured,
        verdict=verdict,
        why=f"{words}Largest relative differences, at the same training loss from the same initialisation. Statistics "
        "are claimed to agree, not trajectories.",
        status=SECOND_HAND,
    )


def at_the_edge(curves: Mapping[str, Curve]) -> Finding:
    def each(curve: Curve) -> tuple[Figures, Verdict]:
        rows, ratio = curve.between(EDGE, np.inf), curve.edge_ratio(EDGE)
        if not ratio.size:
            return {}, "inconclusive"
        within = np.abs(ratio - 1) <= EDGE_BY
        first = len(ratio) if within.all() else int(np.argmin(within))  # rates before the first that is off
        figures = {
            "lowest": float(ratio.min()),
            "highest": float(ratio.max()),
            "within, of rates": float(within.mean()),
            "within up to η/η_c": float(rows["ratio"][first - 1]) if first else np.nan,
        }
        return figures, judge(bool(within.all()), *ratio)

    measured, verdict, words = _judged(curves, each)
    return Finding(
        claim="Above the critical rate the final sharpness is 2/η",
        source=f"{MATVEEV}, claim 2",
        expected=f"S/(2/η) within {EDGE_BY:.0%} of 1, at every rate from {EDGE} critical rates on that reaches the "
        "threshold",
        measured=measured,
        verdict=verdict,
        why=f"{words}One measurement where the training loss first met the threshold. At large rates it may do so "
        "before the sharpness has risen to 2/η.",
        status=SECOND_HAND,
    )


def line(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Slope and R² of the straight line through points; NaN below four of them, or where ``y`` is constant."""
    if len(x) < 4 or np.ptp(y) == 0:
        return float("nan"), float("nan")
    slope, height = np.polyfit(x, y, 1)
    return float(slope), float(1 - np.var(y - slope * x - height) / np.var(y))


def norm_grows(curves: Mapping[str, Curve]) -> Finding:
    def each(curve: Curve) -> tuple[Figures, Verdict]:
        rows = curve.between(1.0, np.inf)
        x = rows["ratio"].to_numpy()
        slope, straight = line(x, rows["l1"].to_numpy() / curve.flow["l1"])
        also, also_straight = line(x, rows["l2"].to_numpy() / curve.flow["l2"])
        figures = {"l1 slope": slope, "l1 R²": straight, "l2 slope": also, "l2 R²": also_straight}
        return figures, judge(slope > 0 and straight >= STRAIGHT, slope, straight)

    measured, verdict, words = _judged(curves, each)
    return Finding(
        claim="Above the critical rate the l1 norm of the parameters grows about linearly with the rate",
        source=f"{MATVEEV}, claim 3",
        expected=f"a straight line with R² of at least {STRAIGHT} and a positive slope",
        measured=measured,
        verdict=verdict,
        why=f"{words}Norms over the flow's against η/η_c, so that a slope is the share of growth for one critical rate "
        "more. Reviewers doubt the l1 norm; the l2 norm is given beside it and is not judged.",
        status=SECOND_HAND,
    )


def bends_at_critical(curves: Mapping[str, Curve]) -> Finding:
    def each(curve: Curve) -> tuple[Figures, Verdict]:
        ratios = curve.reached["ratio"].to_numpy()
        bend = kink(ratios, curve.reached["sharpness"].to_numpy())
        step = one_step(ratios)
        norm = kink(ratios, curve.reached["l2"].to_numpy())
        figures = {"bend of S at η/η_c": bend, "bend of l2 at η/η_c": norm, "one grid step": step}
        return figures, judge(abs(np.log(bend)) <= np.log(step) + 1e-9, bend, step)

    measured, verdict, words = _judged(curves, each)
    return Finding(
        claim="The curves bend at the critical rate, for all architectures and both losses",
        source=f"{MATVEEV}, claim 4",
        expected="the bend of the final sharpness within one grid step of η_c = 2/s_GF",
        measured=measured,
        verdict=verdict,
        why=f"{words}The bend is that of the constant which goes over into a power of η and fits best; the grid step "
        "is the wider of those beside η_c. The bend of the norm is given and not judged.",
        status=SECOND_HAND,
    )


def not_oscillation(curves: Mapping[str, Curve]) -> Finding:
    def each(curve: Curve) -> tuple[Figures, Verdict]:
        rows = curve.between(1.0, np.inf).drop_nulls(["averaged_l1", "decayed_l1"])
        x = rows["ratio"].to_numpy()
        slopes = {
            title: line(x, rows[column].to_numpy() / curve.flow["l1"])[0]
            for title, column in (("as it is", "l1"), ("averaged", "averaged_l1"), ("decayed", "decayed_l1"))
        }
        raw = slopes["as it is"]
        if not raw > 0:
            return slopes, "inconclusive"  # nothing grows that could be oscillation
        return slopes, judge(min(slopes.values()) >= KEPT * raw, *slopes.values())

    measured, verdict, words = _judged(curves, each)
    return Finding(
        claim="The growth of the norm is no oscillation: averaged iterates and a last phase of small steps keep it",
        source="public reviews of the paper: norm growth may be mere oscillation",
        expected=f"slopes of the l1 norm at least {KEPT:.0%} of that of the last iterates",
        measured=measured,
        verdict=verdict,
        why=f"{words}Slopes over η/η_c, as shares of the flow's norm: of the last iterates, of the mean of the "
        "iterates after them, and of where steps a tenth as long lead.",
        status="the limit is ours",
    )


def scale_free(curves: Mapping[str, Curve]) -> Finding:
    def each(curve: Curve) -> tuple[Figures, Verdict]:
        rows = curve.between(ALIGNED, np.inf)
        taus = {
            title: _tau(rows["ratio"].to_numpy(), rows[column].to_numpy())
            for title, column in (
                ("raw", "sharpness"),
                ("adaptive, average", "adaptive"),
                ("adaptive, worst case", "adaptive_worst"),
                ("path norm", "path_norm"),
            )
            if rows[column].null_count() == 0
        }
        invariant = [taus.get("adaptive, average", np.nan), taus.get("adaptive, worst case", np.nan)]
        return taus, judge(max(invariant) <= FALLS, *invariant)

    measured, verdict, words = _judged(curves, each)
    return Finding(
        claim="Sharpness that does not depend on the scale of weights falls above the critical rate too",
        source="public reviews of the paper: sharpness is not scale-invariant",
        expected=f"Kendall's τ of adaptive sharpness with the rate, average and worst case, at most {FALLS}",
        measured=measured,
        verdict=verdict,
        why=f"{words}Over the rates from {ALIGNED} critical ones on. Adaptive sharpness disturbs every weight by a "
        "share of its own size. The raw sharpness is given beside it, and the path norm, where there is one, which no "
        "rescaling changes either.",
        status="the limit is ours",
    )


def _tau(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> float:
    return float(kendalltau(x, y).statistic) if len(x) > 3 else float("nan")
