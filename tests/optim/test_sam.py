"""SAM against two gradients written out by hand, in every form of its step."""

from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.modules import module as torch_module

from edgescope.errors import InputError, NotKnownError
from edgescope.optim import SAM, SteepestDescent, rule_for

BASES: dict[str, tuple[Callable[..., torch.optim.Optimizer], dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {"lr": 0.1}),
    "momentum": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True}),
    "adam": (torch.optim.Adam, {"lr": 0.01}),
    "sign": (SteepestDescent, {"lr": 0.01, "geometry": "linf", "normalized": True}),
}


def problem(seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).to(dtype)
    x, y = (torch.randn(6, size, generator=generator).to(dtype) for size in (3, 2))
    return model, x, y


def squared(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return (model(x) - y).square().mean()


def backward(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    loss = squared(model, x, y)
    loss.backward()
    return loss


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


class Counting(nn.Module):
    """A layer that replaces its buffer at every call."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls = self.calls + 1
        return x


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("form", ["closure", "two steps", "groups"])
def test_running_statistics_are_those_of_the_first_pass(form: str, momentum: float | None) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(3, 4), nn.BatchNorm1d(4, momentum=momentum, affine=False), Counting(), nn.Linear(4, 2)
    )
    once, other = copy.deepcopy(model), nn.BatchNorm1d(3)
    x, y = torch.randn(8, 3), torch.randn(8, 2)
    optimizer = SAM(model.parameters(), lr=0.1, rho=0.5)
    if form == "two steps":
        backward(model, x, y)
        optimizer.first_step(zero_grad=True)
        other(x)  # a module that is not the optimizer's counts as always
        backward(model, x, y)
        optimizer.second_step()
        assert int(other.num_batches_tracked) == 1
        assert float(other.running_mean.abs().sum()) > 0
    else:
        closure = lambda: backward(model, x, y)  # noqa: E731
        optimizer.step([closure] if form == "groups" else closure)
    once(x)
    assert int(model[1].num_batches_tracked) == 1
    assert float(model[2].calls) == 1
    for (name, buffer), (_, wanted) in zip(model.named_buffers(), once.named_buffers(), strict=True):
        torch.testing.assert_close(buffer, wanted, msg=name)
    assert not torch_module._global_forward_pre_hooks


def test_a_compiled_model_keeps_its_statistics_too() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    compiled = torch.compile(model, backend="eager")
    x, y = torch.randn(8, 3), torch.randn(8, 2)
    optimizer = SAM(compiled.parameters(), lr=0.1, rho=0.5, model=compiled)
    for _ in range(2):
        optimizer.step(lambda: backward(compiled, x, y))
    assert int(model[1].num_batches_tracked) == 2


def test_no_hook_outlives_an_optimizer_that_never_took_its_second_step() -> None:
    model, x, y = problem()
    optimizer = SAM(model.parameters(), lr=0.1)
    backward(model, x, y)
    optimizer.first_step()
    assert len(torch_module._global_forward_pre_hooks) == 1
    del optimizer
    gc.collect()
    assert not torch_module._global_forward_pre_hooks


@pytest.mark.parametrize("unscale", [False, True])
def test_with_a_gradient_scaler_the_step_is_the_same(unscale: bool) -> None:
    model, x, y = problem(dtype=torch.float32)
    twin = copy.deepcopy(model)
    plain = SAM(twin.parameters(), lr=0.1, rho=0.2)
    optimizer = SAM(model.parameters(), lr=0.1, rho=0.2)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for _ in range(3):
        plain.step(lambda: backward(twin, x, y))
        scaler.scale(squared(model, x, y)).backward()
        optimizer.first_step(zero_grad=True)
        scaler.scale(squared(model, x, y)).backward()
        if unscale:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("when", ["first pass", "second pass", "both"])
@pytest.mark.parametrize("unscale", [False, True])
def test_after_an_overflow_nothing_moves_and_the_scale_falls(when: str, unscale: bool) -> None:
    model, x, y = problem(dtype=torch.float32)
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = SAM(model.parameters(), torch.optim.Adam, lr=0.1, rho=0.2)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for here in ("first pass", "second pass"):
        scaler.scale(squared(model, x, y)).backward()
        if when in (here, "both"):
            model[0].weight.grad[0, 0] = torch.inf
        if here == "first pass":
            optimizer.first_step(zero_grad=True)
    if unscale:
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    same = [torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True)]
    if when == "first pass":  # the gradient at w itself is sound, so the step is taken along that
        assert not any(same)
        assert scaler.get_scale() == 2.0**10
    else:
        assert all(same)
        assert scaler.get_scale() == 2.0**9
        assert not optimizer.state


def test_under_autocast_the_weights_come_back_exactly() -> None:
    model, x, y = problem(dtype=torch.float32)
    twin = copy.deepcopy(model)
    wanted = torch.optim.SGD(twin.parameters(), lr=0.1)

    def closure() -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = squared(model, x, y)
        loss.backward()
        return loss

    SAM(model.parameters(), lr=0.1, rho=0.2).step(closure)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        q.grad = p.grad
    wanted.step()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), twin.parameters(), strict=True))


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


@pytest.mark.parametrize("on", ["sam", "base"])
def test_a_scheduler_may_be_on_either(on: str) -> None:
    model, x, y = problem()
    optimizer = SAM(model.parameters(), torch.optim.SGD, lr=0.1, momentum=0.9, rho=0.2)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer if on == "sam" else optimizer.base, step_size=1, gamma=0.5)
    for form in range(3):
        if form:
            optimizer.step(lambda: backward(model, x, y))
        else:
            backward(model, x, y)
            optimizer.first_step(zero_grad=True)
            backward(model, x, y)
            optimizer.second_step()
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == optimizer.base.param_groups[0]["lr"] == pytest.approx(0.1 / 8)


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


def test_a_saved_state_continues_the_same_run() -> None:
    model, x, y = problem()
    optimizer = SAM(model.parameters(), torch.optim.Adam, lr=0.05, rho=0.3)
    for _ in range(3):
        optimizer.step(lambda: backward(model, x, y))
    twin = copy.deepcopy(model)
    resumed = SAM(twin.parameters(), torch.optim.Adam, lr=0.9, rho=0.9)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert resumed.param_groups is resumed.base.param_groups
    assert resumed.param_groups[0]["rho"] == 0.3
    for _ in range(3):
        optimizer.step(lambda: backward(model, x, y))
        resumed.step(lambda: backward(twin, x, y))
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), twin.parameters(), strict=True))


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))], ids=["deep", "pickled"]
)
def test_a_copy_with_its_model_continues_the_same_run(copied: Callable[[Any], Any]) -> None:
    model, x, y = problem()
    optimizer = SAM(model.parameters(), torch.optim.Adam, lr=0.05, rho=0.3, adaptive=True, model=model)
    optimizer.step(lambda: backward(model, x, y))
    twin, other = copied((model, optimizer))
    assert other.param_groups is other.base.param_groups
    for _ in range(2):
        optimizer.step(lambda: backward(model, x, y))
        other.step(lambda: backward(twin, x, y))
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), twin.parameters(), strict=True))


def test_a_closure_that_fails_at_the_perturbed_weights_leaves_them_as_they_were() -> None:
    model, x, y = problem()
    before = [p.detach().clone() for p in model.parameters()]
    calls = []

    def closure() -> Tensor:
        calls.append(1)
        if len(calls) == 2:
            raise MemoryError("no room")
        return backward(model, x, y)

    optimizer = SAM(model.parameters(), lr=0.1)
    with pytest.raises(MemoryError, match="no room"):
        optimizer.step(closure)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    optimizer.step(closure)
    assert not torch_module._global_forward_pre_hooks


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
    with pytest.raises(NotKnownError, match="SAM"):
        rule_for(optimizer, parameters)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(squared(model, x, y)).backward()
    with pytest.raises(InputError, match="gradient scaler"):
        scaler.step(optimizer, lambda: backward(model, x, y))
    table = nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(InputError, match="sparse"):
        SAM(table.parameters(), lr=0.1).first_step()
