"""When a monitor measures."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgescope.errors import InputError
from edgescope.monitor import Budget, Every, Where
from edgescope.monitor.schedule import schedule_from


def test_every_and_where_choose_their_steps_and_always_the_first() -> None:
    assert [s for s in range(20) if Every(7).due(s)] == [0, 7, 14]
    assert [s for s in range(20) if Where(lambda s: s in (3, 4)).due(s)] == [0, 3, 4]
    assert [s for s in range(25) if schedule_from(None, None).due(s)] == [0, 10, 20]
    assert schedule_from(3, None) == Every(3)


@given(
    share=st.floats(0.02, 1.0),
    step_seconds=st.floats(0.05, 1.0),
    expected=st.floats(0.0, 3.0),
    along=st.floats(0.0, 3.0),
    preparation=st.floats(0.0, 1.0),
    costs=st.lists(st.floats(0.0, 2.0), min_size=3, max_size=30),
)
def test_a_budget_is_kept_from_the_first_measurement_on_and_used(
    share: float, step_seconds: float, expected: float, along: float, preparation: float, costs: list[float]
) -> None:
    now = 0.0

    def expect() -> tuple[float, float]:
        nonlocal now, spent
        now, spent = now + preparation, spent + preparation
        return expected, along

    spent, taken, step, waiting = 0.0, [], 0, 0
    schedule = Budget(share, clock=lambda: now, expect=expect)
    while taken != costs and step < 200_000:
        following = min(taken[-1], along) if taken else expected
        if schedule.due(step):
            # All earlier ones are within the share, and with what it is expected to take within 1.2 times the share.
            assert spent <= share * now * (1 + 1e-9) + 1e-9
            assert spent + following <= 1.2 * share * (now + following) * (1 + 1e-9) + 1e-9
            cost = costs[len(taken)]
            now, spent = now + cost, spent + cost
            taken.append(cost)
            schedule.measured(cost)
            waiting = 0
        else:
            # No more is waited for than what is owed, and the next measurement.
            assert share * step_seconds * waiting <= preparation + sum(taken[-1:]) + following + share * step_seconds
            waiting += 1
        step, now = step + 1, now + step_seconds
    assert taken == costs


@pytest.mark.parametrize("first", [20.0, 45.0, 70.0])
@pytest.mark.parametrize("later", [3.0, 12.0])
def test_a_tenth_of_the_time_is_used_and_no_more_than_a_fifth_beyond_it(first: float, later: float) -> None:
    """In units of a training step: what was forecast as 45 takes 20 to 70 at first, and then 3 or 12."""
    now, spent, seen = 0.0, 4.0, []
    schedule = Budget(0.1, clock=lambda: now, expect=lambda: (45.0, 13.0))
    schedule.spent(spent)  # for construction, before there was any training
    now += spent
    for step in range(900):
        if schedule.due(step):
            cost = later if seen else first
            now, spent = now + cost, spent + cost
            schedule.measured(cost)
            seen.append(step)
        now += 1.0
    assert (spent + later) / (now + later) >= 0.1, "the next one is due when the share is used up"
    assert spent / now <= 0.12
    assert 300 < seen[0] < 400, "not when all of it was earned, after 450 steps"


@pytest.mark.parametrize(
    ("share", "first", "spent"), [(0.1, 45.0, 4.0), (0.1, 1.0, 30.0), (0.5, 3.0, 0.0), (1.0, 5.0, 1.0)]
)
def test_the_training_before_a_first_measurement_is_what_is_said(share: float, first: float, spent: float) -> None:
    now = 0.0
    schedule = Budget(share, clock=lambda: now, expect=lambda: (first, first))
    schedule.spent(spent)
    said = schedule.training_before(first)
    now = spent + said * (1 - 1e-9) - 1e-9
    assert not schedule.due(0) or said == 0
    now = spent + said * (1 + 1e-9) + 1e-9
    assert schedule.due(1)


def test_nothing_is_saved_up_while_no_step_is_taken() -> None:
    now = 0.0
    schedule = Budget(0.1, clock=lambda: now, expect=lambda: (1.0, 1.0))
    now = 1000.0
    assert schedule.due(0)
    schedule.measured(1.0)
    now += 1.0
    assert not any(schedule.due(step) for step in range(1, 50))
    now += 10.0
    assert schedule.due(50)


@pytest.mark.parametrize("bad", [0, -1, 2.5, True, "10"])
def test_an_interval_that_is_no_whole_number_is_refused(bad: object) -> None:
    with pytest.raises(InputError, match="at least 1") as caught:
        schedule_from(bad, None)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bad", [0.0, -0.1, math.nan, math.inf])
def test_a_budget_that_is_no_share_is_refused(bad: float) -> None:
    with pytest.raises(InputError, match="share of training time"):
        Budget(bad)


def test_an_interval_and_a_budget_together_are_refused() -> None:
    with pytest.raises(InputError, match="one of them"):
        schedule_from(10, 0.1)
