"""Verdicts from cases: the table of rules, written out here case by case."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgescope.claims import Case, Claim, Region, judge
from edgescope.errors import InputError
from edgescope.statistics.estimate import Estimate

INSIDE, OUTSIDE, ACROSS = Estimate(1, 0.95, 1.05), Estimate(2, 1.9, 2.1), Estimate(1.1, 1.0, 1.2, 3, "seeds")
NOTHING = Estimate(math.nan)


def claim(**changes: Any) -> Claim:
    values: dict[str, Any] = {
        "id": "edge.settles",
        "sentence": "It settles",
        "source": "nobody",
        "quantity": "ratio",
        "region": Region(0.9, 1.1),
        "origin": "ours",
    }
    return Claim(**values | changes)


def cases(*estimates: Estimate) -> list[Case]:
    return [Case(f"run {place}", estimate) for place, estimate in enumerate(estimates)]


@pytest.mark.parametrize(
    ("scope", "names_cases", "estimates", "verdict"),
    [
        ("every", False, [INSIDE] * 3, "holds"),
        ("every", False, [INSIDE, INSIDE, ACROSS], "holds"),  # two thirds are decided
        ("every", False, [INSIDE, ACROSS, ACROSS], "open"),
        ("every", False, [INSIDE, INSIDE, ACROSS, NOTHING], "open"),
        ("every", False, [INSIDE] * 8 + [OUTSIDE], "mixed"),
        ("every", False, [INSIDE, OUTSIDE, ACROSS, ACROSS], "mixed"),
        ("every", False, [OUTSIDE] * 2, "fails"),
        ("every", False, [OUTSIDE, ACROSS], "fails"),
        ("every", True, [INSIDE] * 8 + [OUTSIDE], "fails"),
        ("every", False, [ACROSS, NOTHING], "open"),
        ("every", False, [], "open"),
        ("some", False, [OUTSIDE, OUTSIDE, INSIDE], "holds"),
        ("some", False, [OUTSIDE, OUTSIDE], "fails"),
        ("some", False, [OUTSIDE, ACROSS], "open"),
        ("some", False, [], "open"),
        ("average", False, [Estimate(0.9, 0.7, 1.1), Estimate(1.1, 0.9, 1.3)] * 20, "holds"),
        ("average", False, [OUTSIDE] * 6, "fails"),
        ("average", False, [INSIDE, OUTSIDE], "open"),
        ("average", False, [], "open"),
    ],
)
def test_the_rules(scope: str, names_cases: bool, estimates: list[Estimate], verdict: str) -> None:
    assert judge(claim(scope=scope, names_cases=names_cases), cases(*estimates)).verdict == verdict


@pytest.mark.parametrize(
    ("estimate", "verdict"),
    [
        (Estimate(1.0, 0.9, 1.1), "holds"),  # borders belong to the region
        (Estimate(1.0, 0.89, 1.1), "open"),
        (Estimate(1.2, 1.11, 1.3), "fails"),
        (Estimate(0.5, 0.1, 3.0), "open"),  # covers the whole region
        (Estimate(1.0), "open"),
        (Estimate.exact(1.0), "holds"),
        (Estimate.exact(1.1000001), "fails"),
        (Estimate.single(1.05, 0.004), "holds"),  # more than ten errors from the border
        (Estimate.single(1.05, 0.006), "open"),
        (Estimate(math.nan, math.nan, math.nan), "open"),
        (Estimate(math.inf, math.inf, math.inf), "fails"),
    ],
)
def test_a_case(estimate: Estimate, verdict: str) -> None:
    (case,) = judge(claim(), cases(estimate)).cases
    assert case.verdict == verdict
    assert bool(case.why) == (verdict == "open")


def test_a_border_that_is_not_exact_in_binary_still_belongs_to_the_region() -> None:
    assert Region(high=1 - 0.95).judge(Estimate.exact(0.05)) == "holds"
    assert Region(low=0.1 + 0.2).judge(Estimate.exact(0.3)) == "holds"


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.floats(0, 1e3), st.floats(0, 1e3))
def test_a_case_that_holds_does_not_fail_in_a_wider_region(a: float, b: float, down: float, up: float) -> None:
    region, estimate = Region(min(a, b), max(a, b)), Estimate(0.0, -down, up)
    wider = Region(region.low - 1, region.high + 1)
    order = ["fails", "open", "holds"]
    assert (
        order.index(wider.judge(estimate)) >= order.index(region.judge(estimate)) or region.judge(estimate) == "fails"
    )
    inside = region.low <= -down and up <= region.high
    outside = up < region.low or region.high < -down
    if abs(region.low + down) > 1e-6 and abs(region.high - up) > 1e-6 and abs(up - region.low) > 1e-6:
        assert region.judge(estimate) == ("holds" if inside else "fails" if outside else "open") or outside


def test_the_factor_that_tells_failing_cases_apart_is_named() -> None:
    settings = [("mse", "MLP"), ("mse", "CNN"), ("mse", "ViT"), ("ce", "MLP"), ("ce", "CNN")]
    several = [
        Case(f"{loss} {net}", OUTSIDE if loss == "ce" else INSIDE, factors={"loss": loss, "network": net})
        for loss, net in settings
    ]
    found = judge(claim(), several)
    assert found.verdict == "mixed"
    assert "fails under loss = ce" in found.why
    assert (found.count.holds, found.count.fails, found.count.open) == (3, 2, 0)
    assert "on 3 of 5" in found.why
    tangled = [Case(f"{k}", OUTSIDE if k % 2 else INSIDE, factors={"loss": "ab"[k > 2]}) for k in range(6)]
    assert "under" not in judge(claim(), tangled).why
    alone = [Case(f"{k}", OUTSIDE if k == 1 else INSIDE, factors={"seed": str(k)}) for k in range(3)]
    assert "under" not in judge(claim(), alone).why  # a factor with as many levels as cases tells nothing


def test_an_open_claim_says_what_would_decide_it() -> None:
    # Half width 0.1, 0.05 from the nearest border: four times as many seeds halve the interval.
    near = Estimate(1.05, 0.95, 1.15, 3, "seeds")
    assert judge(claim(), [Case("a", near)]).needs == "about 9 more seeds"
    on_it = Estimate(1.1, 1.0, 1.2, 3, "seeds")
    assert "on the border" in judge(claim(), [Case("a", on_it)]).needs
    told = judge(claim(), [Case("a", NOTHING, "never arrived", "about 400 more steps"), Case("b", near)])
    assert told.needs == "about 400 more steps (a); about 9 more seeds (b)"
    assert judge(claim(), []).needs
    assert judge(claim(), cases(INSIDE)).needs == ""


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"id": "Edge settles"}, "id 'Edge settles'"),
        ({"id": "edge"}, "id 'edge'"),
        ({"sentence": " "}, "no sentence"),
        ({"origin": ""}, "no origin"),
        ({"scope": "most"}, "scope 'most'"),
        ({"status": "known"}, "status 'known'"),
    ],
)
def test_claims_that_are_none(changes: dict[str, Any], names: str) -> None:
    with pytest.raises(InputError, match=names):
        claim(**changes)


@pytest.mark.parametrize("ends", [(2, 1), (math.nan, 1), (-math.inf, math.inf)])
def test_regions_that_are_none(ends: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="a region from"):
        Region(*ends)


def test_regions_in_words() -> None:
    told = [Region(0.9, 1.1), Region(low=2), Region(high=1e-8), Region(0, 0), Region.around(2, 0.25)]
    words = ["from 0.9 to 1.1", "at least 2", "at most 1e-08", "exactly 0", "from 1.5 to 2.5"]
    assert [region.text() for region in told] == words
