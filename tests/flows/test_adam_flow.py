"""The proposed flow of Adam, which is experimental, in cases where it has to agree with others."""

from __future__ import annotations

import pytest
import torch
from closed_forms import DRIVE, Network, valley
from torch import nn

import edgescope as es
from edgescope.errors import NotKnownError


def stepped(optimizer: torch.optim.Optimizer, model: Network, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        es.losses.half_mse(model(model.data[0]), model.data[1]).backward()
        optimizer.step()


def test_without_momentum_and_bias_it_is_that_of_rmsprop() -> None:
    """beta1 = 0, and so many steps that beta2 to their power is 0."""
    model = Network()
    rms = torch.optim.RMSprop(model.parameters(), lr=0.02, alpha=0.9)
    stepped(rms, model, 3)
    objective = model.objective()
    pairs = es.top_eigenpairs(objective, metric=es.rule_for(rms, objective.tensors).metric())
    adam = torch.optim.Adam(model.parameters(), lr=0.02, betas=(0.0, 0.9))
    for p in model.parameters():
        rms.state[p]["square_avg"] *= 1.001 * (float(pairs.values[0]) * 0.02 / 2) ** 2  # just below the threshold
        moments = {"exp_avg": torch.zeros_like(p), "exp_avg_sq": rms.state[p]["square_avg"].clone()}
        adam.state[p] = {"step": torch.tensor(1e6)} | moments
    flows = [
        es.CentralFlow(objective, rms, 4),
        es.CentralFlow(objective, adam, 4, experimental=True),
    ]
    for _ in range(3):
        one, other = (flow.step() for flow in flows)
    assert one.covariance.shape[0] >= 1
    assert torch.allclose(flows[0].weights, flows[1].weights, atol=1e-9)
    assert other.predicted_loss == pytest.approx(one.predicted_loss, rel=1e-7)
    assert torch.allclose(flows[0].slow_state["square_avg"], flows[1].slow_state["exp_avg_sq"], rtol=1e-6)
    assert flows[1].corrected


def test_the_threshold_is_that_of_the_optimizer_and_the_variance_holds_it() -> None:
    """One direction at K = (1 + beta1)/((1 - beta1) lr) (sqrt(v) + eps), with v so large and slow that P is constant:

    with P = p/lr the drive is lr a/p_y, and its balance with lr X_xx/(2 p_y) has the variance 2a.
    """
    lr, beta1, root = 0.01, 0.5, 0.05
    threshold = 2 * (1 + beta1) / ((1 - beta1) * lr) * root
    objective = valley(0.0, threshold * (1 - 1e-6), DRIVE)
    adam = torch.optim.Adam(objective.model.parameters(), lr=lr, betas=(beta1, 1 - 1e-12), eps=0.0)
    steps = 1e15  # the bias correction is over
    for p in objective.model.parameters():
        square = torch.full_like(p, root**2)
        adam.state[p] = {"step": torch.tensor(steps).double(), "exp_avg": torch.zeros_like(p), "exp_avg_sq": square}
    rule = es.rule_for(adam, objective.tensors)
    assert rule.threshold().value == pytest.approx(threshold / root)
    flow = es.CentralFlow(objective, adam, 6, experimental=True)
    assert not flow.corrected
    for _ in range(30):
        step = flow.step()
    assert float(flow.weights[1]) == pytest.approx(threshold, rel=1e-8)
    spread = step.basis @ step.covariance @ step.basis.T
    assert float(spread[0, 0]) == pytest.approx(2 * DRIVE, rel=1e-4)
    assert step.predicted_loss == pytest.approx(step.loss + threshold * DRIVE, abs=1e-6)


def test_bias_corrections_of_a_constant_gradient() -> None:
    """Adam then takes steps of lr from the first on, and so does its flow, whatever its momentum is."""

    class Slope(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.zeros(3, dtype=torch.float64))

    model, slope = Slope(), torch.tensor([1.0, -3.0, 0.2], dtype=torch.float64)
    objective = es.Objective(model, lambda m, batch: (m.w * slope).sum() + 0 * batch.sum(), torch.zeros(1, 1))
    adam = torch.optim.Adam(model.parameters(), lr=0.01, betas=(0.9, 0.99), eps=0.0)
    for _ in range(3):
        adam.zero_grad()
        (model.w * slope).sum().backward()
        adam.step()
    flow = es.StableFlow(objective, adam, 8, experimental=True)
    start = flow.weights
    for _ in range(10):
        flow.step()
    assert torch.allclose(flow.weights - start, -0.1 * slope.sign(), rtol=5e-3)
    assert torch.allclose(flow.slow_state["step"], torch.tensor([13.0], dtype=torch.float64))


def test_it_is_continued_to_the_bit() -> None:
    model = Network()
    adam = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.5, 0.99))
    stepped(adam, model, 3)
    flow = es.CentralFlow(model.objective(), adam, 3, experimental=True)
    flow.step()
    other = es.CentralFlow(model.objective(), adam, 3, experimental=True)
    other.load_state(flow.state())
    assert flow.step().loss == other.step().loss
    assert torch.equal(flow.weights, other.weights)


@pytest.mark.parametrize("make", [es.CentralFlow, es.StableFlow])
def test_it_has_to_be_asked_for(make: type) -> None:
    model = Network()
    adam = torch.optim.Adam(model.parameters())
    stepped(adam, model, 2)
    with pytest.raises(NotKnownError, match=r"the averaged dynamics of Adam is not known.*experimental=True"):
        make(model.objective(), adam)
    amsgrad = torch.optim.Adam(model.parameters(), amsgrad=True)
    stepped(amsgrad, model, 2)
    with pytest.raises(NotKnownError, match="the averaged dynamics of Adam, with these options") as caught:
        make(model.objective(), amsgrad, experimental=True)
    assert "experimental" not in str(caught.value)
    decayed = torch.optim.AdamW(model.parameters())
    stepped(decayed, model, 2)
    with pytest.raises(NotKnownError, match="decoupled weight decay"):
        make(model.objective(), decayed, experimental=True)
