"""A monitor counts the steps of the optimizer itself: the record is the same however ``monitor.step()`` is called."""

from __future__ import annotations

import copy
import gc
import threading
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from loops_of_one_optimizer import Nested
from monitor_loops import LOOPS
from monitor_runs import CALLS, CHEAP, LOSS, STEPS, Run, backward, data, noticed, objective_of, small
from torch import Tensor, nn
from torch.optim import SGD, Adam
from training_loops import plainly

from edgescope.measures import Moment, Reading
from edgescope.measures.loss import LossMeasure
from edgescope.monitor import Monitor
from edgescope.optim import SAM
from edgescope.store import Record

EXACT = {name: loop for name, loop in LOOPS.items() if name != "scheduler_after"}


def run_of(loop: Callable[[Run], None], call: str = "after", **options: Any) -> Run:
    run = Run(call, **({"measures": CHEAP} | options))
    with noticed():
        loop(run)
    return run


def monitor_of(run: Run) -> Monitor:
    assert run.monitor is not None
    return run.monitor


def refuse_wrong_parameters(run: Run) -> None:
    """Every reading is of the parameters that the loop itself saw after that many steps."""
    monitor = monitor_of(run)
    assert monitor.steps == len(run.parameters) - 1
    steps, lengths = monitor.record.series("norms", "l2")
    assert steps.tolist() == list(range(0, monitor.steps + 1, run.every))
    assert lengths == pytest.approx([float(run.parameters[step].norm()) for step in steps], rel=1e-6)


@pytest.mark.parametrize("name", EXACT)
def test_the_record_is_the_same_however_step_is_called(name: str) -> None:
    prints = set()
    for call in CALLS:
        run = run_of(EXACT[name], call)
        refuse_wrong_parameters(run)
        prints.add(monitor_of(run).record.fingerprint())
    assert len(prints) == 1


@pytest.mark.parametrize("call", CALLS)
def test_a_scheduler_after_the_call_changes_nothing_but_what_depends_on_the_learning_rate(call: str) -> None:
    run = run_of(LOOPS["scheduler_after"], call)
    refuse_wrong_parameters(run)
    record = monitor_of(run).record
    # From 0.1 to 1 times 0.02 in five steps. Before it has stepped the rate is that of the step just taken.
    rates = [0.02 * min(1.0, 0.1 + 0.9 * number / 5) for number in range(STEPS + 1)]
    behind = call in ("after", "twice")
    expected = [rates[0], *(rates[step - behind] for step in (2, 4, 6))]
    assert record.series("learning_rate")[1] == pytest.approx(expected, rel=1e-12)
    assert record.series("threshold")[1] == pytest.approx([38 / rate for rate in expected], rel=1e-12)
    times = [sum(rates[:step]) for step in (0, 2, 4, 6)]
    assert record.series("time")[1] == pytest.approx(times, rel=1e-12)


def test_readings_come_back_from_the_call_after_the_step() -> None:
    run = run_of(LOOPS["plain"], "after")
    assert [reading["norms"].values["l2"] for reading in run.readings] == pytest.approx(
        [float(run.parameters[step].norm()) for step in (2, 4, 6)], rel=1e-6
    )
    seldom = run_of(LOOPS["one_steps_every_fifth_time"], "after")
    lengths = [reading["norms"].values["l2"] for reading in seldom.readings]
    assert lengths == pytest.approx([float(seldom.parameters[step].norm()) for step in (2, 4, 6)], rel=1e-6)


def test_asking_for_what_is_known_does_not_end_a_step() -> None:
    model = small()
    both = [SGD(model[0].parameters(), lr=0.1), SGD(model[2].parameters(), lr=0.1)]
    monitor = Monitor(objective_of(model), both, every=1, measures=["loss"])
    for _ in range(3):
        backward(model)
        for optimizer in both:
            optimizer.step()
            assert monitor.table().height == len(monitor.record.series("loss", "train")[0])
            assert monitor.value("loss", "train") is not None
    assert monitor.steps == 3
    assert monitor.record.series("loss", "train")[0].tolist() == [0, 1, 2, 3]


def test_a_compiled_step_is_counted_as_a_plain_one() -> None:
    def loop(run: Run, compiled: bool, kind: type[SGD]) -> None:
        model = small()
        optimizer = kind(model.parameters(), lr=0.2)
        step = torch.compile(optimizer.step, backend="eager") if compiled else optimizer.step
        plainly(run, model, optimizer, step)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)  # torch's own, of parts that load late
        for kind in (SGD, Nested):
            prints = set()
            for compiled, call in ((False, "after"), (True, "after"), (True, "never")):
                run = run_of(lambda run, c=compiled, k=kind: loop(run, c, k), call)
                refuse_wrong_parameters(run)
                prints.add(monitor_of(run).record.fingerprint())
            assert len(prints) == 1


def test_two_monitors_of_one_optimizer_do_not_see_each_other() -> None:
    alone = run_of(LOOPS["gradient_scaler_fused_sgd"])
    others: list[Monitor] = []

    def loop(run: Run) -> None:
        watch = run.watch

        def both(model: nn.Module, optimizer: Any, **more: Any) -> None:
            others.append(Monitor(objective_of(model), optimizer, every=2, measures=CHEAP))
            watch(model, optimizer, **more)

        run.watch = both  # type: ignore[method-assign]
        LOOPS["gradient_scaler_fused_sgd"](run)

    run = run_of(loop)
    assert monitor_of(run).record.fingerprint() == monitor_of(alone).record.fingerprint()
    assert others[0].record.fingerprint() == monitor_of(alone).record.fingerprint()


def plain_step(model: nn.Module, optimizer: Any) -> None:
    optimizer.zero_grad()
    backward(model)
    optimizer.step()


def step_with_closure(model: nn.Module, optimizer: Any) -> None:
    optimizer.step(lambda: backward(model))


def step_in_two(model: nn.Module, optimizer: Any) -> None:
    backward(model)
    optimizer.first_step(zero_grad=True)
    backward(model)
    optimizer.second_step(zero_grad=True)


THREADS: dict[str, tuple[Callable[..., Any], Callable[..., None]]] = {
    "sgd": (lambda params: SGD(params, lr=0.2), plain_step),
    "adam": (lambda params: Adam(params, lr=0.02), step_with_closure),
    "sam": (lambda params: SAM(params, SGD, lr=0.2, rho=0.1), step_in_two),
}


def test_trainings_in_several_threads_are_told_apart() -> None:
    def train(name: str, model: nn.Module, wait: Callable[[], Any]) -> None:
        make, step = THREADS[name]
        optimizer = make(model.parameters())
        monitor = Monitor(objective_of(model), optimizer, every=2, measures=CHEAP)
        for _ in range(6):
            step(model, optimizer)
            wait()  # so that the steps and readings of all lie between each other
            monitor.step()
        prints[name] = monitor.record.fingerprint()

    alone: dict[str, str] = {}
    prints = alone
    with noticed():
        for name in THREADS:
            train(name, small(), lambda: None)
        prints, barrier = {}, threading.Barrier(len(THREADS), timeout=60)
        threads = [threading.Thread(target=train, args=(name, small(), barrier.wait)) for name in THREADS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert prints == alone


def test_monitors_may_come_and_go_while_another_measures_inside_a_step() -> None:
    other = small()
    optimizer = SGD(other.parameters(), lr=0.1)

    opened: list[Monitor] = []

    class Busy(LossMeasure):
        name = "busy"

        def read(self, moment: Moment) -> Reading:
            if len(opened) % 2:
                opened[-1].close()
            opened.append(Monitor(objective_of(other), optimizer, measures=["loss"]))
            return Reading(self.name, {"": 1.0})

    run = run_of(LOOPS["plain"], "never", measures=["norms", Busy()])
    refuse_wrong_parameters(run)
    assert monitor_of(run).record.series("busy")[0].tolist() == [0, 2, 4, 6]


def test_a_monitor_that_nobody_keeps_goes_on_as_long_as_its_optimizer(tmp_path: Path) -> None:
    model = small()
    optimizer = SGD(model.parameters(), lr=0.1)
    ended = weakref.ref(Monitor(objective_of(model), optimizer, every=1, measures=["loss"], out=tmp_path / "run"))
    gc.collect()
    for _ in range(4):
        optimizer.zero_grad()
        backward(model)
        optimizer.step()
    copied = copy.deepcopy(optimizer)  # which keeps nothing alive
    del optimizer
    gc.collect()
    assert ended() is None
    copied.step()
    with Record.open(tmp_path / "run") as record:
        assert record.series("loss", "train")[0].tolist() == [0, 1, 2, 3]


def test_a_closed_monitor_is_let_go_and_counts_no_more() -> None:
    model = small()
    optimizer = SGD(model.parameters(), lr=0.1)
    monitor = Monitor(objective_of(model), optimizer, every=1, measures=["loss"])
    for number in range(4):
        optimizer.zero_grad()
        backward(model)
        optimizer.step()
        monitor.step()
        if number == 1:
            monitor.close()
            monitor.close()
            assert monitor.start() is monitor.finish(everything=True) is None
    assert monitor.steps == 2
    assert monitor.table()["step"].to_list() == [0, 1, 2]
    ended = weakref.ref(monitor)
    del monitor
    gc.collect()
    assert ended() is None


def test_another_optimizer_at_the_address_of_one_that_is_gone_is_seen() -> None:
    model = small()
    optimizer = SGD(model.parameters(), lr=0.1)
    monitor = Monitor(objective_of(model), optimizer, every=1, measures=["loss"])
    backward(model)
    for _ in range(20):  # each takes the step of the first inside its own, and is gone
        kind = type("Around", (torch.optim.Optimizer,), {"step": lambda self, closure=None: optimizer.step(closure)})
        around = kind(model.parameters(), {})
        around.step()
        del around, kind
    assert monitor.steps == 20
    fresh = SGD(model.parameters(), lr=0.1)
    with pytest.warns(UserWarning, match="SGD was replaced by another SGD"):
        fresh.step()
    assert monitor.steps == 21


def test_steps_of_other_models_are_none_of_its() -> None:
    model, other = small(), small(1)
    optimizer, elsewhere = SGD(model.parameters(), lr=0.1), SGD(other.parameters(), lr=0.1)
    monitor = Monitor(objective_of(model), optimizer, every=1, measures=["loss"])
    for _ in range(5):
        backward(other)
        elsewhere.step()
    backward(model)
    for _ in range(3):  # early, as in the first steps of accumulation
        monitor.step()
        optimizer.step()
    assert monitor.steps == 3
    monitor.close()
    assert monitor.notices.given() == []


def test_what_a_closure_steps_inside_belongs_to_the_step_around_it() -> None:
    model, other = small(), small(1)
    optimizer, inner = SGD(model.parameters(), lr=0.1), SGD(other.parameters(), lr=0.1)
    monitor = Monitor(objective_of(model), optimizer, every=1, measures=["loss"])

    def closure() -> Tensor:
        with torch.enable_grad():
            backward(other)
            inner.step()
            return backward(model)

    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        optimizer.step(closure)
        monitor.step()
        losses.append(float(LOSS(model, data()).detach()))
    assert monitor.steps == 3
    assert monitor.record.series("loss", "train")[1][1:] == pytest.approx(losses, rel=1e-6)
