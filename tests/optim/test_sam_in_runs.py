"""SAM by name, and in training runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import edgescope as es
from edgescope.data import DATA
from edgescope.errors import InputError
from edgescope.losses import LOSSES
from edgescope.models import MODELS
from edgescope.optim import OPTIMIZERS, SAM, rule_for
from edgescope.store import Record, latest_checkpoint, unpack_state
from edgescope.training import RunConfig, train
from edgescope.training.gradients import EpochOrder


def test_it_is_built_by_name() -> None:
    w = torch.ones(2, requires_grad=True)
    built = OPTIMIZERS.build("sam:rho=0.2,adaptive=true,base=sgd:momentum=0.9;nesterov=true").build([w], lr=0.3)
    assert isinstance(built, SAM)
    assert isinstance(built.base, torch.optim.SGD)
    group = built.base.param_groups[0]
    assert {name: group[name] for name in ("lr", "momentum", "nesterov", "rho", "adaptive")} == {
        "lr": 0.3,
        "momentum": 0.9,
        "nesterov": True,
        "rho": 0.2,
        "adaptive": True,
    }


@pytest.mark.filterwarnings("ignore:no update rule is known for the optimizer SAM:edgescope.errors.EdgescopeWarning")
@pytest.mark.parametrize("batch", [None, 1, 4])
def test_a_run_takes_its_steps(tmp_path: Path, batch: int | None) -> None:
    config = RunConfig(
        data="xor:dim=4,train=8,test=5",
        model="shallow:bias,width=6",
        loss="squared",
        optimizer="sam:rho=0.1",
        lr=0.05,
        steps=6,
        every=3,
        batch=batch,
        measures=("loss", "accuracy", "threshold"),
        dtype="float64",
        threads=1,
        path="kept",
    )
    train(config, tmp_path / "run")
    checkpoint = latest_checkpoint(tmp_path / "run")
    state = unpack_state("model", checkpoint.tensors, checkpoint.meta)

    data, loss = DATA.build(config.data).load(), LOSSES.build("squared")
    model = MODELS.build(config.model).build((4,), 1, seed=0).double()
    inputs, targets = data.inputs.double(), data.targets
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    order = EpochOrder(8, batch or 8, 0)
    for step in range(6):
        chosen = order.places(step) if batch else torch.arange(8)
        before = [p.detach().clone() for p in model.parameters()]
        first = torch.autograd.grad(loss(model(inputs[chosen]), targets[chosen]), list(model.parameters()))
        length = sum(g.square().sum() for g in first).sqrt()
        with torch.no_grad():
            for p, g in zip(model.parameters(), first, strict=True):
                p += 0.1 * g / length
        second = torch.autograd.grad(loss(model(inputs[chosen]), targets[chosen]), list(model.parameters()))
        with torch.no_grad():
            for p, w, g in zip(model.parameters(), before, second, strict=True):
                p.copy_(w)
                p.grad = g
        optimizer.step()
    for name, p in model.state_dict().items():
        torch.testing.assert_close(state[name], p, rtol=1e-10, atol=1e-12)
    with Record.open(tmp_path / "run") as record:
        notes = record.table().filter(record.table()["measure"] == "threshold")["note"].to_list()
    assert set(notes) == {"2/η, of H + (ρ/‖g‖)H²"}


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        ("sam:rho=0", "SAM with rho=0; expected a finite number above 0"),
        ("sam:rho=-1", "SAM with rho=-1"),
        ("sam:base=sgdd", "try 'sgd'"),
        ("sam:base=gradient-flow", "SAM around 'gradient-flow'"),
        ("sam:base=sam", "SAM around 'sam'"),
        ("sam:base=sgd:nesterov=true", "SGD with nesterov"),
    ],
)
def test_bad_options_are_one_line(spec: str, fault: str) -> None:
    with pytest.raises(InputError, match=fault) as caught:
        OPTIMIZERS.build(spec).build([torch.ones(2, requires_grad=True)], lr=0.1)
    assert "\n" not in str(caught.value)


def test_a_monitor_takes_the_sharpness_of_the_perturbed_hessian() -> None:
    """Against dense matrices: effective sharpness, ratio, and the eigenvalue of H at which the ratio is 1."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()
    x, y = torch.randn(20, 3).double(), torch.randn(20, 1).double()
    loss_fn = torch.nn.functional.mse_loss
    objective = es.Objective(model, es.supervised(loss_fn), (x, y))
    optimizer = SAM(model.parameters(), torch.optim.SGD, lr=0.1, momentum=0.5, rho=0.2)
    monitor = es.Monitor(objective, optimizer, every=1, measures=["effective_sharpness", "threshold", "ratio"])

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(closure)
        monitor.step()
    H, g = objective.hvp(torch.eye(objective.size).double()), objective.gradient()
    largest = float(torch.linalg.eigvalsh(H + 0.2 / g.norm() * H @ H)[-1])
    assert monitor.value("effective_sharpness") == pytest.approx(largest, rel=1e-4)
    assert monitor.value("threshold") == pytest.approx(30)
    assert monitor.value("ratio") == pytest.approx(largest / 30, rel=1e-4)
    h = float(torch.linalg.eigvalsh(H)[-1])
    at = rule_for(optimizer, objective.tensors).threshold().at(g)
    assert (h < at) is (largest < 30)
    assert at * (1 + 0.2 * at / float(g.norm())) == pytest.approx(30)
    monitor.close()
