"""Nothing that a monitor does, or fails to do, reaches the training around it."""

from __future__ import annotations

import contextlib
import sqlite3
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from monitor_runs import LOSS, data, objective_of, small
from test_monitor import EVERYTHING
from torch import Tensor, nn
from torch.optim import SGD, Adam

from edgescope.errors import EdgescopeWarning
from edgescope.measures import Moment, Reading
from edgescope.measures.loss import LossMeasure
from edgescope.monitor import Monitor
from edgescope.notices import KINDS
from edgescope.objective import Objective
from edgescope.store import Record

ERRORS: dict[str, Callable[[int], BaseException]] = {
    "RuntimeError": lambda number: RuntimeError(f"failed at call {number}"),
    "OutOfMemoryError": lambda number: torch.OutOfMemoryError(
        f"CUDA out of memory. Tried {number}.50 GiB at 0x7f{number}"
    ),
    "LinAlgError": lambda number: torch.linalg.LinAlgError("not converged"),
    "SystemExit": lambda number: SystemExit(3),
    "a warning made an error": lambda number: UserWarning("of the user's own"),
    "MemoryError": lambda number: MemoryError(),
    "GeneratorExit": lambda number: GeneratorExit(),
}


class Faulty:
    """A loss function that raises errors once it is told to."""

    def __init__(self, error: Callable[[int], BaseException]) -> None:
        self.error, self.calls, self.on = error, 0, False
        self.targets, self.criterion_of = LOSS.targets, LOSS.criterion_of

    def __call__(self, model: nn.Module, batch: Any) -> Tensor:
        self._fail()
        return LOSS(model, batch)

    def outputs(self, model: nn.Module, batch: Any) -> Tensor:
        self._fail()
        return LOSS.outputs(model, batch)

    def _fail(self) -> None:
        self.calls += 1
        if self.on:
            raise self.error(self.calls)


class FaultyMeasure(LossMeasure):
    name = "faulty"

    def __init__(self, error: Callable[[int], BaseException], where: str) -> None:
        self.error, self.where, self.calls = error, where, 0

    def read(self, moment: Moment) -> Reading:
        return self._do("measure")

    def follow(self, step: int, objective: Objective) -> None:
        self._do("follow")

    def _do(self, what: str) -> Reading:
        self.calls += 1
        if self.where == what:
            raise self.error(self.calls)
        return Reading(self.name, {"": 1.0})


Making = Callable[[nn.Module, torch.optim.Optimizer], Monitor]


def trained(make: Making | None, steps: int = 6, act: Any = None, seed: int = 0) -> tuple[list[Tensor], Any, list[str]]:
    """What training leaves, its monitor, and the warnings that were given."""
    torch.manual_seed(seed)
    model = nn.Sequential(*small(), nn.Dropout(0.1))
    optimizer = Adam(model.parameters(), lr=0.02)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        monitor = None if make is None else make(model, optimizer)
        for number in range(steps):
            optimizer.zero_grad()
            LOSS(model, data()).backward()
            optimizer.step()
            if monitor is not None:
                if act is not None and number == 3:
                    act(monitor)
                monitor.step()
        if monitor is not None:
            monitor.close()
    left = [*model.parameters(), *(p.grad for p in model.parameters()), torch.rand(3)]
    kinds = {kind for kind, _ in monitor.notices.given()} if monitor is not None else set()
    assert kinds <= set(KINDS)
    texts = [str(warning.message) for warning in warned if "dropout" not in str(warning.message)]
    return [tensor.detach().clone() for tensor in left], monitor, texts


PLAIN = trained(None)[0]


def unharmed(make: Making, act: Any = None, steps: int = 6) -> tuple[Any, list[str]]:
    plain = PLAIN if steps == 6 else trained(None, steps)[0]
    left, monitor, texts = trained(make, steps, act)
    assert monitor.steps == steps
    assert all(torch.equal(a, b) for a, b in zip(plain, left, strict=True))
    assert all("\n" not in text for text in texts)
    return monitor, texts


def test_nothing_is_told_where_nothing_is_wrong() -> None:
    assert unharmed(lambda model, optimizer: Monitor(objective_of(model), optimizer, every=2))[1] == []


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("where", ["the loss", "an evaluation", "measure", "follow", "schedule"])
def test_whatever_is_raised_while_measuring_leaves_training_as_it_is(where: str, name: str) -> None:
    error, faulty = ERRORS[name], Faulty(ERRORS[name])

    def make(model: nn.Module, optimizer: torch.optim.Optimizer) -> Monitor:
        own = Objective(model, faulty, data(), path="kept", threads=1)
        good = objective_of(model)
        objective, evaluations = (own, {}) if where == "the loss" else (good, {"test": own})
        measures: list[Any] = ["loss", "norms", "sharpness", "ratio", "accuracy", "directional_smoothness"]
        every: Any = 2

        def at_step(step: int) -> bool:
            if step > 2:
                raise error(step)
            return step % 2 == 0

        if where in ("measure", "follow"):
            measures.append(FaultyMeasure(error, where))
        if where == "schedule":
            every = at_step
        return Monitor(objective, optimizer, every=every, measures=measures, evaluations=evaluations)

    def fail(monitor: Monitor) -> None:
        faulty.on = where in ("the loss", "an evaluation")

    monitor, texts = unharmed(make, fail)
    told = [text for text in texts if str(type(error(1)).__name__) in text or "failed" in text or "cannot" in text]
    assert texts == told
    assert 1 <= len(texts) <= 2, "a loss that fails does so where a step begins, and in its measures"
    # What does not depend on the fault is still read.
    last = 2 if where == "schedule" else 6
    steps = monitor.table().filter(measure="norms", part="l2")["step"].to_list()
    assert steps == list(range(0, last + 1, 2))


@pytest.mark.parametrize("where", ["measure", "follow", "schedule"])
def test_errors_are_raised_where_that_is_asked_for(where: str) -> None:
    error = ERRORS["RuntimeError"]

    def every(step: int) -> bool:
        if where == "schedule":
            raise error(step)
        return True

    def make(model: nn.Module, optimizer: torch.optim.Optimizer) -> Monitor:
        measure = FaultyMeasure(error, where)
        return Monitor(objective_of(model), optimizer, every=every, measures=["loss", measure], on_error="raise")

    with pytest.raises(RuntimeError, match="failed at call"):
        trained(make)


@pytest.mark.parametrize("on_error", ["warn", "raise"])
@pytest.mark.parametrize("where", ["measure", "follow", "schedule"])
def test_control_c_passes(where: str, on_error: Any) -> None:
    def interrupt(number: int) -> BaseException:
        return KeyboardInterrupt()

    def every(step: int) -> bool:
        if where == "schedule" and step:
            raise KeyboardInterrupt
        return True

    def make(model: nn.Module, optimizer: torch.optim.Optimizer) -> Monitor:
        measure = FaultyMeasure(interrupt, where)
        return Monitor(objective_of(model), optimizer, every=every, measures=["loss", measure], on_error=on_error)

    with pytest.raises(KeyboardInterrupt):
        trained(make)


def full_disk(monitor: Monitor) -> None:
    database = monitor.record._database
    database.execute(f"PRAGMA max_page_count = {database.execute('PRAGMA page_count').fetchone()[0]}")


def closed(monitor: Monitor) -> None:
    monitor.record.close()


def dropped(monitor: Monitor) -> None:
    monitor.record._database.execute("DROP TABLE reading")


@pytest.mark.parametrize("fault", [full_disk, closed, dropped])
@pytest.mark.parametrize("kept", ["in memory", "in a folder", "given"])
def test_a_record_that_cannot_be_written_is_told_of_once(fault: Any, kept: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"

    def make(model: nn.Module, optimizer: torch.optim.Optimizer) -> Monitor:
        # Long notes, so that a page is full at once.
        options: dict[str, Any] = {"in memory": {}, "in a folder": {"out": folder}, "given": {}}[kept]
        if kept == "given":
            options["record"] = Record.create(folder)
        return Monitor(objective_of(model), optimizer, every=1, measures=EVERYTHING[:10], **options)

    monitor, texts = unharmed(make, fault, steps=12)  # enough readings to fill the last page
    assert len(texts) >= 1
    assert len(texts) <= 2, "that it cannot be written, and that it cannot be closed"
    assert all("cannot" in text for text in texts)
    with contextlib.suppress(sqlite3.Error):
        monitor.record.close()


def test_one_cause_is_one_warning_whatever_figures_it_names() -> None:
    faulty = Faulty(ERRORS["OutOfMemoryError"])

    def make(model: nn.Module, optimizer: torch.optim.Optimizer) -> Monitor:
        objective = Objective(model, faulty, data(), path="kept", threads=1)
        return Monitor(objective, optimizer, every=1, measures=["loss"])

    monitor, texts = unharmed(make, lambda monitor: setattr(faulty, "on", True))
    assert len(texts) == 1
    assert "out of memory" in texts[0]
    notes = monitor.table().filter(measure="loss", part="")["note"].to_list()
    assert sum("out of memory" in note for note in notes) == 3


def test_warnings_that_are_errors_raise_and_training_can_go_on() -> None:
    """Who makes warnings errors has them raised, at most once each; the steps are counted all the same."""
    model = small()
    optimizer = SGD(model.parameters(), lr=0.1)
    faulty = FaultyMeasure(ERRORS["RuntimeError"], "measure")
    monitor = Monitor(objective_of(model), optimizer, every=1, measures=["norms", faulty])
    raised = taken = 0
    while taken < 6:
        optimizer.zero_grad()
        LOSS(model, data()).backward()
        try:
            optimizer.step()
            taken += 1
        except EdgescopeWarning:
            raised += 1
    assert raised == 1
    assert monitor.steps == 6
    assert monitor.record.series("norms", "l2")[0].tolist() == list(range(7))


@contextlib.contextmanager
def default_dtype() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def default_device() -> Iterator[None]:
    torch.set_default_device("cpu")
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextlib.contextmanager
def anomaly() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Anomaly Detection")
        with torch.autograd.detect_anomaly():
            yield


CONTEXTS: dict[str, Callable[[], Any]] = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "deterministic": deterministic,
    "anomaly": anomaly,
    "default dtype": default_dtype,
    "default device": default_device,
}


def readings_inside(context: Callable[[], Any], where: str) -> tuple[str, list[str]]:
    """The record of a run with every measure, whose readings are all taken inside a context, and what failed."""
    model = small()
    optimizer = Adam(model.parameters(), lr=0.02)
    batch, test = data(), data(9, seed=1)
    with context() if where == "everything" else contextlib.nullcontext():
        evaluations = {"test": objective_of(model, test)}
        monitor = Monitor(objective_of(model, batch), optimizer, every=3, measures=EVERYTHING, evaluations=evaluations)
    for _ in range(3):
        optimizer.zero_grad()
        LOSS(model, batch).backward()
        if where == "in the hook":
            with context():
                optimizer.step()
        else:
            with context() if where == "everything" else contextlib.nullcontext():
                optimizer.step()
            with context():
                monitor.step()
    with context():
        table = monitor.table()
    failed = table.filter(table["note"].str.contains("Error|failed"))["note"].to_list()
    return monitor.record.fingerprint(), failed


@pytest.fixture(scope="module")
def usual() -> str:
    fingerprint, failed = readings_inside(contextlib.nullcontext, "at step()")
    assert failed == []
    return fingerprint


@pytest.mark.parametrize("where", ["at step()", "in the hook"])
@pytest.mark.parametrize("name", CONTEXTS)
def test_every_measure_is_the_same_in_whatever_context_it_is_taken(name: str, where: str, usual: str) -> None:
    assert readings_inside(CONTEXTS[name], where) == (usual, [])


@pytest.mark.parametrize("name", ["autocast", "deterministic", "default dtype", "default device"])
def test_a_monitor_made_in_a_context_measures_the_same(name: str, usual: str) -> None:
    assert readings_inside(CONTEXTS[name], "everything") == (usual, [])
