"""What a reader of the figures must know is told once: as a warning at the user's line, and as an event."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from monitor_runs import LOSS, Run, data, small
from noticed_training import MEASURES, Training, normalised
from torch import Tensor, nn
from torch.optim import SGD, Adam
from torch.utils.data import DataLoader, TensorDataset

from edgescope.errors import EdgescopeWarning
from edgescope.losses import supervised
from edgescope.measures import Moment, Reading
from edgescope.measures.loss import LossMeasure
from edgescope.objective import Objective


class Random(nn.Module):
    """A network that is another one in training: ``how`` says how."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.net, self.skip, self.how = small(), nn.Linear(5, 3), how
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "functional dropout":
            return F.dropout(self.net(x), 0.2, training=self.training)
        if self.how == "dropped paths":
            kept = (torch.rand(len(x), 1) > 0.2) / 0.8 if self.training else 1.0
            return self.skip(x) + kept * self.net(x)
        out = self.net(x)
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * out.detach().mean(0)
        return out - (out.mean(0) if self.training else self.mean)


def with_dropout() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Dropout(0.2), nn.Linear(4, 3))


MODES: dict[str, tuple[Callable[[], nn.Module], dict[str, Any], tuple[str, ...]]] = {
    "running statistics": (
        normalised,
        {"mode": "eval"},
        ("'1' is measured with its running statistics", "try mode='auto'"),
    ),
    "dropout": (with_dropout, {}, ("dropout (p=0.2 in '2') is off while measuring",)),
    "functional dropout": (lambda: Random("functional dropout"), {}, ("a random operation (such as dropout) is off",)),
    "dropped paths": (lambda: Random("dropped paths"), {}, ("a random operation",)),
    "own normalisation": (lambda: Random("own normalisation"), {}, ("computes another function", "try mode='train'")),
}


@pytest.mark.parametrize("name", MODES)
def test_another_function_in_training_is_told_of(name: str) -> None:
    torch.manual_seed(0)
    make, options, words = MODES[name]
    training = Training(make(), **options).run(steps=4)
    training.told("dropout" if "is off" in words[0] or "random" in words[0] else "mode", *words)
    assert training.model.training


def test_batch_normalisation_in_the_usual_mode_is_the_function_that_trains() -> None:
    torch.manual_seed(0)
    assert Training(normalised()).run().events == []


class OfTheUser(SGD):
    """An optimizer that nobody described: it may step differently from the class that it is derived from."""


def test_an_optimizer_without_a_rule_and_one_without_a_threshold() -> None:
    model = small()
    unknown = Training(model, OfTheUser(model.parameters(), lr=1e-3)).run().told("optimizer", "no update rule is known")
    assert unknown.ratio is None
    assert "OfTheUser" in unknown.latest["threshold"].note
    model = small()
    damped = SGD(model.parameters(), lr=0.1, momentum=0.9, dampening=1)
    without = Training(model, damped).run().told("threshold", "no threshold is known where dampening")
    assert without.ratio is None


def test_a_measure_without_need_of_a_rule_is_not_bothered_by_one() -> None:
    model = small()
    quiet = Training(model, torch.optim.Rprop(model.parameters())).run(measures=("loss", "sharpness"))
    assert quiet.events == []


def test_a_saturated_network_is_told_of() -> None:
    torch.manual_seed(0)
    model, inputs = nn.Linear(5, 3, bias=False), torch.randn(10, 5)
    with torch.no_grad():
        model.weight.mul_(1e4)
    loss = supervised(F.cross_entropy)
    batch = inputs, model(inputs).argmax(1)
    training = Training(model)
    training.loss = lambda model, _: loss(model, batch)
    training.run(objective=Objective(model, loss, batch, path="kept", threads=1))
    training.told("saturated", "the sharpness is exactly 0", "try dtype=torch.float64")


class Odd(LossMeasure):
    name = "odd"

    def read(self, moment: Moment) -> Reading:
        return Reading(self.name, {"a": 1.0, "b": math.nan if moment.step else 1.0, "c": math.inf})


def test_figures_that_are_not_finite_are_told_of_and_an_infinite_threshold_is_not() -> None:
    model = small()
    training = Training(model, SGD(model.parameters(), lr=0.0)).run(measures=(Odd(), "threshold"))
    training.told("not-finite", "'odd/c' is inf")
    assert training.latest["threshold"].values == {"": math.inf}


def test_what_the_objective_told_of_stands_in_the_record_too(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small()
    summed = supervised(nn.CrossEntropyLoss(reduction="sum"))
    training = Training(model, SGD(model.parameters(), lr=1e-3))
    training.loss = lambda model, batch: supervised(F.cross_entropy)(model, batch)
    with pytest.warns(EdgescopeWarning, match="is a sum over the samples"):
        objective = Objective(model, summed, data(), path="kept", threads=1)
    training.run(objective=objective)
    # Training descends the mean, which is a 24th of the sum, and the ratio is that of the training that takes place.
    training.told("update", "is 0.04167 times that of the objective")
    assert any(kind == "weights" and "is a sum" in text for kind, text in training.events)
    loader = DataLoader(TensorDataset(*data()), batch_size=7)
    assert Training(small(), batch=loader).run().events == []
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda *_: 2)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda *_: 0)
    Training(small()).run().told("processes", "2 processes train")


def test_events_are_the_same_however_the_monitor_is_called() -> None:
    def loop(run: Run) -> None:
        model = small()
        first, second = SGD(model.parameters(), lr=0.2), Adam(model.parameters(), lr=0.02)
        run.watch(model, first)
        for number in range(12):
            if number == 5:
                model[0] = nn.Linear(5, 4)
                second = Adam(model.parameters(), lr=0.02)
            model.zero_grad()
            LOSS(model, data()).backward()
            run.at("early")
            (first if number < 5 else second).step()
            run.stepped()

    found = []
    for call in ("after", "twice", "early", "never"):
        run = Run(call, measures=MEASURES)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EdgescopeWarning)
            loop(run)
        assert run.monitor is not None
        found.append(run.monitor.record.events().select("step", "kind", "text").rows())
    assert len(found[0]) == 2
    assert all(events == found[0] for events in found)
