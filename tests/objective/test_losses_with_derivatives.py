"""Losses that take derivatives themselves: physics-informed networks, gradient penalties, inner loops."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from live_reference import LossFunction, agrees, at_once, of_live_model, relative
from torch import Tensor, nn
from torch.func import functional_call

from edgescope.objective import Objective, in_precision, mini_batches


def slope(u: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x = x.detach().requires_grad_(True)
    y = u(x)
    (dy,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    return x, y, dy


def first_order(u: nn.Module, b: Any) -> Tensor:
    _, y, dy = slope(u, b[0])
    return (dy + y).square().mean()


def second_order(u: nn.Module, b: Any) -> Tensor:
    x, y, dy = slope(u, b[0])
    (ddy,) = torch.autograd.grad(dy.sum(), x, create_graph=True)
    return (ddy - y).square().mean()


def gradient_penalty(critic: nn.Module, b: Any) -> Tensor:
    real, fake, share = b
    _, _, dy = slope(critic, share * real + (1 - share) * fake)
    penalty = (dy.norm(dim=1) - 1).square().mean()
    return critic(fake).mean() - critic(real).mean() + 10 * penalty


def inner_loop(m: nn.Module, b: Any) -> Tensor:
    x, y, _ = b
    parameters = dict(m.named_parameters())
    for _ in range(2):
        loss = F.mse_loss(functional_call(m, parameters, (x,)), y)
        found = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
        parameters = {name: p - 0.1 * g for (name, p), g in zip(parameters.items(), found, strict=True)}
    return F.mse_loss(functional_call(m, parameters, (x,)), y)


def only_with_gradients(u: nn.Module, b: Any) -> Tensor:
    """Without gradients no penalty, as some training code has it for validation."""
    _, _, dy = slope(u, b[0]) if torch.is_grad_enabled() else (b[0], b[0], torch.zeros(()))
    return u(b[0]).square().mean() + dy.square().mean()


def forward_mode(u: nn.Module, b: Any) -> Tensor:
    def along(x: Tensor) -> Any:
        return torch.func.jvp(lambda t: u(t[None])[0], (x,), (torch.ones_like(x),))

    y, dy = torch.func.vmap(along)(b[0])
    return (dy + y).square().mean()


def mapped_gradients(u: nn.Module, b: Any) -> Tensor:
    dy = torch.func.vmap(torch.func.grad(lambda x: u(x[None]).sum()))(b[0])
    return (dy.sum(1) + u(b[0])[:, 0]).square().mean()


LOSSES: dict[str, LossFunction] = {
    "first order": first_order,
    "second order": second_order,
    "gradient penalty": gradient_penalty,
    "inner loop": inner_loop,
    "only with gradients": only_with_gradients,
    "forward mode": forward_mode,
    "mapped gradients": mapped_gradients,
}


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 1))


def made(name: str, n: int, seed: int) -> tuple[nn.Module, Any]:
    torch.manual_seed(seed)
    x, y, share = torch.randn(n, 2), torch.randn(n, 2 if name == "gradient penalty" else 1), torch.rand(n, 1)
    return network().double(), (x.double(), y.double(), share.double())


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # by torch itself, at the first jvp of a process
@pytest.mark.parametrize("name", LOSSES)
def test_losses_gradients_and_products(name: str) -> None:
    loss_fn = LOSSES[name]
    for seed, (n, check) in enumerate([(20, True), (50, False), (300, True)]):
        model, batch = made(name, n, seed)
        live = at_once(model, loss_fn, batch)
        objective = Objective(model, loss_fn, batch, check=check)
        with torch.no_grad():
            agrees(objective, live)
        assert list(objective.notices) == []
        assert not objective.loss().requires_grad
        assert not objective.hvp(objective.gradient()).requires_grad
        assert all(p.grad is None for p in model.parameters())
        moved = Objective(model, loss_fn, batch, check=check)  # a loss before any gradient, at another place
        place = moved.parameters() + 0.1
        other = network().double()
        torch.nn.utils.vector_to_parameters(place, other.parameters())
        assert relative(moved.loss(place), at_once(other, loss_fn, batch).loss) < 1e-9
        single = in_precision(Objective(model.float(), loss_fn, batch, check=check), torch.float64)
        agrees(single, live, slack=1e-4)


@pytest.mark.parametrize("name", ["first order", "second order", "only with gradients"])
def test_several_batches_parts_and_mini_batches(name: str) -> None:
    loss_fn = LOSSES[name]
    model, batch = made(name, 60, 3)
    live = at_once(model, loss_fn, batch)
    batches = list(zip(*(leaf.split([35, 25]) for leaf in batch), strict=True))
    agrees(Objective(model, loss_fn, batches), live)  # warnings are errors
    agrees(Objective(model, loss_fn, batch, chunk=7), live)
    few = next(mini_batches(Objective(model, loss_fn, batches), 20, seed=3))
    drawn = torch.randperm(60, generator=torch.Generator().manual_seed(3))[:20].sort().values
    agrees(few, at_once(model, loss_fn, tuple(leaf[drawn] for leaf in batch)))


def test_batches_of_collocation_and_boundary_points() -> None:
    """Two sets of points of different sizes in one batch."""

    def loss_fn(u: nn.Module, b: Any) -> Tensor:
        return second_order(u, (b["inside"],)) + (u(b["boundary"]) - 1).square().mean()

    torch.manual_seed(0)
    model = network().double()
    batch = {"inside": torch.randn(50, 2).double(), "boundary": torch.randn(8, 2).double()}
    agrees(Objective(model, loss_fn, batch), at_once(model, loss_fn, batch))


def test_the_loss_of_a_model_whose_parameters_have_changed() -> None:
    model, batch = made("first order", 30, 0)
    objective = Objective(model, first_order, batch)
    model[0].requires_grad_(False)
    with torch.no_grad():
        found = objective.loss()
    wanted = of_live_model(first_order(model, batch), list(model[2].parameters()))
    assert relative(found, wanted.loss) < 1e-9
