"""The claims about eigenvalues, outputs and Taylor models of runs at the edge of another norm."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgescope.claims import Measured, Open
from edgescope.errors import InputError
from edgescope.experiments.geometries.descents import DescentRun, descents
from edgescope.experiments.selection import CaseSelection, Item
from edgescope.experiments.study_run import Runs
from edgescope.experiments.threshold_series import AT_LEAST
from edgescope.statistics.estimate import Estimate
from edgescope.statistics.kendall import kendall
from edgescope.statistics.means import time_mean
from edgescope.studies.geometries.hovering import METHODS
from edgescope.studies.stated_claim import stated_claim

WINDOW = 10
"""Steps over which the cosine of output changes is averaged to say that outputs oscillate."""


@stated_claim("geometries.plain-eigenvalue", each=descents(method=("linf", "spectral")))
def plain_eigenvalue(run: DescentRun) -> Estimate | Open:
    return run.not_at_edge or Estimate.exact(run.plain)


@dataclass(frozen=True, eq=False)
class BesideDescent:
    """A run, and gradient descent on the same network."""

    run: DescentRun
    plain: DescentRun | None


def _beside_descent(runs: Runs) -> list[Item[BesideDescent]]:
    plain = {item.factors["network"]: item.value for item in descents(method="gd")(runs)}
    found = descents(method=("linf", "spectral"))(runs)
    return [Item(i.name, BesideDescent(i.value, plain.get(i.factors["network"])), i.factors) for i in found]


@stated_claim("geometries.outputs-oscillate-first", each=CaseSelection(_beside_descent))
def outputs_oscillate_first(pair: BesideDescent) -> Measured | Open:
    onset, crossing = pair.run.oscillates(WINDOW), pair.run.crossing
    if math.isnan(crossing):
        return Open("S never crossed 2/η", "more steps")
    beside = {"oscillates from step": onset, "S crosses at step": crossing}
    if pair.plain is not None:
        plain = {"oscillates from step": pair.plain.oscillates(WINDOW), "S crosses at step": pair.plain.crossing}
        beside |= {f"gradient descent {what}": value for what, value in plain.items()}
    return Measured(Estimate.exact(crossing - onset), beside)


@stated_claim("geometries.several-directions", each=descents(method="gd"))
def several_directions(run: DescentRun) -> Measured | Open:
    if run.not_at_edge:
        return run.not_at_edge
    count, _ = run.unstable_directions()
    return Measured(time_mean(count), {"mean of S over 2/η": run.sharpness.mean})


@stated_claim("geometries.more-directions-higher-sharpness", each=descents(method="gd"))
def more_directions_higher_sharpness(run: DescentRun) -> Estimate | Open:
    count, excess = run.unstable_directions()
    if len(count) < AT_LEAST:
        return run.not_at_edge or Open(f"{len(count)} readings after crossing", "more steps")
    try:
        found = kendall(count.astype(float).tolist(), excess.tolist(), ties="b")
    except InputError:
        return Open("the number of unstable directions never changed", "a longer run")
    return Estimate(found.value, min(found.low, found.value), max(found.high, found.value), len(count), "readings")


def _ahead(run: DescentRun, which: int) -> Estimate | None:
    largest = run.ahead[which]
    return Estimate.exact(largest) if run.ends_at_edge and not math.isnan(run.ahead[0]) else None


@stated_claim("geometries.model-diverges", each=descents(method=METHODS))
def model_diverges(run: DescentRun) -> Estimate | None:
    return _ahead(run, 0)


@stated_claim("geometries.network-does-not-diverge", each=descents(method=METHODS))
def network_does_not_diverge(run: DescentRun) -> Estimate | None:
    return _ahead(run, 1)


@stated_claim(
    "geometries.sharpness-above-eigenvalue", each=descents(method=("linf", "sign", "spectral", "spectral-normalized"))
)
def sharpness_above_eigenvalue(run: DescentRun) -> Measured | Open:
    lower, upper, plain, slack = run.against_eigenvalue()
    if not lower.size:
        return Open("S and λ were never measured together", "a longer run")
    value, ceiling = float(np.min(lower / (plain - slack))), float(np.min(upper / (plain - slack)))
    return Measured(
        Estimate(value, value, max(value, ceiling)), {"smallest S/λ from below": float(np.min(lower / plain))}
    )


@stated_claim("geometries.sharpness-below-eigenvalue", each=descents(method="blocks"))
def sharpness_below_eigenvalue(run: DescentRun) -> Measured | Open:
    lower, upper, plain, slack = run.against_eigenvalue()
    if not lower.size:
        return Open("S and λ were never measured together", "a longer run")
    value, ceiling = float(np.max(lower / (plain + slack))), float(np.max(upper / plain)) - 1e-3
    return Measured(
        Estimate(value, value, max(value, ceiling)), {"largest S/λ from below": float(np.max(lower / plain))}
    )


EIGENVALUES_AND_OUTPUTS = (
    plain_eigenvalue,
    outputs_oscillate_first,
    several_directions,
    more_directions_higher_sharpness,
    sharpness_above_eigenvalue,
    sharpness_below_eigenvalue,
)
TAYLOR_MODEL = (model_diverges, network_does_not_diverge)
