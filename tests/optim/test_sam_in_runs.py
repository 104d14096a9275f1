"""SAM by name, and in training runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgescope.data import DATA
from edgescope.errors import InputError
from edgescope.losses import LOSSES
from edgescope.models import MODELS
from edgescope.optim import OPTIMIZERS, SAM
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
