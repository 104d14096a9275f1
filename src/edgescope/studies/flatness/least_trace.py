"""The claims about the least trace of an interpolating network: what reaches it, and networks in closed form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from edgescope.claims import Region
from edgescope.statistics.estimate import Estimate
from edgescope.statistics.means import sample_mean
from edgescope.studies.flatness.generalization import TOLERANCE
from edgescope.studies.flatness.seed_runs import WEN, SeedRuns, answer, seed_runs
from edgescope.studies.selection import Item, tagged
from edgescope.studies.study_run import StudyRun
from edgescope.studies.tested_claim import Measured, Open, claim

NEAR = 0.10


def still_falls(run: SeedRuns, excess: Estimate, least: float) -> Open | None:
    """Why a trace above ``least`` says nothing yet; None where it has arrived, or lies below."""
    if run.not_fitted:
        return run.not_fitted
    return Open("the trace still falls", "more epochs") if excess.value > least and run.falling else None


@claim(
    "flatness.reaches-least-trace",
    sentence="1-SAM approximately reaches the least trace where it is known",
    source=WEN,
    quantity="trace of the Hessian over the least one of any interpolating network",
    region=Region.around(1.0, NEAR),
    origin=f"{TOLERANCE}: 10%",
    each=seed_runs(network=("batchnorm", "bias", "layernorm", "logistic", "three-layers"), method="1SAM"),
    figure="scenarios",
    how="Mean over seeds at the end of training. Without bias only a lower bound is known, which no network on these "
    "data need attain. 1-SAM keeps a small residual, so that its trace may dip under the bound of exact interpolators. "
    "Open where the trace lies above the region and still falls by more than 5% while the epochs double.",
)
def reaches_least_trace(run: SeedRuns) -> Measured | Open:
    excess = sample_mean(run.excess)
    return answer(still_falls(run, excess, 1 + NEAR), excess, run.beside())


Construction = dict[str, float]
"""What was computed of a network in closed form, by name."""


def _constructions(run: StudyRun) -> Sequence[Item[Construction]]:
    found: dict[str, Construction] = {}
    for part, value in run.record.table().select("part", "value").drop_nulls().iter_rows():
        name, _, figure = part.partition(": ")
        found.setdefault(name, {})[figure] = value
    for name, values in found.items():
        # Without bias the best network known, and the least on the whole hypercube, has sqrt(2) times the bound.
        values["attained"] = values["least"] * (np.sqrt(2) if name.startswith("no-bias") else 1)
    return [Item(name, values, {"kind": name.partition(", ")[2]}) for name, values in found.items()]


def _kind(kind: str, run: StudyRun) -> Sequence[Item[Construction]]:
    return [item for item in _constructions(run) if item.factors["kind"] == kind]


CONSTRUCTIONS = tagged(role="constructions")


def _exactly(figure: str) -> Callable[[Construction], Estimate]:
    return lambda network: Estimate.exact(network[figure])


trace_lemma = claim(
    "flatness.trace-lemma",
    sentence="At interpolation the trace of the Hessian is 2/n times the sum of squared gradient norms",
    source=f"{WEN}, trace lemma",
    quantity="relative difference from the trace of the dense Hessian",
    region=(0.0, 1e-6),
    origin=TOLERANCE,
    each=CONSTRUCTIONS.expand(_constructions),
    how="On networks that interpolate exactly, in 6 dimensions, where the whole Hessian is formed.",
)(_exactly("lemma"))

in_closed_form = partial(
    claim,
    source=f"{WEN}, theorems and constructions",
    origin="derived and checked here; the tolerance given with the claim",
    status="derived",
    how="xor in 30 dimensions, 100 samples. Corrected: the generalizing network with bias has r = (d+1)^(1/4), the "
    "least trace of batch norm is 8, not 4, and without bias it is 4 sqrt(2d) on the whole hypercube.",
)


@in_closed_form(
    "flatness.closed-forms-flattest",
    sentence="The networks in closed form that memorize and those that generalize have the least trace",
    quantity="relative difference of the trace from the least one",
    region=(0.0, 1e-3),
    each=CONSTRUCTIONS.expand(_constructions),
)
def closed_forms_flattest(network: Construction) -> Measured:
    beside = {"trace": network["trace"], "least trace": network["attained"]}
    return Measured(Estimate.exact(abs(network["trace"] / network["attained"] - 1)), beside)


closed_forms_interpolate = in_closed_form(
    "flatness.closed-forms-interpolate",
    sentence="The networks in closed form interpolate their samples",
    quantity="largest residual",
    region=(0.0, 1e-3),
    each=CONSTRUCTIONS.expand(_constructions),
)(_exactly("residual"))

flattest_generalize = in_closed_form(
    "flatness.flattest-generalize",
    sentence="Flattest networks exist that generalize everywhere",
    quantity="population error",
    region=(0.0, 0.0),
    each=CONSTRUCTIONS.expand(partial(_kind, "generalizing")),
)(_exactly("error"))

flattest_memorize = in_closed_form(
    "flatness.flattest-memorize",
    sentence="Flattest networks exist that err on all inputs but their samples",
    quantity="population error",
    region=(0.99, 1.0),
    each=CONSTRUCTIONS.expand(partial(_kind, "memorizing")),
)(_exactly("error"))

LEAST_TRACE = (
    reaches_least_trace,
    trace_lemma,
    closed_forms_flattest,
    closed_forms_interpolate,
    flattest_generalize,
    flattest_memorize,
)
