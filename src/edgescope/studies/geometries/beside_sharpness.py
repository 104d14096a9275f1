"""The claims about eigenvalues, outputs and Taylor models of runs at the edge of another norm."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgescope.errors import InputError
from edgescope.statistics.estimate import Estimate
from edgescope.statistics.kendall import kendall
from edgescope.statistics.means import time_mean
from edgescope.studies.geometries.descents import Descent, descents
from edgescope.studies.geometries.hovering import METHODS
from edgescope.studies.selection import Item, Selection
from edgescope.studies.sources import ISLAMOV
from edgescope.studies.study_run import Runs
from edgescope.studies.tested_claim import Measured, Open, claim
from edgescope.studies.threshold_series import AT_LEAST

DIVERGED = 100.0
"""The largest loss ahead over the present one beyond which a model, or a network, is said to diverge."""

WINDOW = 10
"""Steps over which the cosine of output changes is averaged to say that outputs oscillate."""


@claim(
    "geometries.plain-eigenvalue",
    sentence="Under Linf and Spectral descent the largest eigenvalue of the Hessian stays far below 2/η",
    source=ISLAMOV,
    quantity="largest eigenvalue over 2/η, the largest of all readings after S crossed",
    region=(-np.inf, 0.5),
    origin="the tolerance given with the claim: less than half",
    status="second hand",
    each=descents(method=("linf", "spectral")),
    figure="plain-mlp",
    how="The paper's networks are ResNet20 and VGG11 on CIFAR-10; these are small tanh networks (in the preset full a "
    "small residual network too) on Fashion-MNIST images and a transformer on a text.",
)
def plain_eigenvalue(run: Descent) -> Estimate | Open:
    return run.not_at_edge or Estimate.exact(run.plain)


@dataclass(frozen=True, eq=False)
class BesideDescent:
    """A run, and gradient descent on the same network."""

    run: Descent
    plain: Descent | None


def _beside_descent(runs: Runs) -> list[Item[BesideDescent]]:
    plain = {item.factors["network"]: item.value for item in descents(method="gd")(runs)}
    found = descents(method=("linf", "spectral"))(runs)
    return [Item(i.name, BesideDescent(i.value, plain.get(i.factors["network"])), i.factors) for i in found]


@claim(
    "geometries.outputs-oscillate-first",
    sentence="Under Linf and Spectral descent the outputs oscillate before S reaches 2/η",
    source=ISLAMOV,
    quantity="steps from the onset of oscillation to the crossing of S",
    region=(1, np.inf),
    origin="the order of the two events; the definition of oscillation is ours",
    status="second hand",
    unit="steps",
    each=Selection(_beside_descent),
    how=f"Outputs oscillate from the first {WINDOW} steps whose mean cosine between successive output changes is "
    "negative. Gradient descent on the same network is given for comparison and not judged.",
)
def outputs_oscillate_first(pair: BesideDescent) -> Measured | Open:
    onset, crossing = pair.run.oscillates(WINDOW), pair.run.crossing
    if math.isnan(crossing):
        return Open("S never crossed 2/η", "more steps")
    beside = {"oscillates from step": onset, "S crosses at step": crossing}
    if pair.plain is not None:
        plain = {"oscillates from step": pair.plain.oscillates(WINDOW), "S crosses at step": pair.plain.crossing}
        beside |= {f"gradient descent {what}": value for what, value in plain.items()}
    return Measured(Estimate.exact(crossing - onset), beside)


SEVERAL = (
    "Eigenvalues of the Hessian above 2/η, of the four largest, at measurements of gradient descent after crossing; in "
    "other norms unstable directions cannot be counted."
)


@claim(
    "geometries.several-directions",
    sentence="At the edge several directions are unstable at once",
    source=ISLAMOV,
    quantity="mean number of eigenvalues above 2/η",
    region=(1.0, 4.0),
    origin="ours: the paper's statement is qualitative",
    status="second hand",
    each=descents(method="gd"),
    figure="plain-mlp",
    how=SEVERAL,
)
def several_directions(run: Descent) -> Measured | Open:
    if run.not_at_edge:
        return run.not_at_edge
    count, _ = run.unstable_directions()
    return Measured(time_mean(count), {"mean of S over 2/η": run.sharpness.mean})


@claim(
    "geometries.more-directions-higher-sharpness",
    sentence="S lies slightly above 2/η because several directions are unstable: the more there are, the higher it is",
    source=ISLAMOV,
    quantity="Kendall's τ of S and the number of eigenvalues above 2/η",
    region=(0.3, 1.0),
    origin="ours: the paper's statement is qualitative",
    status="second hand",
    each=descents(method="gd"),
    figure="plain-mlp",
    how=f"{SEVERAL} The interval is that of the bootstrap over readings.",
)
def more_directions_higher_sharpness(run: Descent) -> Estimate | Open:
    count, excess = run.unstable_directions()
    if len(count) < AT_LEAST:
        return run.not_at_edge or Open(f"{len(count)} readings after crossing", "more steps")
    try:
        found = kendall(count.astype(float).tolist(), excess.tolist(), ties="b")
    except InputError:
        return Open("the number of unstable directions never changed", "a longer run")
    return Estimate(found.value, min(found.low, found.value), max(found.high, found.value), len(count), "readings")


AHEAD = (
    "Model and network take the same steps of the same method from the last point of the run, as many as its measure "
    "quadratic_model says. The claim speaks of runs whose S, from below, is at or above the threshold at that point."
)


def _ahead(run: Descent, which: int) -> Estimate | None:
    largest = run.ahead[which]
    return Estimate.exact(largest) if run.ends_at_edge and not math.isnan(run.ahead[0]) else None


@claim(
    "geometries.model-diverges",
    sentence="From a point at the edge the quadratic Taylor model diverges",
    source=ISLAMOV,
    quantity="largest loss ahead on the model over the present loss",
    region=(DIVERGED, np.inf),
    origin="ours: the paper's statement is qualitative",
    status="second hand",
    each=descents(method=tuple(METHODS)),
    figure="model-mlp",
    how=AHEAD,
)
def model_diverges(run: Descent) -> Estimate | None:
    return _ahead(run, 0)


@claim(
    "geometries.network-does-not-diverge",
    sentence="From the same point the network does not diverge",
    source=ISLAMOV,
    quantity="largest loss ahead on the network over the present loss",
    region=(-np.inf, DIVERGED),
    origin="ours: the paper's statement is qualitative",
    status="second hand",
    each=descents(method=tuple(METHODS)),
    figure="model-mlp",
    how=AHEAD,
)
def network_does_not_diverge(run: Descent) -> Estimate | None:
    return _ahead(run, 1)


BRACKET = (
    "The interval goes from the value from below to the certificate, so that a case holds or fails whatever the search "
    "for the maximum missed. The error of λ is added to it. Where S is positive."
)


@claim(
    "geometries.sharpness-above-eigenvalue",
    sentence="In the Linf and Spectral norms S is at least the largest eigenvalue λ",
    source="derived from the inequalities of the norms",
    quantity="smallest S/λ of all readings",
    region=(1.0, np.inf),
    origin="derived: the unit ball of the norm holds the Euclidean one",
    status="derived",
    each=descents(method=("linf", "sign", "spectral", "spectral-normalized")),
    figure="plain-mlp",
    how=BRACKET,
)
def sharpness_above_eigenvalue(run: Descent) -> Measured | Open:
    lower, upper, plain, slack = run.against_eigenvalue()
    if not lower.size:
        return Open("S and λ were never measured together", "a longer run")
    value, ceiling = float(np.min(lower / (plain - slack))), float(np.min(upper / (plain - slack)))
    return Measured(
        Estimate(value, value, max(value, ceiling)), {"smallest S/λ from below": float(np.min(lower / plain))}
    )


@claim(
    "geometries.sharpness-below-eigenvalue",
    sentence="In the block norm S is at most the largest eigenvalue λ",
    source="derived from the inequalities of the norms",
    quantity="largest S/λ of all readings",
    region=(-np.inf, 1.0),
    origin="derived: the unit ball of the norm lies in the Euclidean one",
    status="derived",
    each=descents(method="blocks"),
    figure="plain-mlp",
    how=f"{BRACKET} The certificate is precise to 0.1%, which is taken off.",
)
def sharpness_below_eigenvalue(run: Descent) -> Measured | Open:
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
