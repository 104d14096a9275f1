"""The ratio on mini-batches: closed forms on quadratics, dense float64 references, and what has no value."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import edgescope as es
from edgescope.errors import NotKnownError
from edgescope.measures.reading import Reading

Make = Callable[[list[Tensor]], torch.optim.Optimizer]

X = torch.randn(24, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
Y = torch.randn(24, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
BATCHES = list(zip(X.split(6), Y.split(6), strict=True))

OPTIMIZERS: dict[str, Make] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1),
    "SGD with momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.05),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.1),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.02),
    "NAdam": lambda p: torch.optim.NAdam(p, lr=0.05),
}


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().mean()


def trained(make: Make, steps: int = 5) -> tuple[nn.Linear, torch.optim.Optimizer, es.Monitor]:
    torch.manual_seed(0)
    model = nn.Linear(3, 1).double()
    optimizer = make(list(model.parameters()))
    objective = es.Objective(model, es.supervised(mse), BATCHES)
    monitor = es.Monitor(objective, optimizer, every=1, measures=["batch_ratio"], batch_size=6)
    for step in range(steps):
        x, y = BATCHES[step % 4]
        optimizer.zero_grad()
        mse(model(x), y).backward()
        optimizer.step()
        monitor.step()
    return model, optimizer, monitor


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_is_that_of_the_steps_that_the_optimizer_itself_takes_next(name: str) -> None:
    model, optimizer, monitor = trained(OPTIMIZERS[name])
    above, below = [], []
    kept = {k: v.clone() for k, v in model.state_dict().items()}
    state = optimizer.state_dict()
    for x, y in BATCHES:
        fresh = nn.Linear(3, 1).double()
        fresh.load_state_dict(kept)
        other = OPTIMIZERS[name](list(fresh.parameters()))
        other.load_state_dict(
            {"state": {k: dict(v) for k, v in state["state"].items()}} | {"param_groups": state["param_groups"]}
        )
        for tensors in other.state.values():
            tensors.update({k: v.clone() if isinstance(v, Tensor) else v for k, v in tensors.items()})
        before = mse(fresh(x), y)
        before.backward()
        gradient = torch.cat([p.grad.flatten() for p in fresh.parameters()])
        start = torch.cat([p.detach().flatten() for p in fresh.parameters()]).clone()
        other.step()
        step = torch.cat([p.detach().flatten() for p in fresh.parameters()]) - start
        rows = torch.cat([x, torch.ones(len(x), 1, dtype=torch.float64)], dim=1)
        hessian = 2 * rows.T @ rows / len(x)
        above.append(float(step @ hessian @ step) / 2)
        below.append(-float(gradient @ step))
    assert monitor.value("batch_ratio") == pytest.approx(sum(above) / sum(below), rel=1e-9)
    monitor.close()


def test_of_sgd_on_a_quadratic_it_is_the_batch_sharpness_over_its_threshold() -> None:
    _, _, monitor = trained(OPTIMIZERS["SGD"])
    for drawn in ("batch=5,count=16", "batch=24,count=2"):
        sharpness = es.measure(monitor.objective, f"batch_sharpness:{drawn}").values["weighted"]
        found = es.measure(monitor.objective, f"batch_ratio:{drawn}", optimizer=monitor.optimizers[0])
        assert found.values[""] == pytest.approx(sharpness * 0.1 / 2, rel=1e-9)
    monitor.close()


def test_its_error_is_the_standard_error_over_mini_batches() -> None:
    _, _, monitor = trained(OPTIMIZERS["Adam"])
    reading = monitor.latest["batch_ratio"]
    assert 0 < reading.errors[""] < reading.values[""]
    assert reading.cost.gradients == 2, (
        "four mini-batches of a quarter, and all data to see whether they are trained on"
    )
    monitor.close()


def refused(make: Make, steps: int = 1) -> Reading:
    _, _, monitor = trained(make, steps)
    monitor.close()
    return monitor.latest["batch_ratio"]


def test_steps_that_do_not_move_or_need_several_gradients_have_none() -> None:
    still = refused(lambda p: torch.optim.SGD(p, lr=0.0))
    assert not still.values
    assert "does not move" in still.note
    assert not still.failed


def test_a_stale_momentum_that_goes_uphill_has_none() -> None:
    model, optimizer, monitor = trained(OPTIMIZERS["SGD with momentum"])
    for tensor in model.parameters():
        optimizer.state[tensor]["momentum_buffer"] -= (
            1e3 * torch.ones_like(tensor) * torch.sign(torch.autograd.grad(mse(model(X), Y), tensor)[0])
        )
    with pytest.raises(NotKnownError, match="go uphill on 100%"):
        es.measure(monitor.objective, "batch_ratio:batch=6", optimizer=optimizer)
    monitor.close()


def test_with_batch_normalization_it_is_of_the_statistics_of_each_mini_batch() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1)).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    loader = DataLoader(TensorDataset(X, Y), batch_size=6)
    with es.watch(model, optimizer, es.supervised(mse), loader, every=1, samples=24) as monitor:
        assert "batch_ratio" in [measure.name for measure in monitor.measures]
        reading = es.measure(monitor.objective, "batch_ratio:batch=6", optimizer=optimizer)
    above = below = 0.0
    for x, y in BATCHES:
        model.train()
        one = mse(model(x), y)
        gradient = torch.cat([g.flatten() for g in torch.autograd.grad(one, list(model.parameters()))])
        step = -0.01 * gradient / (gradient.abs() + 1e-8)  # the first step of Adam
        with torch.no_grad():
            start = nn.utils.parameters_to_vector(model.parameters()).clone()
            nn.utils.vector_to_parameters(start + step, model.parameters())
            change = mse(model(x), y) - one
            nn.utils.vector_to_parameters(start, model.parameters())
        above += float(change - gradient @ step)
        below -= float(gradient @ step)
    assert reading.values[""] == pytest.approx(above / below, rel=1e-6)
    assert set(before) == set(model.state_dict())


@pytest.mark.filterwarnings("ignore::edgescope.errors.EdgescopeWarning")
def test_clipping_that_the_monitor_has_seen_is_taken_into_account() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 1).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    objective = es.Objective(model, es.supervised(mse), BATCHES)
    monitor = es.Monitor(objective, optimizer, every=1, measures=["batch_ratio", "ratio"], batch_size=6)
    for step in range(6):
        x, y = BATCHES[step % 4]
        optimizer.zero_grad()
        mse(model(x), y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        optimizer.step()
        monitor.step()
    above = below = 0.0
    for x, y in BATCHES:
        gradient = torch.cat([g.flatten() for g in torch.autograd.grad(mse(model(x), y), list(model.parameters()))])
        step_taken = -0.1 * gradient * 0.01 / gradient.norm()
        rows = torch.cat([x, torch.ones(len(x), 1, dtype=torch.float64)], dim=1)
        above += float(step_taken @ (2 * rows.T @ rows / len(x)) @ step_taken) / 2
        below -= float(gradient @ step_taken)
    assert monitor.value("batch_ratio") == pytest.approx(above / below, rel=1e-6)
    monitor.close()
