"""Measures that need the readings of others: one tracker for the whole run, and each product paid for once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import polars as pl
import pytest
import torch
from small_problem import Problem

import edgescope as es
from edgescope.measures.base import Needs
from edgescope.measures.sharpness import Sharpness

LR = 0.4
STEPS = 8


def run(measures: list[Any], resume_at: int | None = None, kind: Any = torch.optim.SGD, **options: Any) -> pl.DataFrame:
    """The table of a run of some steps, of the steps from ``resume_at`` on where a second monitor continues there."""
    problem = Problem(1)
    optimizer = kind(problem.model.parameters(), lr=LR, **options)
    monitor = es.Monitor(problem.objective, optimizer, every=1, measures=measures)
    for step in range(STEPS):
        if step == resume_at:
            state = monitor.state_dict()
            monitor.close()
            monitor = es.Monitor(problem.objective, optimizer, every=1, measures=measures, resume=step)
            monitor.load_state_dict(state)
        problem.train(optimizer, 1)
        monitor.step()
    table = monitor.table()
    monitor.close()
    return table


def values(table: pl.DataFrame, measure: str, part: str = "") -> dict[int, float]:
    return dict(table.filter(measure=measure, part=part).drop_nulls("value").select("step", "value").rows())


def test_one_tracker_serves_all_measures_of_the_sharpness_whatever_their_schedules() -> None:
    mixed = run(["ratio@1", "effective_sharpness@2", "sharpness@4"])
    alone = run(["sharpness@1"])
    sharpness = values(alone, "sharpness", "1")
    assert sorted(sharpness) == list(range(STEPS + 1))
    # Equal to the last bit at every step, and in the products of that one tracker.
    assert values(mixed, "ratio") == {step: value / (2 / LR) for step, value in sharpness.items()}
    assert values(mixed, "effective_sharpness") == {step: v for step, v in sharpness.items() if step % 2 == 0}
    assert values(mixed, "sharpness", "1") == {step: v for step, v in sharpness.items() if step % 4 == 0}
    assert mixed["products"].sum() == alone["products"].sum()
    assert mixed["gradients"].sum() == alone["gradients"].sum()


@pytest.mark.parametrize(
    ("measures", "kind", "options"),
    [
        (["ratio@1", "effective_sharpness@2", "sharpness@4"], torch.optim.SGD, {}),
        (["ratio@1", "effective_sharpness@3"], torch.optim.RMSprop, {"eps": 1e-2}),
        (["effective_sharpness@3", "ratio@2"], torch.optim.SGD, {"weight_decay": 0.1}),
        (["ratio@1", "generalized_sharpness@3"], es.optim.SteepestDescent, {"geometry": "linf"}),
    ],
)
@pytest.mark.parametrize("resume_at", [3, 5])
def test_a_run_that_is_resumed_between_their_steps_continues_bit_for_bit(
    measures: list[str], kind: Any, options: dict[str, Any], resume_at: int
) -> None:
    whole = run(measures, kind=kind, **options)
    resumed = run(measures, resume_at, kind=kind, **options)
    columns = ["step", "measure", "part", "value", "error", "products"]
    assert resumed.select(columns).equals(whole.filter(pl.col("step") > resume_at).select(columns))


def test_the_effective_sharpness_of_an_adaptive_optimizer_has_one_tracker_too() -> None:
    mixed = run(["ratio@1", "effective_sharpness@4"], kind=torch.optim.RMSprop, eps=1e-2)
    alone = run(["effective_sharpness@1"], kind=torch.optim.RMSprop, eps=1e-2)
    effective = values(alone, "effective_sharpness")
    assert values(mixed, "ratio") == {step: value / (2 / LR) for step, value in effective.items()}
    assert mixed["products"].sum() == alone["products"].sum()


def test_a_certificate_is_computed_only_where_it_is_asked_for() -> None:
    steepest = {"kind": es.optim.SteepestDescent, "geometry": "linf"}
    table = run(["ratio@1", "generalized_sharpness@4"], **steepest)
    assert sorted(values(table, "generalized_sharpness", "upper")) == [0, 4, 8]
    lower, ratio = values(table, "generalized_sharpness", "lower"), values(table, "ratio")
    assert sorted(ratio) == list(range(STEPS + 1))
    for step, value in lower.items():
        assert ratio[step] == pytest.approx(value * LR / 2, rel=1e-12)


def test_a_geometry_that_is_not_the_optimizers_is_not_taken_for_its_ratio() -> None:
    steepest = {"kind": es.optim.SteepestDescent, "geometry": "linf"}
    named = run(["ratio", "generalized_sharpness:geometry=euclidean"], **steepest)
    assert values(named, "ratio") == values(run(["ratio"], **steepest), "ratio")


@dataclass
class DoubleSharpness(es.Measure):
    """Twice the sharpness, by a measure that does not say what it uses."""

    sharpness: Sharpness = field(default_factory=lambda: Sharpness(tol=1e-4))

    name: ClassVar[str] = "double_sharpness"
    title: ClassVar[str] = "Twice the sharpness"
    unit: ClassVar[str] = "1"
    source: ClassVar[str] = "definition"
    needs: ClassVar[Needs] = "products"

    def dependencies(self) -> tuple[es.Measure, ...]:
        return (self.sharpness,)

    def read(self, moment: es.Moment) -> es.Reading:
        return es.Reading(self.name, {"": 2 * moment.get(self.sharpness).values["1"]})


def test_a_reading_that_was_paid_for_by_another_measure_costs_nothing_once_more() -> None:
    table = run([DoubleSharpness(), "sharpness", "ratio"])
    alone = run(["sharpness"])
    sharpness = values(alone, "sharpness", "1")
    assert values(table, "double_sharpness") == {step: 2 * value for step, value in sharpness.items()}
    assert values(table, "sharpness", "1") == sharpness
    assert table["products"].sum() == alone["products"].sum()


def test_two_measures_that_need_one_the_run_has_not_share_that_of_the_first() -> None:
    table = run([DoubleSharpness(), "ratio"])
    double, ratio = values(table, "double_sharpness"), values(table, "ratio")
    assert {step: 2 * value * (2 / LR) for step, value in ratio.items()} == pytest.approx(double, rel=1e-15)
    assert table.filter(measure="ratio")["products"].sum() == 0


def test_a_moment_takes_each_measure_once() -> None:
    problem = Problem(2)
    moment, measure = problem.moment(), es.MEASURES.build("sharpness")
    first = moment.get(measure)
    assert moment.get(measure) is first
    assert moment.get(es.MEASURES.build("sharpness:k=3")) is first
    assert problem.moment().get(measure) is not first
