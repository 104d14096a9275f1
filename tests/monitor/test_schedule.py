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
    costs=st.lists(st.floats(0.0, 2.0), min_size=3, max_size=30),
)
def test_a_budget_is_kept_and_used(share: float, step_seconds: float, costs: list[float]) -> None:
    now = 0.0
    schedule = Budget(share, clock=lambda: now)
    spent, trained, taken, step = 0.0, 0.0, [], 0
    while taken != costs and step < 200_000:  # 30 costs of 2 at a share of 0.02 take 60,000 steps of 0.05
        if schedule.due(step):
            # Whatever was spent before this measurement is within the share of what was trained before it.
            assert spent <= share * trained * (1 + 1e-9) + 1e-9
            cost = costs[len(taken)]
            now += cost
            spent += cost
            taken.append(cost)
            schedule.measured(cost)
        step, now, trained = step + 1, now + step_seconds, trained + step_seconds
    assert taken == costs
    # No step was let go by once the share allowed a measurement.
    waited = sum(max(1, math.ceil(round(cost / share / step_seconds, 6))) for cost in costs[:-1])
    assert abs(step - 1 - waited) <= len(costs)


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
