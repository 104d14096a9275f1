"""The claims about networks: below the critical rate the flow's solution, above it the edge, and what the norm does."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from edgescope.claims import Measured, Open
from edgescope.experiments.tradeoff.curves import Curve, curves, sharpening_curves
from edgescope.experiments.tradeoff.over_rates import kink, one_step, slope, straightness, with_rows
from edgescope.statistics.estimate import Estimate
from edgescope.studies.stated_claim import stated_claim

ALIGNED = 0.8
"""Up to which share of the critical rate ends are to agree with the flow's."""

EDGE, EDGE_BY = 1.1, 0.10
"""From which multiple of the critical rate on the final sharpness is to be 2/lr, and by how much it may be off."""


@stated_claim("tradeoff.sharpens", each=curves())
def sharpens(curve: Curve) -> Measured:
    return Measured(Estimate.exact(curve.sharpening), {"at the start": curve.start, "s_GF": curve.highest})


@stated_claim("tradeoff.largest-eigenvalue", each=curves())
def largest_eigenvalue(curve: Curve) -> Measured:
    size = Estimate.exact(-curve.least / curve.start)
    return Measured(size, {"|λ_min| over s_GF": -curve.least / curve.highest})


def _off_the_flow(column: str, curve: Curve) -> Measured | Open:
    """How far a column is from the flow's at the rates up to ``ALIGNED`` critical ones, as a share of the flow's."""
    rows = curve.between(0, ALIGNED)
    if not rows.height or not curve.flow_reached:
        return Open("gradient flow or descent did not reach the threshold", "more steps, or a higher threshold")
    away = (rows[column].to_numpy() / curve.flow[column] - 1).tolist()
    by_rate = dict(zip((f"{ratio:.3g} η_c" for ratio in rows["ratio"]), away, strict=True))
    return Measured(Estimate.exact(np.max(np.abs(away))), by_rate)


aligned_sharpness = stated_claim("tradeoff.aligned-sharpness", each=curves())(partial(_off_the_flow, "sharpness"))
aligned_l1_norm = stated_claim("tradeoff.aligned-l1-norm", each=curves())(partial(_off_the_flow, "l1"))
aligned_l2_norm = stated_claim("tradeoff.aligned-l2-norm", each=curves())(partial(_off_the_flow, "l2"))


@stated_claim("tradeoff.edge", each=sharpening_curves())
def edge(curve: Curve) -> Measured | Open:
    rows = curve.between(EDGE)
    ratio = (rows["sharpness"] * rows["lr"] / 2).to_numpy()
    if not ratio.size:
        return Open("no learning rate above the critical one reached the threshold", "a higher threshold")
    within = np.abs(ratio - 1) <= EDGE_BY
    first = len(ratio) if within.all() else int(np.argmin(within))  # rates before the first that is off
    beside = {
        "lowest S/(2/η)": float(ratio.min()),
        "highest S/(2/η)": float(ratio.max()),
        "share of learning rates within 10%": float(within.mean()),
        "all within 10% up to η/η_c": float(rows["ratio"][first - 1]) if first else np.nan,
    }
    return Measured(Estimate.exact(np.abs(ratio - 1).max()), beside)


def _of_norms(statistic: Callable[[np.ndarray, np.ndarray], Estimate | Open], curve: Curve) -> Measured | Open:
    """A statistic of the l1 norm over the rates from the critical one on, and that of the l2 norm beside it."""
    rows = curve.between(1.0)
    ratio = rows["ratio"].to_numpy()
    l1, l2 = (statistic(ratio, rows[name].to_numpy() / curve.flow[name]) for name in ("l1", "l2"))
    return with_rows(l1, {"that of |w|₂": l2})


norm_grows = stated_claim("tradeoff.norm-grows", each=sharpening_curves())(partial(_of_norms, slope))
norm_grows_linearly = stated_claim("tradeoff.norm-grows-linearly", each=sharpening_curves())(
    partial(_of_norms, straightness)
)


@stated_claim("tradeoff.bends-at-critical", each=sharpening_curves())
def bends_at_critical(curve: Curve) -> Measured | Open:
    ratios = curve.reached["ratio"].to_numpy()
    bend, step = kink(ratios, curve.reached["sharpness"].to_numpy()), one_step(ratios)
    beside = {"bend of S at η/η_c": bend, "bend of |w|₂ at η/η_c": kink(ratios, curve.reached["l2"].to_numpy())}
    if not bend.known or not np.isfinite(step):
        return Open("no bend between learning rates on both sides of η_c", "more learning rates", beside=beside)
    near, *ends = (abs(np.log(place)) / np.log(step) for place in (bend.value, bend.low, bend.high))
    low = 0.0 if bend.low <= 1 <= bend.high else min(ends)
    return Measured(Estimate(near, low, max(ends), len(ratios), "learning rates"), beside | {"one grid step": step})


CONDITIONS = (sharpens, largest_eigenvalue)
BELOW_AND_ABOVE = (
    aligned_sharpness,
    aligned_l1_norm,
    aligned_l2_norm,
    edge,
    norm_grows,
    norm_grows_linearly,
    bends_at_critical,
)
