"""Time averages of gradient descent and RMSProp on a network that learns digits: figures of an independent program.

They are those of a prototype that shares no code with the library. Its eigenpairs and third derivatives had other
tolerances, so that flows are compared with it to 1 to 5%, and runs of the optimizers to 0.1%.
"""

from __future__ import annotations

import pytest
import torch
from test_central_flow_on_digits import LR, STEPS, Descent, network, outputs

import edgescope as es

pytestmark = pytest.mark.slow


def mean(values: list[float], first: int, last: int) -> float:
    return sum(values[first:last]) / (last - first)


def test_gradient_descent_in_quarter_steps_without_the_correction() -> None:
    model, x, y, inputs = network()
    objective = es.Objective(model, es.supervised(es.losses.half_mse), (x, y), threads=1)
    run = Descent(objective, STEPS)
    flow = es.CentralFlow(objective, torch.optim.SGD(model.parameters(), lr=LR), substeps=4, correction=False)
    steps = [flow.step() for _ in range(STEPS - 1)]  # at times 1, 2, ...
    last, middle = flow.weights, run.midpoint(STEPS - 1)
    assert float((last - middle).norm()) == pytest.approx(0.263, rel=0.03)
    apart = outputs(model, last, inputs) - outputs(model, middle, inputs)
    assert float(apart.square().mean().sqrt()) == pytest.approx(0.0089, rel=0.05)
    predicted = [0.0, *(step.predicted_loss for step in steps)]
    assert mean(predicted, 200, STEPS) == pytest.approx(0.010453, rel=0.002)
    assert mean(predicted, 800, STEPS) == pytest.approx(0.005273, rel=0.002)
    assert mean(run.losses, 800, STEPS) == pytest.approx(0.005354, rel=0.001)
    squares = [0.0, *(step.predicted_gradient_square for step in steps)]
    assert mean(squares, 800, STEPS) == pytest.approx(5.07e-3, rel=0.02)
    assert mean(run.squares, 800, STEPS) == pytest.approx(5.163e-3, rel=0.001)
    variances = [LR * float(torch.linalg.eigvalsh(step.covariance)[-1]) for step in steps[799:]]
    assert sum(variances) / len(variances) == pytest.approx(1.613e-4, rel=0.03)
    assert max(float(step.values[0]) for step in steps) / 2 < 1 + 1e-4
    assert next(step.time for step in steps if step.covariance.shape[0]) == pytest.approx(171, abs=30)


FROM, TO, AVERAGED = 30, 599, 450


class RMSProp:
    """600 steps of RMSProp: losses, squared gradient norms, sums of the roots of second moments, weights."""

    def __init__(self) -> None:
        self.model, x, y, self.inputs = network()
        self.objective = es.Objective(self.model, es.supervised(es.losses.half_mse), (x, y), threads=1)
        self.optimizer = torch.optim.RMSprop(self.model.parameters(), lr=3e-4, alpha=0.99, eps=1e-7)
        self.losses: list[float] = []
        self.squares: list[float] = []
        self.roots: list[float] = []
        self.weights = [self.objective.parameters()]

    def steps(self, count: int) -> None:
        for _ in range(count):
            gradient = self.objective.gradient()
            self.losses.append(float(self.objective.loss()))
            self.squares.append(float(gradient.square().sum()))
            for tensor, slot in zip(self.objective.tensors, self.objective.layout, strict=True):
                tensor.grad = gradient[slot.slice].view(slot.shape).clone()
            self.optimizer.step()
            moments = [state["square_avg"] for state in self.optimizer.state.values()]
            self.roots.append(sum(float(nu.sqrt().sum()) for nu in moments))
            self.weights.append(self.objective.parameters())


@pytest.mark.parametrize(("corrected", "distance"), [(False, 0.0565), (True, 0.0554)])
def test_rmsprop(corrected: bool, distance: float) -> None:
    run = RMSProp()
    run.steps(FROM)
    flow = es.CentralFlow(run.objective, run.optimizer, correction=corrected)
    predicted, roots = [0.0] * (FROM + 1), [0.0] * (FROM + 1)
    squares = [0.0] * (FROM + 1)
    largest = 0
    for _ in range(FROM, TO):
        step = flow.step()
        predicted.append(step.predicted_loss)
        squares.append(step.predicted_gradient_square)
        roots.append(float(flow.slow_state["square_avg"].sqrt().sum()))
        largest = max(largest, step.covariance.shape[0])
    run.steps(TO + 1 - FROM)
    before, now, after = run.weights[TO - 1 :]
    middle = (before + 2 * now + after) / 4
    assert float((flow.weights - middle).norm()) == pytest.approx(distance, rel=0.05)
    apart = outputs(run.model, flow.weights, run.inputs) - outputs(run.model, middle, run.inputs)
    assert float(apart.square().mean().sqrt()) == pytest.approx(0.0017, rel=0.1)
    assert mean(run.losses, AVERAGED, TO + 1) == pytest.approx(0.018102, rel=0.001)
    assert mean(predicted, AVERAGED, TO + 1) == pytest.approx(0.018187, rel=0.003)
    assert mean(run.squares, AVERAGED, TO + 1) == pytest.approx(1.314e-3, rel=0.001)
    assert mean(squares, AVERAGED, TO + 1) == pytest.approx(1.426e-3, rel=0.02)
    assert mean(run.roots, AVERAGED, TO + 1) == pytest.approx(1.980, rel=0.001)
    assert mean(roots, AVERAGED, TO + 1) == pytest.approx(1.992, rel=0.003)
    assert float(step.covariance.trace()) == pytest.approx(1.08e-4, rel=0.1)
    assert largest == 7
