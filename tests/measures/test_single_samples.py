"""Losses and gradients of single samples, and the gradient noise that they have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from measured_models import FLOATS, moment_of
from small_problem import Problem
from torch import Tensor, nn

from edgescope.errors import NotKnownError
from edgescope.losses import cross_entropy, half_mse, supervised
from edgescope.measures import MEASURES, Reading
from edgescope.objective import Objective
from edgescope.objective.samples import sample_gradients, sample_losses


def one_by_one(problem: Problem) -> tuple[Tensor, Tensor]:
    """Losses and gradients of each sample, by plain torch."""
    inputs, targets = problem.data
    w = problem.flat().double().requires_grad_()
    losses = [problem.loss_at(w, (inputs[i : i + 1], targets[i : i + 1])) for i in range(len(inputs))]
    gradients = [torch.autograd.grad(loss, w)[0] for loss in losses]
    return torch.stack(losses).detach(), torch.stack(gradients)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("l2", [0.0, 0.3])
def test_losses_and_gradients_of_single_samples(l2: float, dtype: torch.dtype) -> None:
    problem = Problem(2, dtype)
    batches = [tuple(t[a:b] for t in problem.data) for a, b in ((0, 9), (9, 16), (16, 20))]
    objective = Objective(problem.model, supervised(half_mse), batches, path="kept", threads=1, l2=l2)
    losses, gradients = one_by_one(problem)
    assert torch.allclose(sample_losses(objective), losses, rtol=1e-5, atol=1e-7)
    assert torch.allclose(torch.cat(list(sample_gradients(objective))).double(), gradients, rtol=1e-4, atol=1e-6)
    some = torch.cat(list(sample_gradients(objective, count=8, seed=1))).double()
    matches = [int((gradients - row).abs().sum(1).argmin()) for row in some]
    assert len(set(matches)) == 8
    assert torch.allclose(some, gradients[matches], rtol=1e-4, atol=1e-6)
    assert sorted(matches) != list(range(8))
    assert (objective.spent.losses, objective.spent.gradients) == (1, 2)


def test_single_samples_of_an_operation_that_cannot_be_mapped() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            out = self.layer(x)
            return 2 * out if float(out.detach().sum()) > 1e9 else out

    torch.manual_seed(0)
    model, plain = Branching(), nn.Linear(4, 3)
    plain.load_state_dict(model.layer.state_dict())
    data = torch.randn(7, 4), torch.randint(3, (7,))
    one, other = (Objective(m, supervised(cross_entropy), data, path="kept", threads=1) for m in (model, plain))
    assert torch.allclose(sample_losses(one), sample_losses(other))
    assert torch.allclose(torch.cat(list(sample_gradients(one))), torch.cat(list(sample_gradients(other))), atol=1e-6)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("seed", range(3))
def test_gradient_noise_is_the_trace_of_the_covariance_over_samples(seed: int, dtype: torch.dtype) -> None:
    problem = Problem(seed, dtype)
    _, gradients = one_by_one(problem)
    exact = float(torch.cov(gradients.T).trace())
    length = float(gradients.mean(0).square().sum())
    reading = MEASURES.build("gradient_noise").take(problem.moment())
    assert reading.values == pytest.approx({"trace": exact, "scale": exact / length}, rel=1e-4)
    assert reading.errors == {"trace": 0, "scale": 0}
    assert reading.cost.gradients == 2


def test_gradient_noise_of_some_samples_is_within_its_error_and_unbiased() -> None:
    problem = Problem(4)
    exact = float(torch.cov(one_by_one(problem)[1].T).trace())
    readings = [MEASURES.build(f"gradient_noise:samples=10,seed={i}").take(problem.moment()) for i in range(40)]
    found, errors = (np.array([getattr(r, which)["trace"] for r in readings]) for which in ("values", "errors"))
    assert np.mean(np.abs(found - exact) < 2.3 * errors) > 0.85
    assert abs(found.mean() - exact) < 4 * found.std() / 40**0.5
    assert found.std() == pytest.approx(errors.mean(), rel=0.4)


def test_weight_decay_has_no_noise_but_is_part_of_the_gradient() -> None:
    problem = Problem(0)
    plain = MEASURES.build("gradient_noise").take(problem.moment())
    decayed = moment_of(problem.model, problem.data, l2=0.5)
    reading = MEASURES.build("gradient_noise").take(decayed)
    assert reading.values["trace"] == pytest.approx(plain.values["trace"])
    length = float(decayed.objective.gradient().square().sum())
    assert reading.values["scale"] == pytest.approx(plain.values["trace"] / length)


def token_mean(model: nn.Module, batch: Any) -> Tensor:
    """A mean over the samples that count, which is no mean over samples."""
    inputs, counted = batch
    return (model(inputs).square().sum(1) * counted).sum() / counted.sum()


def noise_of(model: nn.Module, data: Any, **how: Any) -> Reading:
    return MEASURES.build("gradient_noise").take(moment_of(model, data, **how))


def test_where_single_samples_have_no_gradient_the_note_says_why() -> None:
    torch.manual_seed(0)
    data = torch.randn(6, 4), torch.randint(3, (6,))
    single = noise_of(nn.Linear(4, 3), (data[0][:1], data[1][:1]))
    normalised = noise_of(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), data, mode="train")
    weighed = noise_of(nn.Linear(4, 3), (data[0], torch.tensor([1.0, 3.0, 2.0, 1.0, 5.0, 1.0])), loss_fn=token_mean)
    for reading, words in ((single, "single sample"), (normalised, "batch statistics"), (weighed, "not a mean over")):
        assert reading.values == {}
        assert words in reading.note
        assert "\n" not in reading.note
    flat = nn.Linear(4, 3).double()
    exact = noise_of(flat, (data[0].double(), flat(data[0].double()).detach()))
    assert list(exact.values) == ["trace"]
    assert "gradient is zero" in exact.note


def test_sharded_samples_are_refused_in_one_line() -> None:
    problem = Problem()
    problem.objective.group = object()  # type: ignore[assignment]
    with pytest.raises(NotKnownError, match="sharded") as caught:
        sample_losses(problem.objective)
    assert "\n" not in str(caught.value)
