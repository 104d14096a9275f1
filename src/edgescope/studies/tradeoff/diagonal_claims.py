"""The claims about diagonal linear networks, where everything can be written down: on one sample, and on several."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from edgescope.statistics.estimate import Estimate
from edgescope.studies.selection import Item, Selection, tagged
from edgescope.studies.tested_claim import Measured, TestedClaim, claim
from edgescope.studies.tradeoff.curves import MATVEEV, REVIEWS
from edgescope.studies.tradeoff.descents import Descents
from edgescope.studies.tradeoff.networks import ALIGNED, ALIGNED_BY, EDGE_BY

GOLDEN = {
    0.6: {"sharpness": 15.99, "squared_l2": 1.001, "l1": 1.046, "risk": 1.245},
    1.05: {"sharpness": 15.19, "squared_l2": 1.102, "l1": 1.399, "risk": 0.793},
}
"""A table computed apart, by rate over the measured critical one, which is ``CRITICAL``."""
CRITICAL = 0.12503
CONVERGES = {1.8: True, 1.95: False}
"""By rate, whether descent converged in that table."""

LEAST_PRODUCT = 16.0
"""4y², the least product of sharpness and squared l2 norm on the solutions."""

FROM = 1.2
"""Critical rates from which the sharpness of several samples is compared with 2/lr."""

ONE, SEVERAL = (tagged(role="diagonal", samples=samples).map(Descents.of) for samples in ("one", "several"))
SET_UP = (
    "x = (2, 1), y = 2, target (1/2, 1), from weights of 1e-3 down to a loss of 1e-12. Reviewers call one sample "
    "little evidence: see the claims about several."
)
TABLE = "a table computed apart"
INSIDE = "learning rates between that of the least test error and the nearer of the critical and the largest stable one"


def _exact(value: float, beside: Mapping[str, float] | None = None) -> Measured:
    return Measured(Estimate.exact(value), beside or {})


def _claim(
    words: str,
    sentence: str,
    quantity: str,
    region: tuple[float, float],
    origin: str,
    measure: Callable[[Any], Measured],
    each: Selection[Any] = ONE,
    **more: Any,
) -> TestedClaim[Any]:
    samples = "several" if words.startswith("several") else "one"
    stated: dict[str, Any] = {"source": "closed form (es.theory.diagonal)", "status": "derived", "how": SET_UP}
    return claim(
        f"tradeoff.{words}",
        sentence=f"Diagonal network, {'several samples' if samples == 'several' else 'one sample'}: {sentence}",
        quantity=quantity,
        region=region,
        origin=origin,
        each=each,
        figure=f"diagonal-{samples}-sample{'s' * (samples == 'several')}",
        **stated | more,
    )(measure)


_paper = partial(_claim, source=f"{MATVEEV}, claim 7", status="second hand")
_table = partial(_claim, source=TABLE, names_cases=True)


def _minimisers(one: Descents) -> list[Item[Measured]]:
    """How many times as large as at the other minimiser sharpness and norm are, at the one that does not minimise."""
    found = []
    for quantity, large, small in (("sharpness", "norm", "sharpness"), ("squared_l2", "sharpness", "norm")):
        both = {f"at the {name} minimiser": one.theory[f"{name}/{quantity}"] for name in (large, small)}
        more, less = both.values()
        found.append(Item("S" if quantity == "sharpness" else "|w|₂²", _exact(more / less, both)))
    return found


def _best_inside(one: Descents) -> Measured:
    at = one.best()
    theory = {"best η of theory": one.theory["best_lr"], "best η of descent": at * one.flow["critical_lr"]}
    return _exact(one.beyond(at), {"at η/η_c": at} | theory)


def _best_below_both(one: Descents) -> Measured:
    both = {f"of the {name} minimiser": one.theory[f"{name}/risk"] for name in ("norm", "sharpness")}
    return _exact(one.values("risk").min() / min(both.values()), both)


def _table_errors(one: Descents) -> list[Item[Measured]]:
    """Over its tolerance, 1% for a row and 0.1% for the critical rate; infinite for a row that did not converge."""
    found = [Item("critical learning rate", _exact(abs(one.flow["critical_lr"] / CRITICAL - 1) / 1e-3))]
    for ratio, values in GOLDEN.items():
        if row := one.at(ratio):
            arrived = row["status"] == "converged"
            errors = {k: abs(float(row[k]) / v - 1) if arrived else np.inf for k, v in values.items()}
            found.append(Item(f"row {ratio}", _exact(max(errors.values()) / 0.01, errors)))
    return found


def _convergence(one: Descents) -> list[Item[Measured]]:
    rows = {ratio: one.at(ratio) for ratio in CONVERGES}
    as_stated = {r: (row["status"] == "converged") == CONVERGES[r] for r, row in rows.items() if row}
    return [Item(f"{ratio} critical learning rates", _exact(agrees)) for ratio, agrees in as_stated.items()]


def _late_gap(one: Descents) -> Measured:
    return _exact(1 - float(one.values("sharpness", 1.799, 1.801)[0] * one.values("lr", 1.799, 1.801)[0]) / 2)


def _l1_peak(one: Descents) -> Measured:
    peak = float(one.values("ratio", 1.0)[one.values("l1", 1.0).argmax()])
    return _exact(one.beyond(peak), {"largest at η/η_c": peak})


def _controls(one: Descents) -> list[Item[Measured]]:
    best = {name: one.best(f"risk/{name}") for name in ("norm", "sharpness")}
    ratios = one.values("ratio")
    missed = {"norm": (ratios >= 1) & (ratios <= best["norm"]), "sharpness": ratios > best["sharpness"]}
    return [
        Item(f"{name} minimiser", _exact(float(missed[name].sum()) if np.isfinite(at) else np.nan, {"best η/η_c": at}))
        for name, at in best.items()
    ]


def _as_it_is(measured: Measured) -> Measured:
    return measured


ONE_SAMPLE = (
    _paper(
        "one-sample-minimisers-differ",
        "the minimisers of norm and sharpness differ",
        "S of the norm minimiser over that of the sharpness minimiser; |w|₂² the other way round",
        (1.01, np.inf),
        "ours: 1% apart",
        _as_it_is,
        ONE.expand(_minimisers),
        names_cases=True,
    ),
    _paper(
        "one-sample-best-inside",
        "the least test error of gradient descent is at neither of the minimisers of norm and sharpness",
        INSIDE,
        (1, np.inf),
        "the claim: at neither end",
        _best_inside,
    ),
    _paper(
        "one-sample-best-below-both",
        "the least test error of gradient descent is below that of both minimisers",
        "least test error over the smaller one of both minimisers",
        (0.0, 1.0),
        "the claim: below both",
        _best_below_both,
    ),
    _table(
        "one-sample-table",
        "critical learning rate, sharpness, norms and test error are those of a table computed apart",
        "largest relative error over the tolerance of the table, 1% (critical learning rate: 0.1%)",
        (0.0, 1.0),
        "the tolerance given with the table",
        _as_it_is,
        ONE.expand(_table_errors),
    ),
    _table(
        "one-sample-convergence",
        "gradient descent converges at 1.8 critical learning rates, and does not at 1.95",
        "whether it ended so (1) or not (0)",
        (1, 1),
        TABLE,
        _as_it_is,
        ONE.expand(_convergence),
    ),
    _table(
        "one-sample-late-gap",
        "at 1.8 critical learning rates the sharpness ends below 2/η, by less than 12%",
        "1 - S/(2/η)",
        (0.0, 0.12),
        "given with the table: the end depends on the transient",
        _late_gap,
    ),
    _claim(
        "one-sample-least-product",
        "sharpness times squared norm is at least 4y² at every learning rate",
        "least S |w|₂² over 4y²",
        (1 - 1e-6, np.inf),
        "derived: Cauchy and Schwarz; 1e-6 for a loss above 0",
        lambda one: _exact((one.values("sharpness") * one.values("squared_l2")).min() / LEAST_PRODUCT),
    ),
    _claim(
        "one-sample-largest-rate",
        "no learning rate above 1/(2 y x_min) converges",
        "largest learning rate that converged over 1/(2 y x_min)",
        (0.0, 1.0),
        "derived: no solution is linearly stable beyond",
        lambda one: _exact(one.values("lr").max() / one.theory["largest_stable_lr"]),
    ),
    _claim(
        "one-sample-l2-grows",
        "above the critical learning rate the l2 norm grows with the learning rate",
        "smallest step of |w|₂² from one learning rate to the next, over its first value",
        (1e-9, np.inf),
        "derived: the norm that gradient flow minimises in this network",
        lambda one: _exact(min(np.diff(v := one.values("squared_l2", 1.0)), default=np.nan) / v[0]),
    ),
    _claim(
        "one-sample-l1-rises-and-falls",
        "above the critical learning rate the l1 norm rises and falls again, so that its linear growth is no law",
        "learning rates between that of the largest |w|₁ and the nearer of the critical and the largest one",
        (1, np.inf),
        "derived: |w|₁ is concave on the way from the norm to the sharpness minimiser",
        _l1_peak,
    ),
    _claim(
        "one-sample-controls",
        "with a target at one of the minimisers one bias alone is best, that to small norms (below the critical "
        "learning rate) or that to small sharpness (the largest that converges)",
        "learning rates by which the best one misses where this bias is largest",
        (0, 0),
        "derived: an optimum inside needs a target between both minimisers",
        _as_it_is,
        ONE.expand(_controls),
        names_cases=True,
    ),
)

_several = partial(
    _claim,
    each=SEVERAL,
    source=f"{REVIEWS}: one sample is little evidence",
    status="ours",
    how="Random inputs with fewer samples than inputs and a positive target with half of its entries zero; "
    "learning rates at which descent does not converge are left out. Such targets lie near the norm minimiser, for "
    "some draws so near that no larger learning rate can gain.",
)
TOLERANCE = "ours: the tolerance of the claims about networks"
OURS = "ours: the paper's theory has one sample"
SEVERAL_SAMPLES = (
    _several(
        "several-samples-aligned",
        "below the critical learning rate gradient descent ends with the norm of gradient flow",
        f"largest relative difference of |w|₂² from the flow's, up to {ALIGNED} critical learning rates",
        (0.0, ALIGNED_BY),
        TOLERANCE,
        lambda d: _exact(np.abs(d.values("squared_l2", 0.0, ALIGNED) / d.flow["squared_l2_norm"] - 1).max()),
    ),
    _several(
        "several-samples-edge",
        "above the critical learning rate the final sharpness is 2/η",
        f"largest difference of S/(2/η) from 1, from {FROM} critical learning rates on",
        (0.0, EDGE_BY),
        TOLERANCE,
        lambda d: _exact(np.abs(d.values("sharpness", FROM) * d.values("lr", FROM) / 2 - 1).max()),
    ),
    _several(
        "several-samples-norm-grows",
        "the norm at the largest learning rate that converges is above the flow's",
        "|w|₂² at the largest learning rate that converges over the flow's",
        (1.0, np.inf),
        OURS,
        lambda d: _exact(d.values("squared_l2", FROM)[-1] / d.flow["squared_l2_norm"]),
    ),
    _several(
        "several-samples-best-inside",
        "the least test error lies above the critical learning rate, short of the largest",
        INSIDE,
        (1, np.inf),
        OURS,
        _best_inside,
    ),
    _several(
        "several-samples-gains",
        "some learning rate has a test error 1% below that of gradient flow",
        "least test error over that of the flow",
        (0.0, 0.99),
        f"{OURS}; 1% is our limit",
        lambda d: _exact(d.values("risk").min() / d.flow["risk"]),
    ),
)
