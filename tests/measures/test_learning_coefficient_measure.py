"""The measure of the learning coefficient: the same number as the function, and no value where chains do not mix."""

from __future__ import annotations

import pytest
import torch
from small_problem import Problem

import edgescope as es
from edgescope.errors import NotKnownError
from edgescope.measures.problem_size import ProblemSize
from edgescope.phases.chain_options import ChainOptions
from edgescope.phases.learning_coefficient import local_coefficient

OPTIONS = "learning_coefficient:chains=8,times=20,half_step=true"


def trained() -> Problem:
    problem = Problem(1)
    problem.train(torch.optim.SGD(problem.model.parameters(), lr=0.3), 200)
    return problem


def test_it_is_the_number_of_the_function() -> None:
    problem = trained()
    found = es.measure(problem.objective, OPTIONS)
    same = local_coefficient(problem.objective, ChainOptions(gamma=100.0, chains=8, times=20.0, half_step=True))
    assert same.status == "mixed"
    assert found.values[""] == same.value
    assert found.errors[""] == same.error > 0
    assert (found.values["first_half"], found.values["second_half"]) == same.halves
    assert same.half_step is not None
    assert found.values["extrapolated"] == same.half_step.extrapolated
    assert found.errors["half_step"] == same.half_step.error
    assert found.values["relaxation"] == same.relaxation == pytest.approx(2 / (100 * same.step))
    assert found.cost.gradients == pytest.approx(same.cost.gradients, abs=3)


def test_there_is_no_value_where_chains_are_too_short() -> None:
    with pytest.raises(NotKnownError, match=r"no value: .*chains of \d steps, below the \d+ = 2/\(εγ\)"):
        es.measure(trained().objective, "learning_coefficient:times=0.5")
    with pytest.raises(NotKnownError, match=r"more than max_steps=100; try gamma=.* or max_steps="):
        es.measure(trained().objective, "learning_coefficient:gamma=1,max_steps=100")


def test_it_forecasts_its_cost() -> None:
    size = ProblemSize(51, 20)
    plain, fine = (
        es.MEASURES.build("learning_coefficient:chains=4" + more).expected_cost(size)
        for more in ("", ",half_step=true")
    )
    assert plain.gradients == 4 * 10 * 25
    assert fine.gradients > 2.5 * plain.gradients
