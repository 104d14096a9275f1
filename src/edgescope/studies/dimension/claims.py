"""The claims about the sharpness dimension: which measures follow the generalization gap over a grid, and how well."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from edgescope.claims import Open
from edgescope.experiments.dimension.grid import TARGETS, Correlations, Statistic
from edgescope.experiments.selection import CaseSelection, Item
from edgescope.experiments.study_run import Runs
from edgescope.statistics.estimate import Estimate
from edgescope.studies.stated_claim import stated_claim
from edgescope.studies.tested_claim import TestedClaim, Topic

PH = ("PH dimension", "PH dimension, losses")
SUMS = ("lifetime sum", "lifetime sum, losses")
OTHERS = ("RDS sharpness", *PH, *SUMS)
OPTIMIZERS = ("sgd", "sgd-momentum", "adamw")

Found = Item[Estimate | Open]
"""A correlation of one measure, or its lead over a rival, as a case."""


def _claim(name: str, each: CaseSelection[Estimate | Open]) -> TestedClaim[Estimate | Open]:
    """A claim whose cases are found from the correlations of a grid; nothing is left to measure."""
    return stated_claim(f"dimension.{name}", each=each)(lambda found: found)


def _family(role: str, optimizer: str = "") -> CaseSelection[Correlations]:
    """The grid of one architecture, if it has runs."""

    def choose(runs: Runs) -> list[Item[Correlations]]:
        found = Correlations.of(runs, role, optimizer)
        return [Item(optimizer or role, found, {"optimizer": optimizer} if optimizer else {})] if found.points else []

    return CaseSelection(choose)


def _values(*measures: str, statistic: Statistic = "tau") -> Callable[[Correlations], list[Found]]:
    """A case for each of these measures and each gap."""
    return lambda found: [
        Item(f"{name}, {gap}", found.value(name, gap, statistic), {"measure": name, "gap": gap})
        for name, gap in itertools.product(measures, TARGETS)
    ]


def _leads(measures: Sequence[str], rivals: Sequence[str]) -> Callable[[Correlations], list[Found]]:
    """A case for each of these measures, each rival and each gap: by how much it is ahead."""
    return lambda found: [
        Item(f"{name} ahead of {rival}, {gap}", found.lead(name, rival, gap), {"rival": rival, "gap": gap})
        for name, rival, gap in itertools.product(measures, rivals, TARGETS)
    ]


def _granulated(found: Correlations) -> list[Found]:
    """The better of the two homology dimensions against every rival, in the granulated coefficient."""
    items: list[Found] = []
    for gap in TARGETS:
        known = [value for name in PH if isinstance(value := found.value(name, gap, "psi"), Estimate)]
        best = max(known, key=lambda estimate: estimate.value, default=None)
        for rival in ("SD-SLQ", "SD-KDE", "RDS sharpness", *SUMS):
            other = found.value(rival, gap, "psi")
            lead: Estimate | Open = Open("Ψ is not defined", "more networks")
            if best is not None and isinstance(other, Estimate):
                lead = Estimate(best.value - other.value, best.low - other.high, best.high - other.low)
            items.append(Item(f"ahead of {rival}, {gap}", lead, {"rival": rival, "gap": gap}))
    return items


def _of_every_optimizer(runs: Runs) -> list[Found]:
    """The two cheap estimators on the language models of each optimizer."""
    return [
        Item(f"{optimizer}, {item.name}", item.value, item.factors)
        for optimizer in OPTIMIZERS
        for item in _family("gpt", optimizer).expand(_values("SD-KDE", "SD-PS"))(runs)
    ]


SMALL, LARGER, UNDER_ADAMW = _family("mlp"), _family("wide"), _family("gpt", "adamw")
NORMS = ("norm", "distance travelled", "path norm")

GRID_TOPICS = (
    Topic(
        "Small network",
        (
            _claim("small-homology-fails", SMALL.expand(_values(*PH))),
            _claim("small-lifetime-sums", SMALL.expand(_values(*SUMS))),
            _claim("small-rds-against", SMALL.expand(_values("RDS sharpness"))),
            _claim("small-better", SMALL.expand(_leads(("SD exact", "SD-SLQ"), OTHERS))),
            _claim("small-exact-best", SMALL.expand(_leads(("SD exact",), ("SD-SLQ", "SD-KDE", "SD-PS", *OTHERS)))),
        ),
    ),
    Topic(
        "Larger network",
        (
            _claim("larger-slq-best", LARGER.expand(_leads(("SD-SLQ",), ("SD-KDE", *OTHERS)))),
            _claim("larger-granulated-homology", LARGER.expand(_granulated)),
        ),
    ),
    Topic(
        "Language models",
        (
            _claim("gpt-sharpness-against", UNDER_ADAMW.expand(_values("largest eigenvalue"))),
            _claim("gpt-every-optimizer", CaseSelection(_of_every_optimizer)),
        ),
    ),
    Topic(
        "Controls",
        (
            _claim("beyond-settings", SMALL.expand(_values("SD exact", statistic="partial"))),
            _claim("fixed-rate", SMALL.expand(_values("SD exact, fixed η"))),
            _claim("better-than-norms", SMALL.expand(_leads(("SD exact",), NORMS))),
        ),
    ),
)
