"""What a record says of the run: its optimizers, own measures, tensors, and how long it took."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import edgescope as es
from edgescope.measures import Measure, Moment, Reading
from edgescope.monitor.description import describe_optimizer

X, Y = torch.randn(30, 4, generator=torch.Generator().manual_seed(0)).double(), torch.arange(30) % 3


class Own(Measure):
    """A measure of a user."""

    name, title, unit, source, needs = "own", "My own", "furlong", "me", "nothing"  # type: ignore[misc, assignment]

    def read(self, moment: Moment) -> Reading:
        return Reading("own", {"": float(moment.step)})


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def trained(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, pause: float = 0, **options: Any
) -> None:
    objective = es.Objective(model, es.supervised(F.cross_entropy), (X, Y))
    with es.Monitor(objective, optimizer, every=2, out=folder, measures=["sharpness", Own()], **options) as monitor:
        for _ in range(steps):
            optimizer.zero_grad()
            F.cross_entropy(model(X), Y).backward()
            optimizer.step()
            time.sleep(pause)
            monitor.step()


def test_a_record_describes_its_optimizer_measures_and_tensors(tmp_path: Path) -> None:
    model = network()
    trained(tmp_path, model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True), 2)
    with es.Record.open(tmp_path) as record:
        info = record.info
    options = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0, "nesterov": True, "parameters": 43}
    assert info["optimizers"] == [{"name": "SGD", "groups": [options]}]
    assert info["measures"]["own"] == {"title": "My own", "unit": "furlong", "source": "me"}
    assert info["tensors"] == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_the_share_of_each_tensor_in_the_sharpest_direction(tmp_path: Path) -> None:
    model = network()
    names = list(dict(model.named_parameters()))
    start = {name: value.detach().clone() for name, value in model.named_parameters()}
    trained(tmp_path, model, torch.optim.SGD(model.parameters(), lr=0.1), 1)

    def loss(flat: torch.Tensor) -> torch.Tensor:
        pieces = flat.split([start[name].numel() for name in names])
        tensors = {name: piece.view_as(start[name]) for name, piece in zip(names, pieces, strict=True)}
        return F.cross_entropy(torch.func.functional_call(model, tensors, (X,)), Y)

    hessian = torch.autograd.functional.hessian(loss, torch.cat([start[name].flatten() for name in names]))
    top = torch.linalg.eigh(hessian).eigenvectors[:, -1]
    expected = [float(piece.square().sum()) for piece in top.split([start[name].numel() for name in names])]
    with es.Record.open(tmp_path) as record:
        shares = record.array(0, "sharpness", "layers")
    assert shares.sum() == pytest.approx(1)
    assert np.allclose(shares, expected, atol=0.02)  # the eigenvector is found to a residual of 1e-3 of its value


def test_seconds_are_those_of_all_sessions_and_not_of_a_wait_after_them(tmp_path: Path) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    began = time.perf_counter()
    trained(tmp_path, model, optimizer, 4, pause=0.05)
    first = time.perf_counter() - began
    with es.Record.open(tmp_path) as record:
        once = record.info["seconds"]
    assert 0.2 <= once <= first
    trained(tmp_path, model, optimizer, 2, pause=0.05, resume=4)
    with es.Record.open(tmp_path) as record:
        assert once + 0.1 <= record.info["seconds"] <= time.perf_counter() - began
        assert record.info["optimizers"][0]["name"] == "SGD"


def test_options_of_wrappers_and_options_that_json_lacks() -> None:
    model = network()
    found = describe_optimizer(
        es.optim.SAM(model.parameters(), torch.optim.SGD, rho=0.1, lr=0.2, nesterov=True, momentum=0.5)
    )
    assert (found["name"], found["base"]) == ("SAM", "SGD")
    assert {"rho": 0.1, "lr": 0.2, "nesterov": True, "momentum": 0.5}.items() <= found["groups"][0].items()
    found = describe_optimizer(torch.optim.Adam(model.parameters(), lr=torch.tensor(0.25)))
    assert found["groups"][0] == {"lr": 0.25, "betas": [0.9, 0.999], "weight_decay": 0, "parameters": 43}
