"""Critical learning rates of single batches, against closed forms on quadratics."""

from __future__ import annotations

import pytest
import torch
from problems import CURVATURE, Bowl, bowl_loss, ones
from torch import nn

from edgescope.objective import Objective
from edgescope.tuning.critical_rate import batch_critical_rate
from edgescope.tuning.training_copy import TrainingCopy

BETA1 = 0.9
EPS = 10.0
SLOPE = CURVATURE  # the gradient of each entry at w = 1
KNOWN = {
    "sgd": 2 / CURVATURE,
    "sgd:momentum=0.9": (2 + 2 * 0.9) / CURVATURE,
    "sgd:momentum=0.5,nesterov=true": (2 + 2 * 0.5) / ((1 + 2 * 0.5) * CURVATURE),
    "sgd:weight_decay=1": 2 / (CURVATURE + 1),
    # The preconditioner of the first step of Adam is (1 - beta1) (|g| + eps).
    "adam:eps=10": (2 + 2 * BETA1) * (SLOPE + EPS) / CURVATURE,
    "rmsprop:eps=10": 2 * (0.1 * SLOPE + EPS) / CURVATURE,
}


@pytest.mark.parametrize("optimizer", KNOWN)
def test_on_a_quadratic_it_is_where_training_turns_unstable(optimizer: str) -> None:
    training = TrainingCopy(Bowl(), bowl_loss, optimizer)
    objective = Objective(training.model, bowl_loss, ones(), threads=None)
    found = batch_critical_rate(objective, training)
    assert found is not None
    assert found.bounded
    assert found.value == pytest.approx(KNOWN[optimizer], rel=1e-5)
    assert found.shares == {"w": pytest.approx(1.0)}


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_training_falls_below_it_and_rises_above_it(momentum: float) -> None:
    training = TrainingCopy(Bowl(), bowl_loss, f"sgd:momentum={momentum}")
    found = batch_critical_rate(Objective(training.model, bowl_loss, ones(), threads=None), training)
    assert found is not None
    for factor in (0.97, 1.03):
        trained = TrainingCopy(Bowl(), bowl_loss, f"sgd:momentum={momentum}")
        losses = [trained.step(ones(), factor * found.value) for _ in range(400)]
        assert (losses[-1] < losses[0]) == (factor < 1)


@pytest.mark.parametrize("optimizer", ["steepest:geometry=linf,normalized=true", "sam:rho=0.1"])
def test_of_an_optimizer_without_a_linear_rule_it_is_that_of_its_own_step(optimizer: str) -> None:
    training = TrainingCopy(Bowl(), bowl_loss, optimizer)
    objective = Objective(training.model, bowl_loss, ones(), threads=None)
    before = training.model.state_dict()["w"].clone()
    found = batch_critical_rate(objective, training)
    assert found is not None
    assert torch.equal(training.model.state_dict()["w"], before)
    assert training.optimizer.state_dict()["state"] == {}
    # All entries are 1: a step of -rate in each overshoots to the same loss at rate 2; SAM's gradient is
    # h (1 + rho/2) in each, since the perturbation is rho along a gradient of norm 2 h.
    expected = 2.0 if "linf" in optimizer else 2 / (CURVATURE * (1 + 0.1 / 2))
    assert found.value == pytest.approx(expected, rel=1e-5)


def test_clipping_makes_the_critical_rate_larger() -> None:
    training = TrainingCopy(Bowl(), bowl_loss, "sgd", clip=0.5)
    found = batch_critical_rate(Objective(training.model, bowl_loss, ones(), threads=None), training)
    assert found is not None
    assert found.value == pytest.approx(2 / CURVATURE * 2 * CURVATURE / 0.5, rel=1e-5)  # the gradient has norm 2 h


def test_a_loss_that_rises_nowhere_has_the_largest_rate_tried() -> None:
    model = Bowl()

    def falling(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        assert isinstance(model, Bowl)
        return model.w.sum() * batch.mean()

    training = TrainingCopy(model, falling, "sgd")
    found = batch_critical_rate(Objective(training.model, falling, ones(), threads=None), training)
    assert found is not None
    assert not found.bounded
    assert 1e9 < found.value < 1e12
    assert found.shares == {}


def test_a_batch_without_a_gradient_has_none() -> None:
    model = Bowl()
    with torch.no_grad():
        model.w.zero_()
    training = TrainingCopy(model, bowl_loss, "sgd")
    objective = Objective(training.model, bowl_loss, ones(), threads=None)
    assert batch_critical_rate(objective, training) is None


def test_shares_say_which_layer_limits_the_step() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.steep, self.flat = (nn.Linear(1, 1, bias=False, dtype=torch.float64) for _ in range(2))
            nn.init.ones_(self.steep.weight)
            nn.init.ones_(self.flat.weight)

    def loss(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        assert isinstance(model, Two)
        return (4 * model.steep.weight.square() + model.flat.weight.square()).sum() / 2 * batch.mean()

    training = TrainingCopy(Two(), loss, "sgd")
    found = batch_critical_rate(Objective(training.model, loss, ones(), threads=None), training)
    assert found is not None
    # The gradient is (4, 1), and g'Hg is 64 + 1.
    assert found.value == pytest.approx(2 * 17 / 65, rel=1e-5)
    assert found.shares == {"steep": pytest.approx(64 / 65), "flat": pytest.approx(1 / 65)}
