"""The claims about the sharpness dimension: which measures follow the generalization gap over a grid, and how well."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from edgescope.claims import Region
from edgescope.statistics.estimate import Estimate
from edgescope.studies.dimension.grid import TARGETS, Correlations, Statistic
from edgescope.studies.selection import Item, Selection
from edgescope.studies.sources import TUCI
from edgescope.studies.study_run import Runs
from edgescope.studies.tested_claim import Open, TestedClaim, Topic, claim

PH = ("PH dimension", "PH dimension, losses")
SUMS = ("lifetime sum", "lifetime sum, losses")
OTHERS = ("RDS sharpness", *PH, *SUMS)

FOLLOWS, AGAINST, AHEAD = Region(0.0, 1.0), Region(-1.0, 0.0), Region(0.0, 2.0)
SIGN = "the sign that the paper states"
ORDER = "the order that the paper states"

BOOTSTRAP = (
    "Kendall's τ over the networks of the grid, with the bootstrap interval over networks; a difference of two τ takes "
    "the same resamples for both. Accuracy gap and loss gap are absolute differences between test and training."
)

Pairs = Callable[[Correlations], Sequence[Item[Estimate | Open]]]


def _over(found: Selection[Correlations], pairs: Pairs) -> Selection[Estimate | Open]:
    return found.expand(pairs)


def _family(role: str, kind: str = "") -> Selection[Correlations]:
    def choose(runs: Runs) -> list[Item[Correlations]]:
        found = Correlations.of(runs, role, kind)
        return [Item(kind or role, found, {"optimizer": kind} if kind else {})] if found.points else []

    return Selection(choose)


SMALL, LARGER = _family("mlp"), _family("wide")


def _values(names: Sequence[str], statistic: Statistic = "tau") -> Pairs:
    """A case for each of these measures and each gap."""

    def pairs(found: Correlations) -> list[Item[Estimate | Open]]:
        return [
            Item(f"{name}, {target}", found.value(name, target, statistic), {"measure": name, "gap": target})
            for name, target in itertools.product(names, TARGETS)
        ]

    return pairs


def _leads(names: Sequence[str], rivals: Sequence[str]) -> Pairs:
    """A case for each of these measures, each rival and each gap: by how much it is ahead."""

    def pairs(found: Correlations) -> list[Item[Estimate | Open]]:
        return [
            Item(f"{name} ahead of {rival}, {gap}", found.lead(name, rival, gap), {"rival": rival, "gap": gap})
            for name, rival, gap in itertools.product(names, rivals, TARGETS)
            if name != rival
        ]

    return pairs


def _claim(
    id: str, sentence: str, each: Selection[Estimate | Open], region: Region, **more: str
) -> TestedClaim[Estimate | Open]:
    """A claim whose cases have been measured by the correlations of a grid."""
    settings = {"quantity": "Kendall's τ with the gap", "origin": SIGN, "how": BOOTSTRAP} | more
    decorate = claim(
        f"dimension.{id}",
        sentence=sentence,
        source=settings.pop("source"),
        quantity=settings.pop("quantity"),
        region=region,
        origin=settings.pop("origin"),
        each=each,
        how=settings.pop("how"),
        figure=settings.pop("figure"),
        status="ours" if settings.get("status") == "ours" else "from the paper",
    )
    return decorate(lambda found: found)


SMALL_NETWORK, LARGER_NETWORK = f"{TUCI}, claim 3", f"{TUCI}, claim 4"
IN_SMALL, IN_LARGER = "correlations-mlp", "correlations-wide"
LEAD = "Kendall's τ with the gap, less that of the rival"

homology_fails = _claim(
    "small-homology-fails",
    "Small network: both persistent-homology dimensions fail to follow the gap",
    _over(SMALL, _values(PH)),
    Region(-1.0, 0.14),
    source=SMALL_NETWORK,
    figure=IN_SMALL,
    origin="at most one standard deviation of τ without association, 0.14 for the 25 networks of the paper",
)
lifetime_sums = _claim(
    "small-lifetime-sums",
    "Small network: lifetime sums follow the gap weakly",
    _over(SMALL, _values(SUMS)),
    FOLLOWS,
    source=SMALL_NETWORK,
    figure=IN_SMALL,
)
rds_against = _claim(
    "small-rds-against",
    "Small network: the RDS sharpness of order 1 runs against the gap",
    _over(SMALL, _values(("RDS sharpness",))),
    AGAINST,
    source=SMALL_NETWORK,
    figure=IN_SMALL,
)
better_than_others = _claim(
    "small-better",
    "Small network: exact SD and SD-SLQ follow the gap better than homology and RDS sharpness",
    _over(SMALL, _leads(("SD exact", "SD-SLQ"), OTHERS)),
    AHEAD,
    source=SMALL_NETWORK,
    figure=IN_SMALL,
    quantity=LEAD,
    origin=ORDER,
)
exact_best = _claim(
    "small-exact-best",
    "Small network: the exact SD is best of all",
    _over(SMALL, _leads(("SD exact",), ("SD-SLQ", "SD-KDE", "SD-PS", *OTHERS))),
    AHEAD,
    source=SMALL_NETWORK,
    figure=IN_SMALL,
    quantity=LEAD,
    origin=ORDER,
)
slq_best = _claim(
    "larger-slq-best",
    "Larger network: SD-SLQ has the highest τ",
    _over(LARGER, _leads(("SD-SLQ",), ("SD-KDE", *OTHERS))),
    AHEAD,
    source=LARGER_NETWORK,
    figure=IN_LARGER,
    quantity=LEAD,
    origin=ORDER,
)


def _granulated(found: Correlations) -> list[Item[Estimate | Open]]:
    """The better of the two homology dimensions against every rival, in the granulated coefficient."""
    items: list[Item[Estimate | Open]] = []
    for target in TARGETS:
        known = [value for name in PH if isinstance(value := found.value(name, target, "psi"), Estimate)]
        best = max(known, key=lambda estimate: estimate.value, default=None)
        for rival in ("SD-SLQ", "SD-KDE", "RDS sharpness", *SUMS):
            other = found.value(rival, target, "psi")
            lead: Estimate | Open = Open("Ψ is not defined", "more networks")
            if best is not None and isinstance(other, Estimate):
                lead = Estimate(best.value - other.value, best.low - other.high, best.high - other.low)
            items.append(Item(f"ahead of {rival}, {target}", lead, {"rival": rival, "gap": target}))
    return items


granulated_homology = _claim(
    "larger-granulated-homology",
    "Larger network: persistent homology has the highest granulated coefficient, SD-SLQ is close",
    _over(LARGER, _granulated),
    AHEAD,
    source=LARGER_NETWORK,
    figure=IN_LARGER,
    quantity="granulated coefficient Ψ of homology, less that of the rival",
    origin=ORDER,
    how="Ψ is the mean of τ along learning rates and along batch sizes, all else equal. The better of the two homology "
    "dimensions counts. The interval of a difference is the widest that the two bootstrap intervals allow.",
)

GPT = "Small language models on characters, far smaller than the paper's GPT-2. " + BOOTSTRAP
KINDS = ("sgd", "sgd-momentum", "adamw")


def _models(names: Sequence[str]) -> Selection[Estimate | Open]:
    def choose(runs: Runs) -> list[Item[Estimate | Open]]:
        found = [_over(_family("gpt", kind), _values(names))(runs) for kind in KINDS]
        kinds = [(item.factors["optimizer"], item) for items in found for item in items]
        return [Item(f"{kind}, {item.name}", item.value, item.factors) for kind, item in kinds]

    return Selection(choose)


sharpness_against = _claim(
    "gpt-sharpness-against",
    "Language models under AdamW: sharpness runs against the gap",
    _over(_family("gpt", "adamw"), _values(("largest eigenvalue",))),
    AGAINST,
    source=f"{TUCI}, claim 5",
    figure="correlations-gpt-adamw",
    how=GPT,
)
every_optimizer = _claim(
    "gpt-every-optimizer",
    "Language models: SD-KDE and SD-PS follow the gap for every optimizer",
    _models(("SD-KDE", "SD-PS")),
    FOLLOWS,
    source=f"{TUCI}, claim 5",
    figure="correlations-gpt-adamw",
    how=GPT,
)

CONTROL = "control that the paper lacks"
control = _claim(
    "beyond-settings",
    "The dimension says something about the gap beyond learning rate and batch size",
    _over(SMALL, _values(("SD exact",), "partial")),
    FOLLOWS,
    source=CONTROL,
    figure=IN_SMALL,
    status="ours",
    quantity="partial rank correlation with the gap, given log η and log batch size",
    origin="ours: a positive sign",
    how="η enters the dimension by its definition, so that a correlation over a grid of learning rates may be "
    "mechanical. The interval is that of the bootstrap over networks.",
)
fixed_rate = _claim(
    "fixed-rate",
    "The dimension at one fixed learning rate follows the gap too",
    _over(SMALL, _values(("SD exact, fixed η",))),
    FOLLOWS,
    source=CONTROL,
    figure=IN_SMALL,
    status="ours",
    origin="ours: a positive sign",
    how=f"The same Hessians, with one η for all. {BOOTSTRAP}",
)
simpler = _claim(
    "better-than-norms",
    "The dimension follows the gap better than the norms of the parameters do",
    _over(SMALL, _leads(("SD exact",), ("norm", "distance travelled", "path norm"))),
    AHEAD,
    source=CONTROL,
    figure=IN_SMALL,
    status="ours",
    quantity=LEAD,
    origin="ours: what a norm tells as well needs no spectrum",
)

GRID_TOPICS = (
    Topic("Small network", (homology_fails, lifetime_sums, rds_against, better_than_others, exact_best)),
    Topic("Larger network", (slq_best, granulated_homology)),
    Topic("Language models", (sharpness_against, every_optimizer)),
    Topic("Controls", (control, fixed_rate, simpler)),
)
