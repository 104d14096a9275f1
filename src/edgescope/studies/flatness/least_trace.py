"""The claims about the least trace of an interpolating network: what reaches it, and networks in closed form."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgescope.claims import Measured, Open
from edgescope.experiments.flatness.constructions import Construction, constructions
from edgescope.experiments.flatness.seed_runs import SeedRuns, answer, seed_runs
from edgescope.experiments.selection import CaseSelection, Item, tagged
from edgescope.experiments.study_run import StudyRun
from edgescope.statistics.estimate import Estimate
from edgescope.statistics.means import sample_mean
from edgescope.studies.stated_claim import stated_claim

NEAR = 0.10
"""Part of the least trace within which a trace has reached it."""


def still_falls(run: SeedRuns, excess: Estimate, least: float) -> Open | None:
    """Why a trace above ``least`` says nothing yet; None where it has arrived, or lies below."""
    if run.not_fitted:
        return run.not_fitted
    return Open("the trace still falls", "more epochs") if excess.value > least and run.falling else None


@stated_claim(
    "flatness.reaches-least-trace",
    each=seed_runs(network=("batchnorm", "bias", "layernorm", "logistic", "three-layers"), method="1SAM"),
)
def reaches_least_trace(run: SeedRuns) -> Measured | Open:
    excess = sample_mean(run.excess)
    return answer(still_falls(run, excess, 1 + NEAR), excess, run.beside())


ALL = tagged(role="constructions").expand(constructions)


def _kind(kind: str) -> CaseSelection[Construction]:
    """The networks in closed form of one kind."""

    def chosen(run: StudyRun) -> Sequence[Item[Construction]]:
        return [item for item in constructions(run) if item.factors["kind"] == kind]

    return tagged(role="constructions").expand(chosen)


def _exactly(figure: str) -> Callable[[Construction], Estimate]:
    return lambda network: Estimate.exact(network[figure])


@stated_claim("flatness.closed-forms-flattest", each=ALL)
def closed_forms_flattest(network: Construction) -> Measured:
    beside = {"trace": network["trace"], "least trace": network["attained"]}
    return Measured(Estimate.exact(abs(network["trace"] / network["attained"] - 1)), beside)


LEAST_TRACE = (
    reaches_least_trace,
    stated_claim("flatness.trace-lemma", each=ALL)(_exactly("lemma")),
    closed_forms_flattest,
    stated_claim("flatness.closed-forms-interpolate", each=ALL)(_exactly("residual")),
    stated_claim("flatness.flattest-generalize", each=_kind("generalizing"))(_exactly("error")),
    stated_claim("flatness.flattest-memorize", each=_kind("memorizing"))(_exactly("error")),
)
