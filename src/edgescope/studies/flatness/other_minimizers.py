"""The claims about other minimizers of the trace, and about whether the trace explains the test error."""

from __future__ import annotations

import math
from typing import Any

from edgescope.claims import Measured, Open
from edgescope.errors import InputError
from edgescope.experiments.flatness.seed_runs import ARCHITECTURES, Pair, SeedRuns, answer, pairs, seed_runs
from edgescope.experiments.flatness.trace_and_error import TraceAndError, trace_and_error
from edgescope.experiments.selection import CaseSelection
from edgescope.statistics.estimate import Estimate
from edgescope.statistics.kendall import kendall
from edgescope.statistics.means import sample_mean
from edgescope.studies.flatness.least_trace import still_falls
from edgescope.studies.flatness.with_bias import FLAT, not_flat
from edgescope.studies.stated_claim import stated_claim
from edgescope.studies.tested_claim import TestedClaim

ALMOST = 0.95
"""The test accuracy that divides networks that generalize from those that do not."""


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


def _other_minimizer(method: str) -> tuple[TestedClaim[SeedRuns], TestedClaim[Pair]]:
    """Whether another minimizer reaches the same traces, and divides the architectures in the same way."""
    name, runs = f"flatness.{method.lower()}", seed_runs(network=ARCHITECTURES, method=method)
    flattens = stated_claim(f"{name}-flattens", each=runs)(_flattens)
    return flattens, stated_claim(f"{name}-divides", each=pairs(ARCHITECTURES, method, "1SAM"))(_divides)


@stated_claim("flatness.explains-error", each=CaseSelection(trace_and_error))
def explains_error(networks: TraceAndError) -> Estimate | Open:
    sharpness, errors = networks
    if len(errors) < 5:
        return Open(f"{len(errors)} networks that have fitted their samples", "more seeds")
    try:
        found = kendall(sharpness.tolist(), errors.tolist(), ties="b")
    except InputError as error:
        return Open(str(error).splitlines()[0], "more methods")
    return Estimate(found.value, min(found.low, found.value), max(found.high, found.value), found.points, "networks")


OTHER_MINIMIZERS: tuple[TestedClaim[Any], ...] = (
    *_other_minimizer("noise"),
    *_other_minimizer("SAM"),
    explains_error,
)
