"""Headroom along a run: of the objective, of evaluations, and of the batch that a step was taken on."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import edgescope as es
from edgescope.errors import EdgescopeWarning
from edgescope.losses import half_mse

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

LOSS = es.supervised(half_mse)


class Run:
    """A network of two layers on 40 samples, trained on all of them or on ``batch`` of them a step."""

    def __init__(self, measures: Any, *, batch: int | None = None, give: bool = True, lr: float = 0.3, **more: Any):
        torch.manual_seed(1)
        self.model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
        self.data = torch.randn(40, 4).double(), torch.randint(3, (40,))
        self.test = torch.randn(15, 4).double(), torch.randint(3, (15,))
        self.optimizer = more.pop("optimizer", lambda p: torch.optim.SGD(p, lr=lr))(self.model.parameters())
        self.objective = self.of(self.data)
        self.batch, self.give = batch, give
        self.monitor = es.Monitor(self.objective, self.optimizer, every=1, measures=measures, **more)
        self.generator = torch.Generator().manual_seed(0)
        self.before, self.last = self.flat(), self.data

    def of(self, data: Any) -> es.Objective:
        return es.Objective(self.model, LOSS, data, path="kept", threads=1)

    def flat(self) -> Tensor:
        return torch.cat([p.detach().flatten() for p in self.model.parameters()])

    def step(self, after: Any = None) -> dict[str, es.Reading]:
        chosen = torch.arange(40) if self.batch is None else torch.randperm(40, generator=self.generator)[: self.batch]
        self.last = self.data[0][chosen], self.data[1][chosen]
        self.optimizer.zero_grad()
        LOSS(self.model, self.last).backward()
        self.before = self.flat()
        self.optimizer.step()
        if after is not None:
            after()
        readings = self.monitor.step(self.last) if self.give else self.monitor.step()
        assert readings is not None
        return readings

    def exact(self, data: Any) -> float:
        """The headroom of the last step on these data by a fine scan."""
        objective, d = self.of(data), self.flat() - self.before
        start = float(objective.loss(self.before))
        grid = torch.linspace(0, 64, 6401).tolist()[1:]
        return next((s for s in grid if float(objective.loss(self.before + s * d)) > start), math.inf)


def test_it_is_that_of_the_step_on_each_set_of_data() -> None:
    run = Run(["headroom", "loss"], batch=8)
    run.monitor.evaluations["test"] = run.of(run.test)
    for _ in range(4):
        found = run.step()["headroom"]
        for name, data in {"": run.data, "test": run.test, "batch": run.last}.items():
            end = f"/{name}" if name else ""
            if name not in found.values:
                assert "uphill" in found.note
                continue
            truth = run.exact(data)
            assert found.values[name] == pytest.approx(truth, rel=0.08, abs=0.02)
            if math.isfinite(truth):
                assert abs(found.values[name] - truth) <= found.errors[name] + 0.011
                assert found.values[f"ratio{end}"] == pytest.approx(1 / found.values[name])
            else:
                assert (found.values[f"ratio{end}"], found.errors[f"ratio{end}"]) == (0, 1 / 64)
            assert found.values[f"critical_rate{end}"] == pytest.approx(0.3 * found.values[name])
            objective, d = run.of(data), run.flat() - run.before
            descent = -float(objective.gradient(run.before) @ d)
            used = 1 + float(objective.loss() - objective.loss(run.before)) / descent
            assert found.values[f"used{end}"] == pytest.approx(used, rel=1e-6)


def test_on_the_batch_alone_costs_no_pass_over_all_data() -> None:
    run = Run(["headroom:on=batch"], batch=4)
    spent = run.objective.spent
    found = run.step()["headroom"]
    assert {"batch", "ratio/batch", "used/batch", "critical_rate/batch"} == set(found.values)
    total = run.objective.spent - spent
    assert (total.losses, total.gradients, total.products) == (1, 1, 0)  # a tenth of each, rounded up
    assert found.cost == total


@pytest.mark.filterwarnings("ignore::edgescope.errors.EdgescopeWarning")
def test_without_the_batch_a_note_says_how_to_give_it() -> None:
    run = Run(["headroom:on=batch"], batch=4, give=False)
    found = run.step()["headroom"]
    assert not found.values
    assert "try monitor.step(batch=batch)" in found.note
    assert not found.failed


def test_micro_batches_of_one_step_are_one_batch() -> None:
    whole, parts = Run(["headroom:on=batch"]), Run(["headroom:on=batch"], give=False)
    found = whole.step()["headroom"]
    step = parts.monitor.step
    parts.monitor.step = lambda: step([tuple(t[i : i + 10] for t in parts.data) for i in range(0, 40, 10)])  # type: ignore[method-assign,assignment]
    assert parts.step()["headroom"].values == pytest.approx(found.values, rel=1e-9)


def test_a_batch_that_is_none_is_a_failed_reading_and_training_goes_on() -> None:
    run = Run(["headroom:on=batch", "ratio"], batch=4, give=False)
    step = run.monitor.step
    run.monitor.step = lambda: step("no batch")  # type: ignore[method-assign,assignment]
    with pytest.warns(EdgescopeWarning, match="the measure 'headroom' failed"):
        readings = run.step()
    assert readings["headroom"].failed
    assert readings["ratio"].values


def test_shares_of_layers_and_of_tensors_add_up_to_one() -> None:
    for by, names in (("layers", ["0", "2"]), ("tensors", ["0.weight", "0.bias", "2.weight", "2.bias"])):
        run = Run([f"headroom:shares={by},on=objective"])
        found = run.step()["headroom"]
        shares = {part.removeprefix("share/"): v for part, v in found.values.items() if part.startswith("share/")}
        assert list(shares) == names
        assert sum(shares.values()) == pytest.approx(1)
        d = run.flat() - run.before
        product = d * run.objective.hvp(d, run.before)
        exact = [float(product[:30].sum() / product.sum()), float(product[30:].sum() / product.sum())]
        sums = [sum(v for name, v in shares.items() if name.startswith(first)) for first in "02"]
        assert sums == pytest.approx(exact)


def test_it_is_that_of_the_step_whatever_acts_between() -> None:
    """A projection after the optimizer's step is part of the step; so is a rate that changes before it is measured."""

    def shrink_and_schedule() -> None:
        with torch.no_grad():
            for p in run.model.parameters():
                p.mul_(0.999)
        run.optimizer.param_groups[0]["lr"] = 0.7

    run = Run(["headroom"])
    found = run.step(shrink_and_schedule)["headroom"]
    assert found.values[""] == pytest.approx(run.exact(run.data), rel=0.08)
    assert found.values["critical_rate"] == pytest.approx(0.3 * found.values[""])


@pytest.mark.filterwarnings("ignore::edgescope.errors.EdgescopeWarning")
def test_several_rates_have_no_critical_one() -> None:
    def groups(parameters: Any) -> torch.optim.Optimizer:
        first, *others = list(parameters)
        return torch.optim.SGD([{"params": [first], "lr": 0.1}, {"params": others}], lr=0.2)

    found = Run(["headroom"], optimizer=groups).step()["headroom"]
    assert "" in found.values
    assert "critical_rate" not in found.values


def warmed(make: Any) -> tuple[Run, es.Reading]:
    run = Run(["headroom"], optimizer=make)
    schedule = torch.optim.lr_scheduler.LambdaLR(run.optimizer, lambda step: min(1.0, step / 4))
    assert run.optimizer.param_groups[0]["lr"] == 0
    return run, run.step(schedule.step)["headroom"]


@pytest.mark.parametrize("adam", [False, True])
def test_a_step_at_rate_0_is_measured_at_the_rate_that_a_warm_up_leads_to(adam: bool) -> None:
    def make(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=0.05) if adam else torch.optim.SGD(parameters, lr=0.4)

    run, found = warmed(make)
    rate = 0.05 if adam else 0.4
    assert torch.equal(run.flat(), run.before)
    assert f"of the step at the rate that the schedule starts from, {rate}" in found.note
    # Against the same step, really taken.
    twin = Run(["headroom"], optimizer=make)
    truth = twin.step()["headroom"]
    assert found.values == pytest.approx(truth.values, rel=1e-6)
    assert found.values["critical_rate"] == pytest.approx(rate * found.values[""])


@pytest.mark.filterwarnings("ignore::edgescope.errors.EdgescopeWarning")
def test_a_step_at_rate_0_without_a_target_has_a_note() -> None:
    found = Run(["headroom"], lr=0.0).step()["headroom"]
    assert not found.values
    assert "did not move" in found.note
    assert not found.failed


def test_uphill_steps_are_counted_also_over_a_checkpoint() -> None:
    run = Run(["headroom"], optimizer=lambda p: torch.optim.SGD(p, lr=0.05, maximize=True))
    notes = []
    for _ in range(2):
        notes.append(run.step()["headroom"].note)
    assert "uphill on the measured data" in notes[0]
    assert "(2 of 2 readings so far)" in notes[1]
    measure = es.MEASURES.build("headroom")
    measure.load_state(run.monitor.measures[0].state())
    assert measure.state() == run.monitor.measures[0].state()


def test_the_own_batch_says_what_all_data_hide() -> None:
    """A stable noisy quadratic, lr times curvature 0.2: on all data 1/s* is near 1 at rest, on the own batch 0.1."""
    torch.manual_seed(0)
    model = nn.Linear(20, 1, bias=False).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    centres = torch.randn(400, 20).double()

    def loss_fn(model: nn.Module, batch: Tensor) -> Tensor:
        return 0.5 * (model.weight - batch).square().sum(1).mean()

    monitor = es.Monitor(
        es.Objective(model, loss_fn, centres, path="kept", threads=1), optimizer, every=1, measures=["headroom"]
    )
    used, own = [], []
    for number in range(260):
        batch = centres[torch.randperm(400)[:4]]
        optimizer.zero_grad()
        loss_fn(model, batch).backward()
        optimizer.step()
        found = monitor.step(batch)
        assert found is not None
        if number >= 60:
            values = found["headroom"].values
            own.append(values["batch"])
            used.append(values.get("used", math.nan))
    assert torch.tensor(own).median() == pytest.approx(10, rel=1e-6)  # -2 g·d / d·Hd = 2 / 0.2
    assert sum(u > 1 for u in used if not math.isnan(u)) > 0


def test_batch_sharpness_and_the_note_of_the_ratio_know_the_size_of_the_batch() -> None:
    run = Run(["ratio", "batch_sharpness:count=4"], batch=5)
    run.step()
    readings = run.step()
    assert "training steps on 5 of the 40 samples" in readings["ratio"].note
    found = readings["batch_sharpness"]
    own = es.batch_sharpness(run.objective, 5, 4)
    assert found.values[""] == pytest.approx(own.value)
    assert found.values["ratio"] == pytest.approx(0.3 / 2 * own.weighted)
    assert found.errors["ratio"] == pytest.approx(0.3 / 2 * own.weighted_error)
    quiet = Run(["ratio"])
    assert "mini-batches" not in quiet.step()["ratio"].note


def test_without_the_batch_the_gradient_gives_mini_batches_away() -> None:
    run = Run(["ratio"], batch=5, give=False)
    assert "training's gradient is not that of the objective (cosine" in run.step()["ratio"].note


def test_both_plateaus_of_momentum() -> None:
    run = Run(["batch_sharpness:batch=5,count=4"], optimizer=lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9))
    run.step()
    found = run.step()["batch_sharpness"].values
    assert found["ratio"] == pytest.approx(found["weighted"] * 0.02 / (2 * 0.1))
    assert found["ratio/large"] == pytest.approx(found["weighted"] * 0.02 / (2 * 1.9))


def test_no_ratio_for_other_optimizers() -> None:
    run = Run(["batch_sharpness:batch=5,count=4"], optimizer=lambda p: torch.optim.Adam(p, lr=0.02))
    found = run.step()["batch_sharpness"]
    assert set(found.values) == {"", "weighted", "square"}
    assert "known for SGD alone" in found.note
    assert set(es.measure(run.objective, "batch_sharpness:batch=5,interaction=true").values) == {
        "",
        "weighted",
        "square",
        "interaction",
    }


def test_fresh_mini_batches_differ_from_step_to_step_and_the_same_do_not() -> None:
    def twice(options: str) -> list[dict[str, float]]:
        run = Run([f"batch_sharpness:batch=5,count=4{options}"], optimizer=lambda p: torch.optim.SGD(p, lr=1e-12))
        return [run.step()["batch_sharpness"].values for _ in range(2)]

    one, two = twice("")
    assert one == pytest.approx(two)
    one, two = twice(",fresh=true")
    assert one["square"] != pytest.approx(two["square"])


def test_the_mean_square_is_that_of_the_gradients_of_mini_batches() -> None:
    run = Run(["batch_sharpness:batch=5,count=4"])
    found = run.step()["batch_sharpness"].values
    assert found["square"] == pytest.approx(es.batch_sharpness(run.objective, 5, 4).squares.mean())


def test_weight_decay_of_sgd_is_measured_with_it() -> None:
    run = Run(["batch_sharpness:batch=5,count=4"], optimizer=lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.2))
    found = run.step()["batch_sharpness"]
    assert found.values[""] == pytest.approx(es.batch_sharpness(run.objective, 5, 4, decay=0.2).value)
