"""The central flow against 1500 steps of gradient descent on a network that learns digits."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor, nn

import edgescope as es

LR, STEPS = 0.4, 1500


def network() -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    data = es.DATA.build("digits").load().subset(200, 300)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        model = es.MODELS.build("mlp:widths=32x32,activation=tanh").build((64,), 10, seed=0)
    finally:
        torch.set_default_dtype(before)
    return model, data.inputs.flatten(1).double(), data.targets, data.test_inputs.flatten(1).double()


def descend(model: nn.Module, x: Tensor, y: Tensor, lr: float) -> Iterator[tuple[float, float, Tensor]]:
    """Losses, squared gradient norms and weights of gradient descent without end, by plain torch."""
    model, labels = copy.deepcopy(model), nn.functional.one_hot(y, 10)
    parameters = list(model.parameters())
    while True:
        loss = (model(x) - labels).square().sum(1).mean() / 2
        gradients = torch.autograd.grad(loss, parameters)
        square = sum(float(gradient.square().sum()) for gradient in gradients)
        yield float(loss.detach()), square, nn.utils.parameters_to_vector(parameters).detach()
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= lr * gradient


def weights_after(steps: int, model: nn.Module, x: Tensor, y: Tensor, lr: float = LR) -> Tensor:
    return next(itertools.islice(descend(model, x, y, lr), steps, None))[2]


def outputs(model: nn.Module, w: Tensor, inputs: Tensor) -> Tensor:
    other = copy.deepcopy(model)
    nn.utils.vector_to_parameters(w, other.parameters())
    with torch.no_grad():
        found: Tensor = other(inputs)
    return found


def test_start_of_the_oscillation() -> None:
    """The sharpness reaches the threshold about step 190, and stays there."""
    model, x, y, _ = network()
    objective = es.Objective(model, es.supervised(es.losses.half_mse), (x, y), threads=1)
    assert float(objective.loss()) == pytest.approx(0.6262183, abs=1e-7)
    assert float(es.top_eigenpairs(objective).values[0]) == pytest.approx(2.9957, abs=1e-3)
    objective.assign(weights_after(186, model, x, y))
    flow = es.CentralFlow(objective, torch.optim.SGD(model.parameters(), lr=LR))
    assert 0.98 < float(flow.now().values[0]) / 2 < 1
    steps = [flow.step() for _ in range(6)]
    assert float(steps[-1].values[0]) / 2 == pytest.approx(1, abs=1e-4)
    assert steps[-1].covariance[0, 0] > 0
    assert steps[-1].loss < steps[-2].loss < steps[-2].predicted_loss


@pytest.mark.slow
def test_time_averages_of_gradient_descent() -> None:
    """Tolerances are those that the predictions are claimed to have; what is reached is two to ten times better."""
    model, x, y, inputs = network()
    objective = es.Objective(model, es.supervised(es.losses.half_mse), (x, y), threads=1)
    losses, run_squares, weights = zip(*itertools.islice(descend(model, x, y, LR), STEPS + 1), strict=True)
    flow = es.CentralFlow(objective, torch.optim.SGD(model.parameters(), lr=LR))
    steps = [flow.step() for _ in range(STEPS - 1)]  # at times 1, 2, ...
    last, middle = flow.weights, (weights[-3] + 2 * weights[-2] + weights[-1]) / 4
    still = weights_after(8 * (STEPS - 1), model, x, y, LR / 8)  # gradient flow
    assert float((last - middle).norm()) < 0.25 * float((still - middle).norm())
    apart = outputs(model, last, inputs) - outputs(model, middle, inputs)
    assert float(apart.square().mean().sqrt()) < 0.005

    def mean(values: Sequence[float], first: int) -> float:
        return sum(values[first:STEPS]) / (STEPS - first)

    for first, wanted in ((200, 0.010532), (800, 0.005334)):
        predicted = mean([0.0, *(step.predicted_loss for step in steps)], first)
        assert predicted == pytest.approx(mean(losses, first), rel=0.03)
        assert predicted == pytest.approx(wanted, rel=0.002)
    squares = mean([0.0, *(step.predicted_gradient_square for step in steps)], 800)
    assert squares == pytest.approx(mean(run_squares, 800), rel=0.1)
    variances = [float(torch.linalg.eigvalsh(step.covariance)[-1]) * LR for step in steps[799:]]
    assert sum(variances) / len(variances) == pytest.approx(1.6e-4, rel=0.2)
    assert max(float(step.values[0]) for step in steps) < 2 * 1.0001
    assert all(after.loss < before.loss for before, after in itertools.pairwise(steps))
    assert sum(step.cost.gradients for step in steps) < 35 * STEPS
