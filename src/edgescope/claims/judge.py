"""From the cases of a claim to its verdict."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from edgescope.claims.claim import Case, Claim
from edgescope.claims.finding import Count, Finding, JudgedCase, Verdict
from edgescope.claims.region import Region
from edgescope.statistics.estimate import Estimate
from edgescope.statistics.means import pooled_mean

DECIDED = 2 / 3
"""The share of cases that has to be decided before a sentence about every case is said to hold."""

MANY = 1000
"""Times as many samples as there are: beyond, the value lies on the border, and more samples decide nothing."""

NO_INTERVAL = "one run, and no way to an interval"


def judge(claim: Claim, cases: Iterable[Case]) -> Finding:
    """The verdict on a claim from its cases.

    A case holds where its interval lies in the region, fails where it lies outside, and is open where it crosses a
    border or is missing. A claim about every case holds where all decided cases hold and two thirds of all are
    decided, is mixed where some hold and some fail, and fails where all decided cases fail, or one does that the
    sentence names. A claim about some case holds where one does, and fails where all do. A claim about the average is
    judged by the pooled mean (:func:`edgescope.statistics.means.pooled_mean`). Everything else is open.
    """
    judged = tuple(_judged(claim.region, case) for case in cases)
    pooled: Estimate | None = None
    if claim.scope == "average":
        pooled = pooled_mean([Estimate(c.value, c.low, c.high) for c in judged])
    found = Finding(
        id=claim.id,
        claim=claim.sentence,
        source=claim.source,
        expected=claim.expected,
        verdict="open",
        why="",
        status=claim.status,
        quantity=claim.quantity,
        unit=claim.unit,
        region=claim.region,
        origin=claim.origin,
        scope=claim.scope,
        figure=claim.figure,
        how=claim.how,
        cases=judged,
        pooled=None if pooled is None else (pooled.value, pooled.low, pooled.high),
    )
    verdict = _verdict(claim, found.count, pooled)
    needs = _needs(claim, found, pooled) if verdict == "open" else ""
    fields = {name: getattr(found, name) for name in Finding.__dataclass_fields__}
    return Finding(**fields | {"verdict": verdict, "why": _why(found, pooled), "needs": needs})


def _judged(region: Region, case: Case) -> JudgedCase:
    estimate = case.estimate
    verdict = region.judge(estimate)
    why, needs = case.why, case.needs
    if verdict == "open" and not why:
        no_interval = not math.isnan(estimate.value) and not estimate.known
        why = NO_INTERVAL if no_interval else "the interval crosses a border" if estimate.known else "not measured"
    if verdict == "open" and not needs:
        needs = _more_samples(region, estimate)
    return JudgedCase(
        case.name,
        estimate.value,
        estimate.low,
        estimate.high,
        verdict,
        why,
        needs if verdict == "open" else "",
        dict(case.factors),
        tuple(case.beside),
    )


def _more_samples(region: Region, estimate: Estimate) -> str:
    """How many more samples would bring the interval to one side of the border, if the value stays where it is."""
    if math.isnan(estimate.value) or not estimate.sampled:
        return ""
    if not estimate.known:
        return f"more {estimate.sampled}"
    distance, reach = region.distance(estimate.value), estimate.half_width
    if distance * math.sqrt(MANY) <= reach:
        return f"many more {estimate.sampled}: the value lies on the border"
    more = math.ceil(estimate.samples * ((reach / distance) ** 2 - 1))
    if more <= 1 and estimate.sampled.endswith("s"):
        return f"about one more {estimate.sampled[:-1]}"
    return f"about {max(more, 1):,} more {estimate.sampled}"


def _verdict(claim: Claim, count: Count, pooled: Estimate | None) -> Verdict:
    if pooled is not None:
        return claim.region.judge(pooled)
    if claim.scope == "some":
        return "holds" if count.holds else "fails" if count.fails and count.fails == count.all else "open"
    if count.fails:
        return "fails" if claim.names_cases or not count.holds else "mixed"
    return "holds" if count.holds and count.decided >= DECIDED * count.all else "open"


def _why(found: Finding, pooled: Estimate | None) -> str:
    """The count in words; the factor that tells cases that hold from those that fail; why others are open."""
    count = found.count
    if not count.all:
        return "No run to which this claim applies has a record."
    if pooled is not None and not math.isnan(pooled.value):
        interval = f", 95% interval {pooled.low:.4g} to {pooled.high:.4g}" if pooled.known else ", without an interval"
        return f"Mean over {_cases(count.all)}: {pooled.value:.4g}{interval}."
    parts = []
    if count.holds:
        parts.append(f"holds {_on(count.holds, count.all)}")
    if count.fails:
        parts.append(f"fails {_on(count.fails, count.all)}")
    if count.open:
        reasons = list(dict.fromkeys(case.why for case in found.cases if case.verdict == "open"))
        told = f" ({reasons[0].rstrip('.')})" if len(reasons) == 1 else ""
        parts.append(f"open {_on(count.open, count.all)}{told}")
    factor = separating_factor(found.cases)
    told = f" It fails under {factor}." if factor else ""
    words = "; ".join(parts) + "."
    return words[0].upper() + words[1:] + told


def separating_factor(cases: Sequence[JudgedCase]) -> str:
    """The one factor that tells the cases that hold from those that fail, such as "loss = cross-entropy"; "" if none.

    Every level of the factor has cases of one verdict only, some level has at least two cases, and of several such
    factors the one with the fewest levels is taken.
    """
    decided = [case for case in cases if case.verdict != "open"]
    if len({case.verdict for case in decided}) < 2:
        return ""
    best: tuple[int, str] | None = None
    names = dict.fromkeys(name for case in decided for name in case.factors)
    for name in names:
        if not all(name in case.factors for case in decided):
            continue
        levels: dict[str, set[str]] = {}
        for case in decided:
            levels.setdefault(case.factors[name], set()).add(case.verdict)
        clean = all(len(verdicts) == 1 for verdicts in levels.values())
        if not clean or len(levels) == len(decided) > 2 or (best and best[0] <= len(levels)):
            continue
        failing = " or ".join(level for level, verdicts in levels.items() if verdicts == {"fails"})
        best = (len(levels), f"{name} = {failing}")
    return best[1] if best else ""


def _needs(claim: Claim, found: Finding, pooled: Estimate | None) -> str:
    """What would decide an open claim, from what would decide its open cases."""
    if not found.cases:
        return "the runs to which it applies"
    if pooled is not None:
        return _more_samples(claim.region, pooled) or "an interval for each case, or more cases"
    groups: dict[str, list[str]] = {}
    for case in found.cases:
        if case.verdict == "open":
            groups.setdefault(case.needs or "a longer or repeated run", []).append(case.case)
    if len(groups) == 1:
        need, names = next(iter(groups.items()))
        return need if len(names) == len(found.cases) else f"{need} ({_named(names)})"
    return "; ".join(f"{need} ({_named(names)})" for need, names in groups.items())


def _named(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{', '.join(names[:2])} and {len(names) - 2} others"


def _cases(number: int) -> str:
    return "1 case" if number == 1 else f"{number} cases"


def _on(number: int, of: int) -> str:
    return "on the only case" if of == 1 else f"on {number} of {of} cases" if number < of else f"on all {of} cases"
