"""What a reader of the figures must know is told once: as a warning at the user's line, and as an event."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from monitor_runs import LOSS, Run, data, dense_hessian, objective_of, small
from torch import Tensor, nn
from torch.optim import SGD, Adam
from torch.utils.data import DataLoader, TensorDataset

from edgescope.errors import EdgescopeWarning
from edgescope.losses import supervised
from edgescope.measures import Moment, Reading
from edgescope.measures.loss import LossMeasure
from edgescope.monitor import Monitor
from edgescope.notices import KINDS
from edgescope.objective import Objective

MEASURES = ("loss", "sharpness", "threshold", "ratio", "norms")
HERE = {Path(__file__).name, "monitor_runs.py"}


class Training:
    """24 steps beside a monitor, of which one does something to ``model`` or ``optimizer`` after half of them."""

    def __init__(self, model: nn.Module, optimizer: Any = None, **more: Any) -> None:
        self.model, self.more = model, more
        self.optimizer = SGD(model.parameters(), lr=0.1) if optimizer is None else optimizer
        self.warned: list[warnings.WarningMessage] = []
        self.loss: Callable[..., Tensor] = LOSS

    def run(
        self,
        change: Callable[[Training], Any] | None = None,
        *,
        steps: int = 24,
        every: int = 4,
        objective: Objective | None = None,
        measures: Any = MEASURES,
    ) -> Training:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            objective = objective or objective_of(self.model, **self.more)
            self.monitor = Monitor(objective, self.optimizer, every=every, measures=measures)
            for number in range(steps):
                if number == steps // 2 and change is not None:
                    change(self)
                self.optimizer.zero_grad()
                dtype = next(self.model.parameters()).dtype
                self.loss(self.model, data(dtype=dtype)).backward()
                self.optimizer.step()
                self.monitor.step()
            self.monitor.record.last_step  # noqa: B018
            events = self.monitor.record.events()
            self.latest = dict(self.monitor.latest)
            self.monitor.close()
        self.warned = warned
        self.events = [(kind, text) for kind, text in events.select("kind", "text").rows() if kind != "diverged"]
        assert all(warning.category is EdgescopeWarning for warning in warned)
        assert {kind for kind, _ in self.events} <= set(KINDS)
        assert all("\n" not in text and len(text) < 400 for _, text in self.events)
        assert {warning.filename.rpartition("/")[2] for warning in warned} <= HERE, "they point at the user's line"
        return self

    def told(self, kind: str, *words: str) -> Training:
        """This kind was told of, once, in a text with these words, and nothing else was."""
        texts = [str(warning.message) for warning in self.warned]
        assert len(texts) == 1, texts
        assert all(word in texts[0] for word in words), texts
        assert (kind, texts[0]) in self.events
        assert [other for other, _ in self.events if other not in (kind, "update", "weights")] == []
        return self

    @property
    def ratio(self) -> float | None:
        return self.latest["ratio"].values.get("")


def of_new_parameters(training: Training) -> None:
    training.optimizer = SGD(training.model.parameters(), lr=0.1)


def replace_layer(training: Training) -> None:
    training.model[0] = nn.Linear(5, 4)


def replace_layer_without_optimizer(training: Training) -> None:
    replace_layer(training)


def to_double(training: Training) -> None:
    training.model.double()


FOLLOWED: dict[str, tuple[Callable[[Training], Any], tuple[str, ...]]] = {
    "replaced": (replace_layer, ("replaced: '0.weight', '0.bias'", "followed", "no optimizer holds them")),
    "cast": (to_double, ("cast: '0.weight'", "and 1 more", "followed")),
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_changes_that_keep_names_and_shapes_are_followed(name: str) -> None:
    change, words = FOLLOWED[name]
    training = Training(small()).run(change).told("model", *words)
    hessian = dense_hessian(training.model, data())
    held = slice(None) if name == "cast" else slice(24, None)  # the new layer is held by no optimizer
    expected = float(torch.linalg.eigvalsh(hessian[held, held])[-1]) / 20
    assert training.ratio == pytest.approx(expected, rel=2e-3)


STOPPED: dict[str, tuple[Callable[[], nn.Module], Callable[[Training], Any], tuple[str, ...]]] = {
    "added": (small, lambda t: t.model.append(nn.Linear(3, 3)), ("added: '3.weight', '3.bias'",)),
    "frozen": (small, lambda t: t.model[0].requires_grad_(False), ("frozen: '0.weight', '0.bias'",)),
    "thawed": (
        lambda: nn.Sequential(*small()[:2], nn.Linear(4, 3).requires_grad_(False)),
        lambda t: t.model[2].requires_grad_(True),
        ("thawed: '2.weight', '2.bias'",),
    ),
    "parametrised": (
        small,
        lambda t: nn.utils.parametrizations.weight_norm(t.model[0]),
        ("removed: '0.weight'; added: '0.parametrizations.weight.original0'",),
    ),
    "reshaped": (
        small,
        lambda t: (t.model.__setitem__(0, nn.Linear(5, 7)), t.model.__setitem__(2, nn.Linear(7, 3))),
        ("reshaped: '0.weight', '0.bias', '2.weight'",),
    ),
}


@pytest.mark.parametrize("name", STOPPED)
def test_changes_of_what_trains_end_the_figures_with_a_note(name: str) -> None:
    make, change, words = STOPPED[name]
    training = Training(make()).run(change).told("model", *words, "nothing is measured any more")
    for measure in ("sharpness", "threshold", "ratio", "norms"):
        assert training.latest[measure].values == {}
        assert "trainable parameters of the model have changed" in training.latest[measure].note
    expected = float(LOSS(training.model, data()).detach())
    assert training.latest["loss"].values["train"] == pytest.approx(expected, rel=1e-6), (
        "the loss of the model as it is"
    )
    assert training.monitor.steps == 24


def test_a_copy_that_is_trained_instead_is_told_of_at_the_start_and_in_between() -> None:
    def copied(training: Training) -> None:
        training.model = copy.deepcopy(training.model)
        of_new_parameters(training)

    training = Training(small()).run(copied)
    training.events = [("optimizer", str(training.warned[0].message))]  # told when the monitor was closed
    training.told("optimizer", "SGD has not stepped since step 12", "is a copy of the model trained?")
    model = small()
    monitor = Monitor(objective_of(model), SGD(model.parameters(), lr=0.1), measures=["loss"])
    other = copy.deepcopy(model)
    optimizer = SGD(other.parameters(), lr=0.1)

    def train() -> None:
        for _ in range(20):
            optimizer.zero_grad()
            LOSS(other, data()).backward()
            optimizer.step()
            monitor.step()

    with pytest.warns(EdgescopeWarning, match="has not stepped yet, while an optimizer of other parameters") as told:
        train()
    assert len(told) == 1
    assert monitor.record.events()["kind"].to_list() == ["optimizer"]
    assert monitor.table()["step"].unique().to_list() == [0]


def test_a_loss_of_copied_parameters_is_seen_by_parameters_that_do_not_move() -> None:
    training = Training(small())
    copied = copy.deepcopy(training.model[0])
    training.loss = lambda model, batch: LOSS(nn.Sequential(copied, *model[1:]), batch)
    training.run().told("model", "'0.weight', '0.bias' have a gradient and did not move", "a copy of them?")
    training = Training(small())
    whole = copy.deepcopy(training.model)
    training.loss = lambda model, batch: LOSS(whole, batch) + 0 * LOSS(model, batch)
    training.run().told("model", "no parameter of the objective has moved")


def test_an_optimizer_that_never_steps_is_told_of() -> None:
    model = small()
    monitor = Monitor(objective_of(model), Adam(model.parameters()), measures=["loss"])
    for _ in range(2):
        LOSS(model, data()).backward()
        monitor.step()
    with pytest.warns(EdgescopeWarning, match="called 2 times, and Adam has not stepped yet"):
        monitor.close()
    assert monitor.table().height == 1


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.words, self.unused = small(), nn.Embedding(4, 3), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)


def normalised() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3))


def frozen_in_part() -> nn.Module:
    model = small()
    model[0].requires_grad_(False)
    return model


def in_groups(model: nn.Module) -> SGD:
    parts = [{"params": model[0].parameters(), "lr": 0.0}, {"params": model[2].parameters()}]
    return SGD(parts, lr=0.1)


QUIET: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module], Any], int]] = {
    "bias before batch normalisation": (normalised, lambda m: SGD(m.parameters(), lr=0.5), 300),
    "frozen from the start": (frozen_in_part, lambda m: SGD(m.parameters(), lr=0.1), 24),
    "never used": (Unused, lambda m: Adam(m.parameters(), lr=0.01), 24),
    "warm-up from 0": (small, lambda m: SGD(m.parameters(), lr=0.0), 24),
    "one group at learning rate 0": (small, in_groups, 24),
}


@pytest.mark.parametrize("name", QUIET)
def test_parameters_that_have_a_reason_to_stand_still_are_no_alarm(name: str) -> None:
    def rise(training: Training) -> None:
        for group in training.optimizer.param_groups:
            group["lr"] = 0.1

    torch.manual_seed(0)
    make, optimizer, steps = QUIET[name]
    model = make()
    training = Training(model, optimizer(model)).run(rise, steps=steps, every=steps // 12)
    assert [str(warning.message) for warning in training.warned] == []
    assert training.events == []


def test_an_optimizer_that_was_replaced_is_followed() -> None:
    def second_phase(training: Training) -> None:
        training.optimizer = Adam(training.model.parameters(), lr=0.02)

    training = (
        Training(small()).run(second_phase, every=1).told("optimizer", "SGD was replaced by Adam, which is followed")
    )
    thresholds = training.monitor.table().filter(measure="threshold")["value"].to_list()
    assert thresholds == pytest.approx([20.0] * 13 + [1900.0] * 12)
    smaller = Training(small()).run(lambda t: setattr(t, "optimizer", SGD(t.model.parameters(), lr=0.01)), every=1)
    smaller.told("optimizer", "SGD was replaced by another SGD")
    assert smaller.monitor.table().filter(measure="threshold")["value"].to_list()[-1] == pytest.approx(200)
    assert smaller.monitor.steps == 24


def test_a_second_optimizer_that_nobody_passed_is_followed_beside_the_first() -> None:
    model = small()
    training = Training(model, SGD(model[0].parameters(), lr=0.1))
    second = Adam(model[2].parameters(), lr=0.02)
    first_step = training.optimizer.step
    training.optimizer.step = lambda: (first_step(), second.step())
    training.run().told("optimizer", "Adam steps parameters of the objective too", "Monitor(objective, [a, b])")
    assert set(training.latest["ratio"].values) == {"", "SGD", "Adam"}


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
    training.told("mode", *words)
    assert training.model.training


def test_batch_normalisation_in_the_usual_mode_is_the_function_that_trains() -> None:
    torch.manual_seed(0)
    assert Training(normalised()).run().events == []


def test_an_optimizer_without_a_rule_and_one_without_a_threshold() -> None:
    model = small()
    unknown = Training(model, torch.optim.Rprop(model.parameters())).run().told("optimizer", "no update rule is known")
    assert unknown.ratio is None
    assert "Rprop" in unknown.latest["threshold"].note
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
