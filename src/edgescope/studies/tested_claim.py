"""A claim of a study together with how it is measured on one case; everything else is the same for all claims."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from edgescope.claims import Answer, Case, Claim, Finding, Measured, Open, Region, Row, Scope, Status, judge
from edgescope.experiments.selection import CaseSelection
from edgescope.experiments.study_run import Runs
from edgescope.statistics.estimate import Estimate

T = TypeVar("T")


@dataclass(frozen=True)
class TestedClaim(Generic[T]):
    """A claim, the selection of its cases, and the function that measures one of them."""

    claim: Claim
    each: CaseSelection[T]
    measure: Callable[[T], Answer]

    def finding(self, runs: Runs) -> Finding:
        """The verdict from the runs that left a record."""
        cases = []
        for item in self.each(runs):
            answer = self.measure(item.value)
            if answer is not None:
                cases.append(_case(item.name, item.factors, answer))
        return judge(self.claim, cases)


@dataclass(frozen=True)
class Topic:
    """Claims of a study that belong together, under a heading of the report's contents."""

    title: str
    claims: tuple[TestedClaim[Any], ...]


def claim(
    id: str,
    *,
    sentence: str,
    source: str,
    quantity: str,
    region: Region | tuple[float, float],
    origin: str,
    each: CaseSelection[T],
    status: Status = "from the paper",
    unit: str = "",
    scope: Scope = "every",
    names_cases: bool = False,
    figure: str = "",
    how: str = "",
) -> Callable[[Callable[[T], Answer]], TestedClaim[T]]:
    """Make a claim of a function that measures one case; what the arguments mean is said at :class:`Claim`.

    ``each`` selects what the function is called with, such as ``tagged(method="gd")``. The function returns the
    judged quantity as an :class:`Estimate`, or :class:`Measured` with others beside it, or :class:`Open` where the
    case did not reach what the sentence presupposes, or None where the sentence does not speak of the case.
    """
    where = region if isinstance(region, Region) else Region(*region)
    stated = Claim(id, sentence, source, quantity, where, origin, status, unit, scope, names_cases, figure, how)

    def decorate(measure: Callable[[T], Answer]) -> TestedClaim[T]:
        return TestedClaim(stated, each, measure)

    return decorate


def _case(name: str, factors: Mapping[str, str], answer: Estimate | Measured | Open) -> Case:
    if isinstance(answer, Estimate):
        return Case(name, answer, factors=factors)
    beside = answer.beside
    rows = beside if isinstance(beside, tuple) else tuple(Row.of(key, value) for key, value in beside.items())
    if isinstance(answer, Open):
        return Case(name, Estimate(answer.value), answer.why, answer.needs, factors, rows)
    return Case(name, answer.estimate, answer.why, factors=factors, beside=rows)
