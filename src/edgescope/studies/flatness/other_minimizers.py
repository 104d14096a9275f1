"""The claims about other minimizers of the trace, and about whether the trace explains the test error."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float

from edgescope.errors import InputError
from edgescope.statistics.estimate import Estimate
from edgescope.statistics.kendall import kendall
from edgescope.statistics.means import sample_mean
from edgescope.studies.flatness.generalization import ALMOST
from edgescope.studies.flatness.least_trace import still_falls
from edgescope.studies.flatness.seed_runs import ARCHITECTURES, TITLES, WEN, Pair, SeedRuns, answer, pairs, seed_runs
from edgescope.studies.flatness.with_bias import FLAT, not_flat
from edgescope.studies.selection import Item, Selection
from edgescope.studies.study_run import Runs
from edgescope.studies.tested_claim import Measured, Open, TestedClaim, claim


def _attained(run: SeedRuns) -> float:
    """The trace of the best network known over the bound."""
    return math.sqrt(2) if run.run.tags["network"] == "no-bias" else 1.0


def _flattens(run: SeedRuns) -> Measured | Open:
    excess = sample_mean(run.excess / _attained(run))
    return answer(still_falls(run, excess, FLAT), excess, run.beside())


def _divides(pair: Pair) -> Measured | Open:
    run, sam = pair[0], pair[1].accuracy
    stop = run.not_fitted or pair[1].not_fitted or not_flat(run, _attained(run))
    if not stop and not (sam.known and (sam.low >= ALMOST or sam.high < ALMOST)):
        stop = Open(f"the interval of 1-SAM reaches over {ALMOST:g}", "more seeds of 1-SAM")
    beyond = sample_mean((1 - run.last("test_error") - ALMOST) * (1 if sam.value >= ALMOST else -1))
    return answer(stop, beyond, {"test accuracy": run.accuracy, "test accuracy of 1-SAM": sam})


def _other_minimizer(method: str, title: str) -> tuple[TestedClaim[SeedRuns], TestedClaim[Pair]]:
    """Whether another minimizer reaches the same traces, and divides the architectures in the same way."""
    stated = partial(
        claim,
        source="question of this study: the paper runs 1-SAM only",
        status="ours",
        figure="minimizers",
        how="Mean over seeds. Without bias the least trace is taken as that of the best network known, sqrt(2) times "
        f"the bound. A network whose trace is more than {FLAT:g} times the least one says nothing of generalization, "
        "and nothing of flatness where it still falls by more than 5% while the epochs double. Noise and radius are "
        "ours.",
    )
    flattens = stated(
        f"flatness.{method.lower()}-flattens",
        sentence=f"{title} flattens the four networks as 1-SAM does",
        quantity="trace of the Hessian over the least one",
        region=(0.0, FLAT),
        origin="ours: within 20% of the least trace",
        each=seed_runs(network=ARCHITECTURES, method=method),
    )(_flattens)
    divides = stated(
        f"flatness.{method.lower()}-divides",
        sentence=f"{title} divides the four networks as 1-SAM does: those that it flattens generalize where these do",
        quantity=f"how far the test accuracy lies from {ALMOST:g}, positive on the side on which that of 1-SAM lies",
        region=(0.0, np.inf),
        origin=f"ours: the same side of {ALMOST:g}",
        each=pairs(ARCHITECTURES, method, "1SAM"),
    )(_divides)
    return flattens, divides


Points = tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]
"""Sharpness and test error of trained networks."""


def _points(runs: Runs) -> list[Item[Points]]:
    """Of each architecture its traces, and of all together the traces over the least ones."""
    fitted = [item.value for item in seed_runs(network=ARCHITECTURES)(runs) if not item.value.not_fitted]
    items = []
    for name in ARCHITECTURES:
        if of := [run for run in fitted if run.run.tags["network"] == name]:
            traces, errors = (np.concatenate([run.last(m) for run in of]) for m in ("trace", "test_error"))
            items.append(Item(TITLES[name], (traces, errors), {"network": name}))
    if fitted:
        excess = np.concatenate([run.excess for run in fitted])
        every = (excess, np.concatenate([run.last("test_error") for run in fitted]))
        items.append(Item("all four, trace over least", every))
    return items


@claim(
    "flatness.explains-error",
    sentence="Flatness explains generalization: within every architecture, and over all, the flatter network errs less",
    source=f"{WEN}, refuted by their title",
    quantity="Kendall's τ of trace and test error over methods and seeds",
    region=(0.0, 1.0),
    origin="ours: a positive rank correlation",
    status="ours",
    each=Selection(_points),
    names_cases=True,
    figure="explained",
    how="At the end of training, of runs that have fitted their samples; the interval is that of the bootstrap over "
    "networks, which takes seeds of one method as independent. An architecture whose networks all have the same error "
    "has no τ.",
)
def explains_error(points: Points) -> Estimate | Open:
    sharpness, errors = points
    if len(errors) < 5:
        return Open(f"{len(errors)} networks that have fitted their samples", "more seeds")
    try:
        found = kendall(sharpness.tolist(), errors.tolist(), ties="b")
    except InputError as error:
        return Open(str(error).splitlines()[0], "more methods")
    return Estimate(found.value, min(found.low, found.value), max(found.high, found.value), found.points, "networks")


OTHER_MINIMIZERS: tuple[TestedClaim[Any], ...] = (
    *_other_minimizer("noise", "Label-noise SGD"),
    *_other_minimizer("SAM", "Full-batch SAM"),
    explains_error,
)
