"""Measures that compete with the dimension: the Frobenius norm, the RDS sharpness, and what they all refuse."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from measured_models import FLOATS, moment_of
from small_problem import Problem
from torch import nn

from edgescope.errors import EdgescopeError
from edgescope.linalg import to_matrix
from edgescope.measures import MEASURES
from edgescope.objective import mini_batches


def value(spec: str, problem: Problem, **more: Any) -> float:
    reading = MEASURES.build(spec).take(problem.moment(**more))
    assert reading.note == ""
    return reading.values[""]


# ------------------------------------------------------------------------------------------------- the Frobenius norm


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("seed", range(3))
def test_frobenius_norm_is_exact_where_probes_span_the_space_and_else_within_its_error(
    seed: int, dtype: torch.dtype
) -> None:
    problem = Problem(seed, dtype)
    exact = float(torch.linalg.matrix_norm(problem.hessian()))
    whole = MEASURES.build("hessian_frobenius:num_matvecs=60").take(problem.moment())
    assert whole.values[""] == pytest.approx(exact, rel=1e-5)
    assert abs(whole.values[""] - exact) < 3 * whole.errors[""]  # rounding alone
    assert whole.errors[""] < (1e-5 if dtype == torch.float32 else 1e-13) * exact
    sampled = MEASURES.build(f"hessian_frobenius:num_matvecs=15,seed={seed}").take(problem.moment())
    assert sampled.cost.products == 15
    assert 0 < abs(sampled.values[""] - exact) < 3 * sampled.errors[""] < 0.45 * exact


# ------------------------------------------------------------------------------------------------- the RDS sharpness


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("lr", [0.05, 0.6, 3.0])
def test_rds_sharpness_is_the_largest_log_singular_value_of_the_jacobian(lr: float, dtype: torch.dtype) -> None:
    for seed in range(3):
        problem = Problem(seed, dtype)
        optimizer = torch.optim.SGD(problem.model.parameters(), lr=lr)
        measure = MEASURES.build("rds_sharpness:tol=1e-4")
        for _ in range(2):
            jacobian = torch.eye(problem.objective.size, dtype=torch.float64) - lr * problem.hessian()
            exact = math.log(float(torch.linalg.matrix_norm(jacobian, 2)))
            reading = measure.take(problem.moment(optimizer))
            assert reading.values[""] == pytest.approx(exact, abs=3e-4)
            assert reading.values[""] == max(reading.values["top"], reading.values["bottom"])
            ends = torch.linalg.eigvalsh(problem.hessian())[[-1, 0]]
            stretches = (1 - lr * ends).abs().log().tolist()
            assert [reading.values["top"], reading.values["bottom"]] == pytest.approx(stretches, abs=1e-3)
            assert 0 <= reading.errors[""] < 1e-3
            problem.train(torch.optim.SGD(problem.model.parameters(), lr=0.3), 2)


def test_rds_sharpness_at_a_learning_rate_of_its_own_needs_no_optimizer() -> None:
    problem = Problem(1)
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=0.7)
    own = MEASURES.build("rds_sharpness:tol=1e-5").take(problem.moment(optimizer)).values[""]
    assert value("rds_sharpness:tol=1e-5,lr=0.7", problem) == pytest.approx(own, abs=1e-9)
    assert "no optimizer" in MEASURES.build("rds_sharpness").take(problem.moment()).note


def test_rds_sharpness_over_mini_batches_is_the_mean_of_theirs() -> None:
    problem, lr = Problem(3), 1.5
    measure = MEASURES.build(f"rds_sharpness:lr={lr},batch=5,batches=6,seed=2,tol=1e-5")
    reading = measure.take(problem.moment())
    exact = []
    for part in mini_batches(problem.objective, 5, 6, seed=2):
        jacobian = torch.eye(part.size, dtype=torch.float64) - lr * to_matrix(part)
        exact.append(math.log(float(torch.linalg.matrix_norm(jacobian, 2))))
    assert len(set(exact)) == 6
    assert reading.values == pytest.approx({"": np.mean(exact)}, abs=1e-4)
    assert reading.errors[""] == pytest.approx(np.std(exact, ddof=1) / 6**0.5, rel=1e-2)
    assert 0 < reading.cost.products < 6 * 51  # a quarter of what products on all data would cost
    assert "batch size of 21" in MEASURES.build("rds_sharpness:lr=1,batch=21").take(problem.moment()).note


def test_rds_sharpness_where_the_jacobian_vanishes_is_a_note() -> None:
    # loss w^2 / 2 of one weight: H = 1, and I - lr H = 0 at lr = 1.
    model = nn.Linear(1, 1, bias=False)
    moment = moment_of(model, (torch.ones(1, 1), torch.zeros(1, 1)))
    reading = MEASURES.build("rds_sharpness:lr=1").take(moment)
    assert reading.values == {}
    assert "singular" in reading.note
    assert "\n" not in reading.note


def test_after_divergence_only_what_needs_no_derivative_is_taken() -> None:
    problem = Problem()
    for name in ("average_sharpness", "gradient_noise", "hessian_frobenius", "rds_sharpness", "worst_case_sharpness"):
        reading = MEASURES.build(name).take(problem.moment(diverged=True))
        assert reading.values == {}
        assert "diverged" in reading.note


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("average_sharpness:rho=0", "'average_sharpness' with rho=0; expected a finite number above 0; try rho=0.05"),
        ("average_sharpness:pairs=1", "pairs=1"),
        ("worst_case_sharpness:rho=-1", "'worst_case_sharpness' with rho=-1"),
        ("worst_case_sharpness:norm=l1", "norm='l1'; expected one of l2, linf"),
        ("worst_case_sharpness:restarts=0", "restarts=0"),
        ("gradient_noise:samples=1", "samples=1"),
        ("rds_sharpness:lr=0", "lr=0;"),
        ("rds_sharpness:batches=1", "batches=1"),
        ("persistent_homology:iterates=19", "iterates=19; expected a whole number of at least 20"),
        ("persistent_homology:stride=0", "stride=0"),
        ("persistent_homology:alpha=nan", "alpha=nan"),
        ("persistent_homology:metric=cosine", "metric='cosine'"),
    ],
)
def test_bad_options_are_one_line_that_names_the_fault(spec: str, words: str) -> None:
    with pytest.raises(EdgescopeError) as caught:
        MEASURES.build(spec)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rds_sharpness_continues_bit_for_bit_from_its_state() -> None:
    problem = Problem(6)
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=0.3)
    measure, resumed = MEASURES.build("rds_sharpness"), MEASURES.build("rds_sharpness")
    for _ in range(3):
        problem.train(optimizer, 2)
        measure.take(problem.moment(optimizer))
    resumed.load_state(measure.state())
    problem.train(optimizer, 2)
    a, b = measure.take(problem.moment(optimizer)), resumed.take(problem.moment(optimizer))
    assert a.values == b.values
    assert a.cost.products == b.cost.products
    fresh = MEASURES.build("rds_sharpness").take(problem.moment(optimizer))
    assert fresh.cost.products > a.cost.products  # so the state did matter
