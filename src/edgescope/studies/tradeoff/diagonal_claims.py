"""The claims about diagonal linear networks, where everything can be written down: on one sample, and on several."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from edgescope.claims import Measured
from edgescope.experiments.selection import Item
from edgescope.experiments.tradeoff.diagonal_descents import Descents, descents
from edgescope.statistics.estimate import Estimate
from edgescope.studies.stated_claim import stated_claim
from edgescope.studies.tested_claim import TestedClaim
from edgescope.studies.tradeoff.network_claims import ALIGNED

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


def _one(words: str, measure: Callable[[Descents], Measured]) -> TestedClaim[Descents]:
    """A claim about descents on one sample."""
    return stated_claim(f"tradeoff.one-sample-{words}", each=descents("one"))(measure)


def _parts_of_one(words: str, measure: Callable[[Descents], list[Item[Measured]]]) -> TestedClaim[Measured]:
    """A claim about descents on one sample with several cases, which are measured together."""
    return stated_claim(f"tradeoff.one-sample-{words}", each=descents("one").expand(measure))(lambda measured: measured)


def _several(words: str, measure: Callable[[Descents], Measured]) -> TestedClaim[Descents]:
    """A claim about descents on several samples."""
    return stated_claim(f"tradeoff.several-samples-{words}", each=descents("several"))(measure)


def _exact(value: float, beside: Mapping[str, float] | None = None) -> Measured:
    return Measured(Estimate.exact(value), beside or {})


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


def _least_product(one: Descents) -> Measured:
    return _exact((one.values("sharpness") * one.values("squared_l2")).min() / LEAST_PRODUCT)


def _largest_rate(one: Descents) -> Measured:
    return _exact(one.values("lr").max() / one.theory["largest_stable_lr"])


def _l2_steps(one: Descents) -> Measured:
    norms = one.values("squared_l2", 1.0)
    return _exact(min(np.diff(norms), default=np.nan) / norms[0])


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


def _norm_of_the_flow(one: Descents) -> Measured:
    return _exact(np.abs(one.values("squared_l2", 0.0, ALIGNED) / one.flow["squared_l2_norm"] - 1).max())


def _off_the_edge(one: Descents) -> Measured:
    return _exact(np.abs(one.values("sharpness", FROM) * one.values("lr", FROM) / 2 - 1).max())


def _last_norm(one: Descents) -> Measured:
    return _exact(one.values("squared_l2", FROM)[-1] / one.flow["squared_l2_norm"])


def _gain(one: Descents) -> Measured:
    return _exact(one.values("risk").min() / one.flow["risk"])


ONE_SAMPLE = (
    _parts_of_one("minimisers-differ", _minimisers),
    _one("best-inside", _best_inside),
    _one("best-below-both", _best_below_both),
    _parts_of_one("table", _table_errors),
    _parts_of_one("convergence", _convergence),
    _one("late-gap", _late_gap),
    _one("least-product", _least_product),
    _one("largest-rate", _largest_rate),
    _one("l2-grows", _l2_steps),
    _one("l1-rises-and-falls", _l1_peak),
    _parts_of_one("controls", _controls),
)
SEVERAL_SAMPLES = (
    _several("aligned", _norm_of_the_flow),
    _several("edge", _off_the_edge),
    _several("norm-grows", _last_norm),
    _several("best-inside", _best_inside),
    _several("gains", _gain),
)
