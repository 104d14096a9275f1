"""Warnings before spikes, and spikes, of descent on a quadratic whose steps and losses are known in closed form."""

from __future__ import annotations

import json
import math
import statistics
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from resumed_sessions import through_a_file
from torch import Tensor, nn

import edgescope as es
from edgescope.cost import Cost
from edgescope.errors import EdgescopeWarning, InputError
from edgescope.measures.gradient_curvature import gradient_curvature
from edgescope.monitor import Monitor, SpikeEvent, SpikeOptions
from edgescope.optim import rule_for
from edgescope.store import Record
from edgescope.training import RunConfig, train
from edgescope.training.batched_training import kind_of

SHARP, FLAT = 1.0, 0.01
CALM, STEPS = 40, 60
"""Steps at 1.9 over the sharpness, and steps in all, the others at 2.4 over it."""


class Bowl(nn.Module):
    """(SHARP a^2 + FLAT b^2) / 2, times the mean of the data."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
        self.b = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return x * (SHARP * self.a**2 + FLAT * self.b**2) / 2


def bowl_loss(model: nn.Module, batch: Tensor) -> Tensor:
    loss: Tensor = model(batch).mean()
    return loss


def bowl_objective(model: nn.Module) -> es.Objective:
    return es.Objective(model, bowl_loss, torch.ones(4, dtype=torch.float64), path="kept", threads=1)


def rate(step: int) -> float:
    return 1.9 if step < CALM else 2.4


def descend(model: nn.Module, optimizer: torch.optim.Optimizer, monitor: Monitor | None = None) -> None:
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = rate(step)
        optimizer.zero_grad()
        bowl_loss(model, torch.ones(4, dtype=torch.float64)).backward()
        optimizer.step()
        if monitor is not None:
            monitor.step()


class Descent:
    """Gradient descent on the bowl, with a monitor that is made with ``options``; the losses are given to it or not."""

    def __init__(self, given: bool, steps: int = STEPS, resume_at: int | None = None, **options: Any) -> None:
        self.model = Bowl()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1.9)
        self.objective = bowl_objective(self.model)
        self.record = Record.in_memory()
        options = options | {"every": 1000, "measures": ["norms"], "record": self.record}
        self.monitor = Monitor(self.objective, self.optimizer, **options)
        self.told: list[SpikeEvent] = []
        self._listen()
        for step in range(steps):
            if step == resume_at:
                self._resume(step, options)
            self.optimizer.param_groups[0]["lr"] = rate(step)
            self.optimizer.zero_grad()
            loss = bowl_loss(self.model, torch.ones(4, dtype=torch.float64))
            loss.backward()
            self.optimizer.step()
            self.monitor.step(loss=loss if given else None)

    def first(self, kind: str) -> SpikeEvent:
        return next(each for each in self.told if each.kind == kind)

    def _listen(self) -> None:
        for kind in ("warning", "spike"):
            self.monitor.on(kind, self.told.append)

    def _resume(self, step: int, options: dict[str, Any]) -> None:
        state = through_a_file(self.monitor.state_dict())
        self.monitor.close()
        self.monitor = Monitor(self.objective, self.optimizer, resume=step, **options)
        self.monitor.load_state_dict(state)
        self._listen()


def closed_form(steps: int = STEPS) -> tuple[list[float], list[float], list[float]]:
    """The norm of each step, the curvature after it over the threshold, and the loss it was taken on."""
    a = b = 1.0
    norms, curvatures, losses = [], [], []
    for step in range(steps):
        lr = rate(step)
        losses.append((SHARP * a**2 + FLAT * b**2) / 2)
        norms.append(lr * math.hypot(SHARP * a, FLAT * b))
        a, b = (1 - lr * SHARP) * a, (1 - lr * FLAT) * b
        g = (SHARP * a) ** 2, (FLAT * b) ** 2
        curvatures.append((SHARP * g[0] + FLAT * g[1]) / sum(g) * lr / 2)
    return norms, curvatures, losses


def test_the_warning_is_where_the_closed_form_has_it() -> None:
    run = Descent(given=True)
    norms, curvatures, losses = closed_form()
    over = [norms[t] / statistics.median(norms[max(0, t - 100) : t]) if t >= 10 else 0.0 for t in range(STEPS)]
    first = next(t for t in range(STEPS) if over[t] > 1.5 and curvatures[t] > 1)
    assert first > CALM
    jumps = [losses[t] / statistics.median(losses[max(0, t - 20) : t]) if t >= 10 else 0.0 for t in range(STEPS)]
    spike = next(t for t in range(STEPS) if jumps[t] > 1.2 and losses[t] > max(losses[max(0, t - 20) : t]))
    warning, jump = run.first("warning"), run.first("spike")
    assert len(run.told) == 2
    assert (warning.kind, warning.step, warning.block, warning.threshold) == ("warning", first + 1, "", 1.5)
    assert warning.value == pytest.approx(over[first])
    assert warning.curvature == pytest.approx(curvatures[first])
    assert (jump.kind, jump.step, jump.threshold, jump.curvature) == ("spike", spike + 1, 1.2, None)
    assert jump.value == pytest.approx(jumps[spike])


def test_events_are_data_in_the_record() -> None:
    run = Descent(given=True)
    rows = run.record.events().rows()
    assert [(step, kind) for step, kind, *_ in rows] == [(each.step, each.kind) for each in run.told]
    data = json.loads(next(text for _, kind, text, _ in rows if kind == "warning"))
    assert set(data) == {"value", "threshold", "block", "curvature"}
    assert SpikeEvent.of(run.record) == run.told
    odd = SpikeEvent("warning", 3, 2.0, 1.5, "b", math.inf)
    assert SpikeEvent.read(3, "warning", odd.text) == odd
    with pytest.raises(ValueError, match="an event of kind 'resumed'"):
        SpikeEvent.read(3, "resumed", "{}")


def test_without_losses_those_after_a_warning_are_measured() -> None:
    run = Descent(given=False)
    _, _, losses = closed_form(STEPS + 1)
    warning, jump = run.told
    assert warning.kind == "warning"
    first = next(t for t in range(warning.step + 1, STEPS + 1) if losses[t] / losses[warning.step] > 1.2)
    assert (jump.kind, jump.step) == ("spike", first)
    assert jump.value == pytest.approx(losses[first] / losses[warning.step])


def test_nothing_is_measured_while_steps_are_short() -> None:
    run = Descent(given=True, steps=CALM)
    assert not run.told
    assert replace(run.objective.spent, preparation=0) == Cost(losses=1)  # of the reading at step 0
    run = Descent(given=True)
    assert run.objective.spent.products == 1  # at the one warning
    assert Descent(given=True, spikes=SpikeOptions(curvature=50)).objective.spent.products < (STEPS - CALM) / 2


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("resume_at", [5, CALM + 2, STEPS - 10])
def test_a_resumed_run_has_the_same_events(given: bool, resume_at: int) -> None:
    whole, resumed = Descent(given), Descent(given, resume_at=resume_at)
    assert resumed.told == whole.told
    assert SpikeEvent.of(resumed.record) == SpikeEvent.of(whole.record)


def test_training_is_the_same_to_the_last_bit() -> None:
    with_monitor = Descent(given=False)
    model = Bowl()
    descend(model, torch.optim.SGD(model.parameters(), lr=1.9))
    for one, other in zip(model.parameters(), with_monitor.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_block_is_named_whose_steps_grow() -> None:
    run = Descent(given=True, spikes=SpikeOptions(blocks=("a", "b")))
    assert run.first("warning").block == "a"
    with pytest.raises(InputError, match="globs over the names"):
        SpikeOptions(blocks=("a", "a"))


def test_an_error_in_a_callback_is_a_notice_and_training_goes_on() -> None:
    model = Bowl()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.9)
    monitor = Monitor(bowl_objective(model), optimizer, every=1000, measures=["norms"])

    def fails(event: SpikeEvent) -> None:
        raise RuntimeError("no mail")

    monitor.on("warning", fails)
    with pytest.warns(EdgescopeWarning, match=r"the function of monitor.on\('warning'\) raised an error .*no mail"):
        descend(model, optimizer, monitor)
    assert monitor.steps == STEPS


def test_arguments_that_are_none_are_refused() -> None:
    monitor = Monitor(bowl_objective(Bowl()), measures=["norms"])
    with pytest.raises(InputError, match="warning"):
        monitor.on("warnings", print)
    with pytest.raises(InputError, match="a callback that is of type int"):
        monitor.on("spike", 3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="expected True, False or SpikeOptions"):
        Monitor(bowl_objective(Bowl()), spikes=1.5)  # type: ignore[arg-type]
    for wrong in ({"norm": 0.5}, {"rise": 1.0}, {"window": 3}, {"curvature": -1.0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            SpikeOptions(**wrong)


def test_the_curvature_is_that_of_the_preconditioned_gradient_over_the_threshold() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    data = torch.randn(30, 4, dtype=torch.float64), torch.randint(2, (30,))
    loss_fn = es.supervised(nn.functional.cross_entropy)
    objective = es.Objective(model, loss_fn, data, path="kept", threads=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1)
    for _ in range(7):
        optimizer.zero_grad()
        loss_fn(model, data).backward()
        before = objective.parameters()
        optimizer.step()
    w = objective.parameters()
    hessian = es.linalg.to_matrix(objective) + 0.1 * torch.eye(objective.size, dtype=torch.float64)
    second = torch.cat([optimizer.state[p]["exp_avg_sq"].flatten() for p in model.parameters()])
    p = (1 - 0.9**7) * ((second / (1 - 0.99**7)).sqrt() + 1e-8)
    g = objective.gradient() + 0.1 * w
    q = g / p
    wanted = q @ hessian @ q / (g @ q) / (2 * 1.9 / (0.1 * 1e-2))
    rule = rule_for(optimizer, objective.tensors)
    assert gradient_curvature(objective, rule, w - before) == pytest.approx(float(wanted), rel=1e-9)


def test_of_an_unknown_optimizer_it_is_that_of_the_step_and_1_where_a_quadratic_has_the_same_loss() -> None:
    model = Bowl()
    objective = bowl_objective(model)
    for factor in (1.0, 2.0, 3.0):  # of the step to the minimum along a
        step = torch.tensor([-factor, 0.0], dtype=torch.float64)
        objective.assign(torch.tensor([1.0, 0.0], dtype=torch.float64) + step)
        assert gradient_curvature(objective, None, step) == pytest.approx(factor / 2)
    step = torch.tensor([0.5, 0.0], dtype=torch.float64)  # uphill
    objective.assign(torch.tensor([1.5, 0.0], dtype=torch.float64))
    assert gradient_curvature(objective, None, step) == math.inf
    assert math.isnan(gradient_curvature(objective, None, None))


def test_mini_batches_are_measured_on_their_own() -> None:
    """On the step's batch the curvature is 1.6 of the threshold, on all data a fifth of that."""
    model = Bowl()
    data = torch.tensor([1.0, 0.2, 0.2, 0.0], dtype=torch.float64)
    objective = es.Objective(model, bowl_loss, data, path="kept", threads=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.9)
    told: list[SpikeEvent] = []
    monitor = Monitor(objective, optimizer, every=1000, measures=["norms"])
    monitor.on("warning", told.append)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EdgescopeWarning)
        for step in range(STEPS):
            optimizer.param_groups[0]["lr"] = rate(step)
            optimizer.zero_grad()
            batch = data[:1]
            bowl_loss(model, batch).backward()
            optimizer.step()
            monitor.step(batch=batch)
    assert told
    assert told[0].curvature == pytest.approx(1.2, rel=1e-3)


def test_a_run_by_configuration_is_watched_and_says_so_in_its_record(tmp_path: Path) -> None:
    sines = "edgescope.experiments.edge.small_problems:sines"
    config = RunConfig(function=sines, optimizer="adam", lr=0.05, steps=400, measures=(), threads=1, spikes=True)
    train(config, tmp_path / "watched")
    with Record.open(tmp_path / "watched") as record:
        assert record.config["spikes"] is True
        assert {event.kind for event in SpikeEvent.of(record)} == {"warning", "spike"}
    assert "spikes" not in replace(config, spikes=False).as_dict()
    alone = RunConfig(data="digits", measures=("loss@end",), spikes=True)
    assert kind_of(alone) is None  # batches of runs are not watched
    assert kind_of(replace(alone, spikes=False)) is not None
