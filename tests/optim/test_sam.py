"""SAM against two gradients written out by hand, in every form of its step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from sam_problem import backward, problem, squared
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from edgescope.errors import InputError, NotKnownError
from edgescope.linalg import from_matrix
from edgescope.optim import SAM, SteepestDescent, rule_for

BASES: dict[str, tuple[Callable[..., torch.optim.Optimizer], dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {"lr": 0.1}),
    "momentum": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True}),
    "adam": (torch.optim.Adam, {"lr": 0.01}),
    "sign": (SteepestDescent, {"lr": 0.01, "geometry": "linf", "normalized": True}),
}


def by_hand(
    model: nn.Module, optimizer: torch.optim.Optimizer, rho: float, adaptive: bool, x: Tensor, y: Tensor
) -> None:
    """One step of SAM as the papers write it, with functions in place of state."""
    named = {name: p.detach() for name, p in model.named_parameters()}

    def loss(w: dict[str, Tensor]) -> Tensor:
        return (functional_call(model, w, (x,)) - y).square().mean()

    scale = {name: w.abs() if adaptive else torch.ones_like(w) for name, w in named.items()}
    gradient = grad(loss)(named)
    length = sum((scale[name] * g).square().sum() for name, g in gradient.items()) ** 0.5
    moved = {name: w + rho * scale[name] ** 2 * gradient[name] / length for name, w in named.items()}
    at_moved = grad(loss)(moved)
    for name, p in model.named_parameters():
        p.grad = at_moved[name]
    optimizer.step()


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(
    ("seed", "dtype", "rtol"), [(0, torch.float64, 1e-10), (1, torch.float64, 1e-10), (0, torch.float32, 1e-4)]
)
def test_every_form_is_two_gradients(base: str, adaptive: bool, seed: int, dtype: torch.dtype, rtol: float) -> None:
    kind, options = BASES[base]
    model, x, y = problem(seed, dtype)
    twin, loop = copy.deepcopy(model), copy.deepcopy(model)
    wanted = kind(twin.parameters(), **options)
    closed = SAM(model.parameters(), kind, rho=0.3, adaptive=adaptive, **options)
    two = SAM(loop.parameters(), kind, rho=0.3, adaptive=adaptive, **options)
    for _ in range(4):
        before = float(squared(model, x, y).detach())
        by_hand(twin, wanted, 0.3, adaptive, x, y)
        assert float(closed.step(lambda: backward(model, x, y)).detach()) == before
        backward(loop, x, y)
        two.first_step(zero_grad=True)
        backward(loop, x, y)
        two.second_step(zero_grad=True)
    for p, same, q in zip(model.parameters(), loop.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=rtol, atol=rtol)
        assert torch.equal(p, same)
        assert same.grad is None


def test_on_a_quadratic_the_step_has_a_closed_form() -> None:
    h = torch.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    w = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)

    def closure() -> Tensor:
        loss = 0.5 * w @ h @ w
        loss.backward()
        return loss

    start = w.detach().clone()
    SAM([w], lr=0.1, rho=0.5).step(closure)
    g = h @ start
    torch.testing.assert_close(w.detach(), start - 0.1 * h @ (start + 0.5 * g / g.norm()), rtol=1e-14, atol=0)


@pytest.mark.parametrize("m", [1, 2, 4])
def test_groups_of_samples_have_their_own_perturbations(m: int) -> None:
    model, x, y = problem()
    named = {name: p.detach().clone() for name, p in model.named_parameters()}

    def loss(w: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return (functional_call(model, w, (x,)) - y).square().mean()

    def at_own_perturbation(x: Tensor, y: Tensor) -> dict[str, Tensor]:
        g = grad(loss)(named, x, y)
        length = sum(piece.square().sum() for piece in g.values()) ** 0.5
        return grad(loss)({name: w + 0.2 * g[name] / length for name, w in named.items()}, x, y)

    if m == 1:
        each = vmap(at_own_perturbation)(x[:, None], y[:, None])
        mean = {name: piece.mean(0) for name, piece in each.items()}
    else:  # 4 and 2 samples, or 2, 2 and 2: the mean over samples, not over groups
        parts = [(len(a), at_own_perturbation(a, b)) for a, b in zip(x.split(m), y.split(m), strict=True)]
        mean = {name: sum(k / 6 * piece[name] for k, piece in parts) for name in named}
    before = float(squared(model, x, y).detach())
    closures = [lambda a=a, b=b: backward(model, a, b) for a, b in zip(x.split(m), y.split(m), strict=True)]
    optimizer = SAM(model.parameters(), torch.optim.SGD, lr=0.5, rho=0.2)
    loss_before = optimizer.step(closures, weights=[len(a) for a in x.split(m)])
    assert float(loss_before.detach()) == pytest.approx(before, rel=1e-12)
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.detach(), named[name] - 0.5 * mean[name], rtol=1e-11, atol=1e-13)


def test_accumulated_micro_batches_are_one_batch() -> None:
    model, x, y = problem()
    twin, loop = copy.deepcopy(model), copy.deepcopy(model)
    SAM(model.parameters(), lr=0.1, rho=0.2).step(lambda: backward(model, x, y))

    def accumulate(model: nn.Module) -> float:
        return sum(
            float((backward_of := squared(model, a, b) / 3).detach()) + (backward_of.backward() or 0.0)
            for a, b in zip(x.split(2), y.split(2), strict=True)
        )

    SAM(twin.parameters(), lr=0.1, rho=0.2).step(lambda: accumulate(twin))
    two = SAM(loop.parameters(), lr=0.1, rho=0.2)
    accumulate(loop)
    two.first_step(zero_grad=True)
    accumulate(loop)
    two.step()
    for p, q, r in zip(model.parameters(), twin.parameters(), loop.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-11, atol=1e-13)
        assert torch.equal(q, r)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_weights_are_put_back_bit_for_bit(dtype: torch.dtype) -> None:
    model, x, y = problem(dtype=dtype)
    before = [p.detach().clone() for p in model.parameters()]
    SAM(model.parameters(), torch.optim.SGD, lr=0.0, rho=0.37).step(lambda: backward(model, x, y))
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_zero_gradient_moves_nothing(adaptive: bool) -> None:
    w = torch.zeros(3, requires_grad=True)
    optimizer = SAM([w], lr=0.1, rho=0.2, adaptive=adaptive)

    def closure() -> Tensor:
        loss = w.square().sum()
        loss.backward()
        return loss

    for _ in range(2):
        optimizer.step(closure)
    assert torch.equal(w, torch.zeros(3))


def test_groups_have_their_own_radius_and_later_ones_the_default() -> None:
    model, x, y = problem()
    first, last = model[0], model[2]
    optimizer = SAM(
        [{"params": first.parameters(), "lr": 0.3, "rho": 0.5}], torch.optim.SGD, lr=0.1, rho=0.2, adaptive=True
    )
    optimizer.add_param_group({"params": last.parameters()})
    assert [(g["lr"], g["rho"], g["adaptive"]) for g in optimizer.param_groups] == [(0.3, 0.5, True), (0.1, 0.2, True)]
    backward(model, x, y)
    before = [p.detach().clone() for p in model.parameters()]
    gradient = [p.grad.clone() for p in model.parameters()]
    optimizer.first_step()
    length = sum((w * g).square().sum() for w, g in zip(before, gradient, strict=True)) ** 0.5
    for rho, p, w, g in zip((0.5, 0.5, 0.2, 0.2), model.parameters(), before, gradient, strict=True):
        torch.testing.assert_close(p.detach(), w + rho * w**2 * g / length)


def test_frozen_and_unused_parameters_stay() -> None:
    model, x, y = problem()
    model[0].bias.requires_grad_(False)
    unused = nn.Parameter(torch.ones(2))
    frozen = model[0].bias.clone()
    SAM([*model.parameters(), unused], torch.optim.Adam, lr=0.1).step(lambda: backward(model, x, y))
    assert torch.equal(model[0].bias, frozen)
    assert torch.equal(unused, torch.ones(2))


@pytest.mark.parametrize("rho", [0.0, -0.1, float("nan"), float("inf")])
def test_a_radius_that_cannot_be_used_is_named(rho: float) -> None:
    w = torch.ones(2, requires_grad=True)
    with pytest.raises(InputError, match=f"rho={rho:g}; expected a finite number above 0") as caught:
        SAM([w], lr=0.1, rho=rho)
    assert "\n" not in str(caught.value)
    optimizer = SAM([w], lr=0.1)
    with pytest.raises(InputError, match=f"rho={rho:g}"):
        optimizer.add_param_group({"params": [torch.ones(1, requires_grad=True)], "rho": rho})
    assert len(optimizer.param_groups) == 1


def test_calls_that_make_no_sense_are_named() -> None:
    model, x, y = problem()
    parameters = list(model.parameters())
    for options, fault in (
        ({"lr": -1.0}, "base optimizer of SAM cannot be made: .*learning rate"),
        ({"lr": 0.1, "momentun": 0.9}, "cannot be made: .*momentun"),
        ({"base": torch.optim.LBFGS}, "SAM around LBFGS"),
        ({"base": SAM}, "SAM around SAM"),
    ):
        with pytest.raises(InputError, match=fault):
            SAM(parameters, **options)
    optimizer = SAM(parameters, lr=0.1)
    with pytest.raises(InputError, match=r"without a closure; expected first_step\(\)"):
        optimizer.step()
    with pytest.raises(InputError, match="0 closures"):
        optimizer.step([])
    with pytest.raises(InputError, match="1 closures and 2 weights"):
        optimizer.step([lambda: backward(model, x, y)], weights=[1, 2])
    backward(model, x, y)
    optimizer.first_step()
    with pytest.raises(InputError, match="twice in a row"):
        optimizer.first_step()
    with pytest.raises(InputError, match="after first_step"):
        optimizer.step(lambda: backward(model, x, y))
    optimizer.second_step()
    with pytest.raises(NotKnownError, match="SAM depends on the gradient"):
        rule_for(optimizer, parameters).effective(from_matrix(torch.eye(sum(p.numel() for p in parameters))))
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(squared(model, x, y)).backward()
    with pytest.raises(InputError, match="gradient scaler"):
        scaler.step(optimizer, lambda: backward(model, x, y))
    table = nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(InputError, match="sparse"):
        SAM(table.parameters(), lr=0.1).first_step()
