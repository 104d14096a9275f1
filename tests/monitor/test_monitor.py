"""The monitor in training loops as users write them."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from edgescope.errors import EdgescopeWarning, InputError, RecordError, UnknownNameError
from edgescope.losses import half_mse, supervised
from edgescope.measures import MEASURES
from edgescope.monitor import Monitor
from edgescope.monitor.order import in_order
from edgescope.objective import Objective
from edgescope.optim import GradientFlow
from edgescope.store import Record

LOSS = supervised(half_mse)
CHEAPER = {
    "average_sharpness": "average_sharpness:pairs=2",
    "hessian_frobenius": "hessian_frobenius:num_matvecs=6",
    "hessian_trace": "hessian_trace:num_matvecs=6",
    "learning_coefficient": "learning_coefficient:chains=2,times=1,burn_in=0.5",
    "persistent_homology": "persistent_homology:metric=both",
    "quadratic_model": "quadratic_model:steps=5",
    "settled_norms": "settled_norms:steps=4",
    "sharpness_dimension": "sharpness_dimension:probes=1,steps=8",
    "spectrum": "spectrum:probes=1,steps=4",
    "worst_case_sharpness": "worst_case_sharpness:iterations=2",
}
EVERYTHING = [CHEAPER.get(name, name) for name in MEASURES.names()]


def data(samples: int = 24, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(samples, 5, generator=generator), torch.randint(3, (samples,), generator=generator)


def small(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))


def objective_of(model: nn.Module, batch: Any = None, **more: Any) -> Objective:
    return Objective(model, LOSS, data() if batch is None else batch, path="kept", threads=1, **more)


def full_batch_step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    LOSS(model, data()).backward()
    optimizer.step()


class Everything:
    """A loop with all that could be disturbed: dropout, batch statistics, shuffling, momentum, global generators."""

    def __init__(self, monitored: bool, mode: str) -> None:
        torch.manual_seed(3)
        np.random.seed(3)  # noqa: NPY002
        drop = nn.Dropout(0.3) if mode != "train" else nn.Identity()
        self.model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Tanh(), drop, nn.Linear(6, 3))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, 0.95)
        loader = DataLoader(TensorDataset(*data()), batch_size=7, shuffle=True)
        monitor = None
        if monitored:
            objective = objective_of(self.model, loader, mode=mode)
            evaluations = {"test": objective_of(self.model, data(9, seed=1))}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", EdgescopeWarning)  # of the mode "eval", and of dropout
                monitor = Monitor(objective, self.optimizer, every=4, measures=EVERYTHING, evaluations=evaluations)
        self.draws = []
        for _ in range(2):
            for batch in loader:
                self.optimizer.zero_grad()
                LOSS(self.model, batch).backward()
                self.optimizer.step()
                scheduler.step()
                if monitor is not None:
                    monitor.step(batch)
                self.draws += [torch.rand(1), torch.tensor(np.random.rand())]  # noqa: NPY002
        self.monitor = monitor


@pytest.mark.parametrize("mode", ["auto", "eval", "train"])
def test_training_with_a_monitor_gives_the_same_weights_bit_for_bit(mode: str) -> None:
    plain, watched = Everything(False, mode), Everything(True, mode)
    assert watched.monitor is not None
    assert watched.monitor.steps == 8
    table = watched.monitor.table()
    # Eight steps are no trajectory, a network with batch normalisation has no path norm, SGD has no second moments, and
    # with batch statistics a sample has no gradient of its own. Langevin chains are short; mini-batches have no flow.
    without = ["persistent_homology", "path_norm", "preconditioner_lag", "learning_coefficient", "oscillation_cost"]
    without += ["gradient_noise"] * (mode != "eval")
    missing = table.filter(table["value"].is_null(), table["step"] > 4)  # some compare with readings before
    assert set(missing["measure"]) == set(without), "everything else was really measured"
    for (name, a), b in zip(plain.model.state_dict().items(), watched.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    for p, q in zip(plain.model.parameters(), watched.model.parameters(), strict=True):
        assert torch.equal(plain.optimizer.state[p]["momentum_buffer"], watched.optimizer.state[q]["momentum_buffer"])
        assert torch.equal(p.grad, q.grad)
    assert plain.draws == watched.draws
    assert watched.model.training
    assert all(part.training for part in watched.model.modules())


def test_a_reading_describes_the_parameters_after_that_many_steps() -> None:
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    evaluations = {"test": objective_of(model, data(9, seed=1))}
    monitor = Monitor(
        objective_of(model), optimizer, every=2, measures=["loss", "norms", "time"], evaluations=evaluations
    )
    assert monitor.table().is_empty()  # step 0 is taken by the first optimizer step, not before
    losses, returned = [LOSS(model, data()).item()], []
    for _ in range(5):
        full_batch_step(model, optimizer)
        returned.append(monitor.step())
        losses.append(LOSS(model, data()).item())
    steps, values = monitor.record.series("loss", "train")
    assert steps.tolist() == [0, 2, 4]
    assert values == pytest.approx([losses[s] for s in steps], rel=1e-6)
    assert [r is not None for r in returned] == [False, True, False, True, False]
    assert returned[3] == monitor.latest
    assert monitor.value("loss", "train") == values[-1]
    assert monitor.value("loss") == values[-1], "its only part"
    assert monitor.value("loss", "nowhere") is monitor.value("sharpness") is None
    with pytest.raises(InputError, match=r"unknown measure 'losss'; expected one of .*; try 'loss'"):
        monitor.value("losss")
    assert monitor.value("time") == pytest.approx(0.8)
    assert monitor.record.series("norms", "distance")[1][0] == 0
    assert set(monitor.latest["loss"].values) == {"train", "test"}
    assert monitor.record.info["measured"] == {"samples": 24, "parameters": 39, "dtype": "float32", "mode": "eval"}


def test_directional_smoothness_is_that_of_the_step_just_before_the_reading() -> None:
    model = small().double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.4)
    batch = data()[0].double(), data()[1]
    objective = objective_of(model, batch)
    monitor = Monitor(objective, optimizer, every=3, measures=["directional_smoothness", "loss"])
    for step in range(1, 7):
        before = objective.parameters(), float(objective.loss()), objective.gradient()
        optimizer.zero_grad()
        LOSS(model, batch).backward()
        optimizer.step()
        readings = monitor.step()
        if step % 3 == 0:
            assert readings is not None
            w, old, gradient = before
            d = objective.parameters() - w
            curvature = 2 * (float(objective.loss()) - old - float(gradient @ d)) / float(d @ d)
            found = readings["directional_smoothness"]
            assert found.values[""] == pytest.approx(curvature, rel=1e-8)
            assert found.values["actual"] == pytest.approx(float(objective.loss()) - old)
            # The gradient before the step is part of its cost: the loop above worked it out, so here it is free.
            assert found.cost.products == 0


def test_the_gradient_before_a_step_is_counted_as_the_cost_of_the_measure_that_wants_it() -> None:
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.4)
    objective = objective_of(model)
    monitor = Monitor(objective, optimizer, every=2, measures=["directional_smoothness", "sharpness"])
    spent = objective.spent
    for _ in range(8):
        full_batch_step(model, optimizer)
        monitor.step()
    costs = monitor.record.costs()
    total = objective.spent - spent
    assert costs["products"].sum() == total.products
    assert costs["gradients"].sum() == total.gradients
    assert costs.filter(measure="directional_smoothness")["gradients"].sum() >= 4


def test_time_is_the_sum_of_the_learning_rates_that_were_used() -> None:
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.4)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    monitor = Monitor(objective_of(model), optimizer, every=1, measures=["time", "learning_rate", "threshold"])
    for _ in range(3):
        full_batch_step(model, optimizer)
        scheduler.step()
        monitor.step()
    assert monitor.value("time") == pytest.approx(0.4 + 0.2 + 0.1)
    assert monitor.value("learning_rate") == pytest.approx(0.05)
    assert monitor.value("threshold") == pytest.approx(2 / 0.05)


def test_gradient_flow_is_measured_at_its_own_time() -> None:
    model = small()
    objective = objective_of(model)
    flow = GradientFlow(model.parameters())
    monitor = Monitor(objective, flow, every=1, measures=["time", "sharpness", "threshold", "directional_smoothness"])
    flow.sharpness = lambda: monitor.value("sharpness", "1")

    def closure() -> Tensor:
        flow.zero_grad()
        loss = LOSS(model, data())
        loss.backward()
        return loss.detach()

    for _ in range(3):
        flow.step(closure)
        monitor.step()
    assert monitor.value("time") == flow.time > 0
    assert monitor.value("directional_smoothness") is not None
    assert "GradientFlow" in monitor.latest["threshold"].note


def test_without_an_optimizer_the_first_step_is_measured_at_once() -> None:
    monitor = Monitor(objective_of(small()), every=5, measures=["sharpness", "effective_sharpness"])
    assert monitor.value("sharpness", "1") is not None
    assert monitor.latest["effective_sharpness"].note == "there is no optimizer"
    assert [monitor.step() is not None for _ in range(5)] == [False] * 4 + [True]


@pytest.mark.parametrize("lr", [1e3, 1e17])
def test_a_diverging_run_is_recorded_as_diverged_and_measured_no_further(lr: float, tmp_path: Path) -> None:
    model = small()
    model[1] = nn.Identity()  # so that nothing saturates and the loss overflows
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    monitor = Monitor(objective_of(model), optimizer, every=1, measures=EVERYTHING, out=tmp_path / "run")
    losses, told = [], []
    for _ in range(40):
        full_batch_step(model, optimizer)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", EdgescopeWarning)
            monitor.step()
        told += [str(one.message) for one in caught]
        losses.append(LOSS(model, data()).item())
        if monitor.diverged:
            break
    wanted = "parameters or loss are not finite at step {}, and no curvature is measured any more (see faq#not-finite)"
    assert told == [wanted.format(step := monitor.steps)]
    assert monitor.diverged
    assert not math.isfinite(losses[-1])
    assert all(math.isfinite(loss) for loss in losses[:-1])
    spent = monitor.objective.spent
    full_batch_step(model, optimizer)
    readings = monitor.step()
    assert readings is not None
    assert (monitor.objective.spent - spent).products == (monitor.objective.spent - spent).gradients == 0
    assert "diverged" in readings["sharpness"].note
    monitor.close()
    with Record.open(tmp_path / "run") as record:
        assert record.status == "diverged"
        assert record.events().select("step", "kind").rows() == [(step, "diverged")]
        assert not math.isfinite(record.series("loss", "train")[1][-1])


def test_a_folder_and_memory_hold_the_same_and_a_table_outlives_the_monitor(tmp_path: Path) -> None:
    tables = []
    for out in (None, tmp_path / "run"):
        model = small()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
        with Monitor(objective_of(model), optimizer, every=2, out=out, config={"lr": 0.2}) as monitor:
            for _ in range(5):
                full_batch_step(model, optimizer)
                monitor.step()
            table = monitor.table()
        assert monitor.table().equals(table)
        tables.append(table)
        full_batch_step(model, optimizer)  # the hook is gone
    assert tables[0].equals(tables[1])
    with Record.open(tmp_path / "run") as record:
        assert record.table().equals(tables[1])
        assert (record.status, record.config) == ("finished", {"lr": 0.2})


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, "interrupted"), (ValueError, "failed")])
def test_a_loop_that_ends_early_is_recorded_as_it_ended(
    error: type[BaseException], status: str, tmp_path: Path
) -> None:
    with pytest.raises(error), Monitor(objective_of(small()), out=tmp_path / "run"):
        raise error
    with Record.open(tmp_path / "run") as record:
        assert record.status == status


def test_a_record_that_was_given_stays_open(tmp_path: Path) -> None:
    with Record.create(tmp_path / "run") as record:
        with Monitor(objective_of(small()), record=record):
            pass
        assert record.status == "running"
        assert record.last_step == 0


def test_a_measure_may_have_a_schedule_of_its_own() -> None:
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    names = ["training_loss@1", "loss", "norms@2", "directional_smoothness@3"]
    monitor = Monitor(objective_of(model), optimizer, every=4, measures=names)
    for _ in range(8):
        full_batch_step(model, optimizer)
        monitor.step()
    steps = {
        name: monitor.record.series(name, part)[0].tolist()
        for name, part in (("training_loss", ""), ("loss", "train"), ("norms", "l1"), ("directional_smoothness", ""))
    }
    assert steps == {
        "training_loss": list(range(9)),
        "loss": [0, 4, 8],
        "norms": [0, 2, 4, 6, 8],
        "directional_smoothness": [3, 6],
    }
    by_step = dict(zip(*monitor.record.series("training_loss"), strict=True))
    for step, loss in zip(*monitor.record.series("loss", "train"), strict=True):
        assert by_step[step] == loss
    assert set(monitor.latest) == set(steps)


def test_graphs_are_let_go_after_each_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    released: list[Objective] = []
    monkeypatch.setattr(Objective, "release", lambda self: released.append(self))
    for release, expected in ((True, 2), (False, 0)):
        released.clear()
        Monitor(objective_of(small()), evaluations={"test": objective_of(small())}, release=release)
        assert len(set(released)) == expected


def test_a_monitor_continues_bit_for_bit_from_its_state() -> None:
    def run(stop: int | None) -> str:
        model = small()
        optimizer = torch.optim.RMSprop(model.parameters(), lr=0.01)
        monitor = Monitor(objective_of(model), optimizer, every=2, measures=EVERYTHING)
        for step in range(1, 7):
            full_batch_step(model, optimizer)
            monitor.step()
            if step == stop:
                record, state = monitor.record, monitor.state()
                monitor.close = lambda: None  # type: ignore[method-assign]
                assert monitor._steps.hooks is not None
                monitor._steps.hooks.remove()
                kept = monitor  # its record lives as long as it does
                monitor = Monitor(objective_of(model), optimizer, every=2, measures=EVERYTHING, record=record)
                monitor.load_state(state)
                assert monitor.latest.keys() == kept.latest.keys()
        return monitor.record.fingerprint()

    assert run(None) == run(4) == run(3)


def test_a_state_with_other_measures_is_refused() -> None:
    first, second = (Monitor(objective_of(small()), measures=[name]) for name in ("loss", "norms"))
    with pytest.raises(InputError, match=r"measures loss; expected one with norms"):
        second.load_state(first.state())


def test_measures_are_taken_by_what_they_need_and_after_those_they_use() -> None:
    given = ["directional_smoothness", "loss", "ratio", "effective_sharpness", "sharpness:k=3"]
    assert [m.name for m in in_order(given)[0]] == [
        "sharpness",
        "effective_sharpness",
        "ratio",
        "loss",
        "directional_smoothness",
    ]
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    measures = ["ratio", "effective_sharpness", "gradient_norm", "loss", MEASURES.build("sharpness")]
    monitor = Monitor(objective_of(model), optimizer, measures=measures)
    monitor.start()
    paid = {name: (r.cost.losses, r.cost.gradients, r.cost.products) for name, r in monitor.latest.items()}
    assert paid.pop("sharpness")[2] > 0
    assert set(paid.values()) == {(0, 0, 0)}
    assert monitor.start() is None  # only once


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"measures": ["sharpnes"]}, UnknownNameError, "try 'sharpness'"),
        ({"measures": ["loss", "loss"]}, InputError, "given twice"),
        ({"measures": "loss"}, InputError, "a list of measures"),
        ({"measures": [3]}, InputError, "a name or a Measure"),
        ({"every": 0}, InputError, "at least 1"),
        ({"measures": ["loss@0"]}, InputError, "at least 1 after @"),
        ({"measures": ["loss@x"]}, InputError, "at least 1 after @"),
        ({"every": 10, "budget": 0.1}, InputError, "one of them"),
        ({"out": "x", "record": object()}, InputError, "one of them"),
    ],
)
def test_arguments_that_cannot_be_used(arguments: dict[str, Any], error: type[InputError], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        Monitor(objective_of(small()), **arguments)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_taken_is_refused(tmp_path: Path) -> None:
    Monitor(objective_of(small()), out=tmp_path).close()
    with pytest.raises(RecordError, match="already contains"):
        Monitor(objective_of(small()), out=tmp_path)
