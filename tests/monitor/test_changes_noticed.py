"""A model or an optimizer that is changed, copied or replaced while it trains: told once, and followed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from monitor_runs import LOSS, data, dense_hessian, objective_of, small
from noticed_training import Training, normalised
from torch import Tensor, nn
from torch.optim import SGD, Adam

from edgescope.errors import EdgescopeWarning
from edgescope.monitor import Monitor


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
