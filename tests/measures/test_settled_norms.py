"""Norms without oscillation: against dense iterates of quadratics, and against torch's own steps on a network."""

from __future__ import annotations

import copy

import pytest
import torch
from small_problem import Problem

from edgescope.errors import InputError
from edgescope.measures import MEASURES


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("steps", [6, 7])
def test_on_a_quadratic_both_are_what_the_dense_iterates_say(seed: int, steps: int) -> None:
    problem = Problem(seed, linear=True)
    hessian, w, gradient = problem.hessian(), problem.flat(), problem.objective.gradient()
    lr = 1.98 / float(torch.linalg.eigvalsh(hessian)[-1])
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=lr)
    found = MEASURES.build(f"settled_norms:steps={steps},factor=4").take(problem.moment(optimizer)).values
    identity = torch.eye(len(w), dtype=torch.float64)

    def after(rate: float, k: int) -> torch.Tensor:
        moved = sum(torch.linalg.matrix_power(identity - rate * hessian, j) for j in range(k)) @ gradient
        return w - rate * moved

    averaged = torch.stack([after(lr, k) for k in range(1, steps + 1)]).mean(0)
    decayed = after(lr / 4, steps)
    for name, point in (("averaged", averaged), ("decayed", decayed)):
        assert found[f"{name}/l1"] == pytest.approx(float(point.abs().sum()), rel=1e-9)
        assert found[f"{name}/l2"] == pytest.approx(float(point.norm()), rel=1e-9)
        assert found[f"{name}/train"] == pytest.approx(float(problem.loss_at(point)), rel=1e-9)
        assert found[f"{name}/test"] == pytest.approx(float(problem.loss_at(point, problem.test_data)), rel=1e-9)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_on_a_network_they_are_torchs_own_steps_and_training_is_left_alone(momentum: float) -> None:
    problem = Problem(4)
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=0.4, momentum=momentum)
    problem.train(optimizer, 3)
    before, state = problem.flat(), copy.deepcopy(optimizer.state_dict())
    found = MEASURES.build("settled_norms:steps=5,factor=10").take(problem.moment(optimizer)).values
    assert torch.equal(problem.flat(), before)
    iterates = []
    for _ in range(5):
        problem.train(optimizer, 1)
        iterates.append(problem.flat())
    assert found["averaged/l2"] == pytest.approx(float(torch.stack(iterates).mean(0).norm()), rel=1e-12)
    problem.objective.assign(before)
    optimizer.load_state_dict(state)
    optimizer.param_groups[0]["lr"] = 0.04
    problem.train(optimizer, 5)
    assert found["decayed/l1"] == pytest.approx(float(problem.flat().abs().sum()), rel=1e-12)


def test_an_oscillation_across_a_valley_is_gone_in_both() -> None:
    problem = Problem(1, linear=True)
    hessian = problem.hessian()
    values, vectors = torch.linalg.eigh(hessian)
    minimum = problem.flat() - torch.linalg.pinv(hessian, hermitian=True) @ problem.objective.gradient()
    problem.objective.assign(minimum + 30 * vectors[:, -1])
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=2 / float(values[-1]))
    found = MEASURES.build("settled_norms").take(problem.moment(optimizer)).values
    settled = float(minimum.norm())
    assert float(problem.flat().norm()) > 3 * settled
    assert found["averaged/l2"] == pytest.approx(settled, rel=1e-9)
    assert found["decayed/l2"] == pytest.approx(settled, rel=1e-3)


def test_what_cannot_be_had_is_said_in_one_line() -> None:
    problem = Problem(0, linear=True)
    assert "no optimizer" in MEASURES.build("settled_norms").take(problem.moment()).note
    lost = torch.optim.SGD(problem.model.parameters(), lr=1e30)
    reading = MEASURES.build("settled_norms").take(problem.moment(lost))
    assert not reading.values
    assert "diverge" in reading.note
    for spec, word in (("settled_norms:steps=0", "steps=0"), ("settled_norms:factor=0.5", "factor=0.5")):
        with pytest.raises(InputError, match=word):
            MEASURES.build(spec)
