"""``es.measure``: one measure without a training loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from small_problem import Problem

import edgescope as es
from edgescope.errors import EdgescopeError, InputError, NotKnownError, UnknownNameError

LR = 0.25
NEED_A_RUN = [
    "directional_smoothness",
    "headroom",
    "oscillation",
    "oscillation_cost",
    "persistent_homology",
    "preconditioner_lag",
    "step_ratio",
    "time",
    "update_norm",
]
NEED_AN_OPTIMIZER = {
    "batch_ratio": ":batch=5,count=4",
    "effective_sharpness": "",
    "generalized_sharpness": "",
    "learning_rate": "",
    "quadratic_model": ":steps=5",
    "ratio": "",
    "rds_sharpness": "",
    "settled_norms": ":steps=4",
    "sharpness_dimension": ":steps=20",
    "threshold": "",
}
OF_THE_OBJECTIVE = {
    "accuracy": "",
    "average_sharpness": "",
    "batch_sharpness": ":batch=5,count=4",
    "block_sharpness": ":num_matvecs=10",
    "gradient_noise": "",
    "gradient_norm": "",
    "hessian_frobenius": "",
    "hessian_trace": ":num_matvecs=15",
    "learning_coefficient": ":chains=8,times=20",
    "loss": "",
    "norms": "",
    "path_norm": "",
    "sharpness": ":k=3",
    "spectrum": ":steps=20",
    "training_loss": "",
    "worst_case_sharpness": "",
}


def trained(seed: int = 0, kind: Callable[..., torch.optim.Optimizer] = torch.optim.SGD) -> tuple[Problem, Any]:
    problem = Problem(seed)
    optimizer = kind(problem.model.parameters(), lr=LR if kind is torch.optim.SGD else 0.01)
    problem.train(optimizer, 3)
    return problem, optimizer


def test_every_measure_is_in_one_of_the_lists() -> None:
    assert sorted([*NEED_A_RUN, *NEED_AN_OPTIMIZER, *OF_THE_OBJECTIVE]) == es.MEASURES.names()


@pytest.mark.parametrize(("name", "options"), (NEED_AN_OPTIMIZER | OF_THE_OBJECTIVE).items())
def test_it_is_the_reading_that_a_monitor_takes_before_the_first_step(name: str, options: str) -> None:
    problem, optimizer = trained()
    found = es.measure(problem.objective, name + options, optimizer=optimizer, evaluations={"test": problem.test})
    problem, optimizer = trained()
    evaluations = {"test": problem.test}
    with es.Monitor(problem.objective, optimizer, measures=[name + options], evaluations=evaluations) as monitor:
        monitor.start()
        same = monitor.latest[name]
    if name == "norms":
        assert same.values.pop("distance") == 0
        assert "no distance" in found.note
    assert found.measure == name
    assert found.values == same.values
    assert found.values
    assert found.errors == same.errors
    # The monitor may have computed the loss before, to see whether it is finite.
    assert (found.cost.gradients, found.cost.products) == (same.cost.gradients, same.cost.products)
    assert found.arrays.keys() == same.arrays.keys()
    assert all(np.array_equal(array, same.arrays[part]) for part, array in found.arrays.items())


@pytest.mark.parametrize(("name", "options"), OF_THE_OBJECTIVE.items())
def test_measures_of_the_objective_need_no_optimizer(name: str, options: str) -> None:
    problem, optimizer = trained(1)
    without = es.measure(problem.objective, name + options)
    problem, optimizer = trained(1)
    given = es.measure(problem.objective, name + options, optimizer=optimizer)
    assert without.values == {part: value for part, value in given.values.items() if part != "ratio"}


@pytest.mark.parametrize(("name", "options"), NEED_AN_OPTIMIZER.items())
def test_measures_of_the_optimizer_ask_for_it(name: str, options: str) -> None:
    with pytest.raises(NotKnownError, match=rf"^the measure '{name}' has no value: .*optimizer; try optimizer=$"):
        es.measure(Problem().objective, name + options)


@pytest.mark.parametrize("name", NEED_A_RUN)
def test_measures_of_a_run_are_refused_in_one_line_that_says_why(name: str) -> None:
    problem, optimizer = trained()
    with pytest.raises(InputError, match=rf"'{name}' cannot be taken without a training run: it .*; try es.Monitor"):
        es.measure(problem.objective, name, optimizer=optimizer)


@pytest.mark.parametrize("seed", range(3))
def test_values_are_those_of_the_dense_hessian(seed: int) -> None:
    problem, optimizer = trained(seed)
    eigenvalues = np.linalg.eigvalsh(problem.hessian().numpy())[::-1]
    largest = es.measure(problem.objective, "sharpness:k=2,tol=1e-6")
    assert largest.value == pytest.approx(eigenvalues[0], rel=1e-6)
    assert list(largest.values.values()) == pytest.approx(eigenvalues[:2], rel=1e-6)
    assert es.measure(problem.objective, "hessian_trace:num_matvecs=60").value == pytest.approx(eigenvalues.sum())
    ratio = es.measure(problem.objective, "ratio:tol=1e-6", optimizer=optimizer)
    assert ratio.value == pytest.approx(eigenvalues[0] * LR / 2, rel=1e-6)
    assert es.measure(problem.objective, "threshold", optimizer=optimizer).value == 2 / LR


def test_the_preconditioner_of_an_optimizer_is_read() -> None:
    problem, optimizer = trained(2, torch.optim.RMSprop)
    entries = torch.cat([optimizer.state[p]["square_avg"].sqrt().flatten() for p in problem.model.parameters()]) + 1e-8
    exact = np.linalg.eigvalsh((problem.hessian() / entries.sqrt()[:, None] / entries.sqrt()).numpy())[-1]
    found = es.measure(problem.objective, "effective_sharpness:tol=1e-6", optimizer=optimizer)
    assert found.value == pytest.approx(exact, rel=1e-5)
    fresh = torch.optim.RMSprop(problem.model.parameters(), lr=0.01)
    with pytest.raises(NotKnownError, match="before its first step"):
        es.measure(problem.objective, "ratio", optimizer=fresh)


def test_several_optimizers_have_a_part_each() -> None:
    problem = Problem(3)
    first, last = problem.model[0], problem.model[2]
    optimizers = [
        torch.optim.SGD(first.parameters(), lr=0.5),
        torch.optim.SGD(last.parameters(), lr=0.25, momentum=0.5),
    ]
    found = es.measure(problem.objective, "threshold", optimizer=optimizers)
    assert found.values == {"": 1.0, "SGD": 2 / 0.5, "SGD-2": (2 + 2 * 0.5) / 0.25}


def test_a_caveat_of_the_threshold_is_in_the_note() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 6, bias=False), torch.nn.Tanh(), torch.nn.Linear(6, 3, bias=False))
    data = torch.randn(20, 4), torch.randint(3, (20,))
    objective = es.Objective(model, es.supervised(es.losses.half_mse), data)
    muon = torch.optim.Muon(model.parameters(), lr=0.01)
    assert "frozen" in es.measure(objective, "threshold", optimizer=muon).note


def test_a_measure_object_is_taken_and_model_optimizer_and_random_numbers_are_left_alone() -> None:
    problem, optimizer = trained(4)
    before = problem.flat()
    generator = torch.get_rng_state()
    measure = es.MEASURES.build("hessian_trace:seed=3")
    assert es.measure(problem.objective, measure, optimizer=optimizer).values == measure.take(problem.moment()).values
    assert torch.equal(problem.flat(), before)
    assert torch.equal(torch.get_rng_state(), generator)
    with torch.inference_mode():
        assert es.measure(problem.objective, "sharpness").value is not None


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (lambda p: (p.model, "loss"), {}, "the objective of a measure is of type Sequential.*Objective"),
        (lambda p: (p.objective, "los"), {}, "unknown measure 'los'.*try 'loss'"),
        (lambda p: (p.objective, 3), {}, "a measure of type int"),
        (lambda p: (p.objective, type(es.MEASURES.build("loss"))), {}, "the class LossMeasure.*try LossMeasure"),
        (lambda p: (p.objective, "sharpness:k=52"), {}, "k=52.*at most 51"),
        (lambda p: (p.objective, "ratio"), {"optimizer": 3}, "an optimizer of type int"),
        (lambda p: (p.objective, "ratio"), {"optimizer": "model"}, "the optimizer of a measure is of type Sequential"),
        (lambda p: (p.objective, "loss"), {"evaluations": [1]}, "evaluations of type list"),
    ],
)
def test_arguments_that_cannot_be_used_are_refused(
    arguments: Callable[[Problem], tuple[Any, Any]], options: dict[str, Any], message: str
) -> None:
    problem = Problem()
    if options.get("optimizer") == "model":
        options = {"optimizer": problem.model}
    with pytest.raises((InputError, UnknownNameError), match=message) as caught:
        es.measure(*arguments(problem), **options)
    assert "\n" not in str(caught.value)


def test_what_a_measure_raises_is_passed_on() -> None:
    class Broken(es.Measure):
        name, title, unit, source, needs = "broken", "Broken", "1", "definition", "nothing"

        def read(self, moment: es.Moment) -> es.Reading:
            raise ZeroDivisionError("nothing to divide by")

    with pytest.raises(ZeroDivisionError, match="nothing to divide by"):
        es.measure(Problem().objective, Broken())
    problem = Problem()
    with torch.no_grad():
        next(problem.model.parameters()).fill_(float("nan"))
    with pytest.raises(EdgescopeError, match="finite"):
        es.measure(problem.objective, "sharpness")
