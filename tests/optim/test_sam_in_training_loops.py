"""SAM beside running statistics, gradient scalers, autocast, schedulers, and in saved and copied runs."""

from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from sam_problem import backward, problem, squared
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from edgescope.optim import SAM


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
