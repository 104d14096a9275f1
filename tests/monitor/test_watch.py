"""``watch`` measures a training loop with one line: the same record as a monitor, the same weights, an ended record."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from disturbable_loops import DISTURBABLE
from monitor_loops import LOOPS
from monitor_runs import LOSS, Run, backward, data, noticed, objective_of, small
from test_bit_identical_loops import differences
from torch.optim import SGD
from warm_process import WarmProcess

import edgescope as es
from edgescope.errors import InputError
from edgescope.monitor import ending

WATCHED: dict[str, Callable[[Run], None]] = {
    name: (LOOPS | DISTURBABLE)[name]
    for name in (
        "accumulated",
        "autocast_and_scaler",
        "clipped",
        "closure_of_lbfgs",
        "dropout_and_batch_statistics",
        "failing",
        "muon_and_adamw",
        "parameters_in_bfloat16",
        "scheduler_after",
        "two_steps_of_sam",
    )
}


class WatchedRun(Run):
    """A run that is watched by ``watch``, or by nothing where ``call`` is None; the loop calls nothing."""

    def watch(self, model: Any, *optimizers: Any, batch: Any = None, **more: Any) -> None:
        self.model, self.optimizers = model, optimizers
        self.parameters.append(self._flat())
        if self.call is not None:
            given = optimizers[0] if len(optimizers) == 1 else list(optimizers)
            options = {"every": self.every, "measures": self.measures, "path": "kept", "threads": 1} | more
            self.monitor = es.watch(model, given, LOSS, data() if batch is None else batch, **options)


def left_by(loop: Callable[[Run], None], run: Run) -> dict[str, Any]:
    with noticed():
        loop(run)
        if run.monitor is not None:
            run.monitor.close()
            assert run.monitor.table().filter(measure="loss")["value"].null_count() == 0, "it was really measured"
    return run.left() | {"generator": torch.get_rng_state()}


@pytest.mark.parametrize("name", WATCHED)
def test_training_leaves_the_same_bits_with_and_without_watch(name: str) -> None:
    loop, measures = WATCHED[name], ("loss", "sharpness", "ratio", "step_ratio", "headroom")
    plain = left_by(loop, WatchedRun(None, measures=measures))
    assert differences(plain, left_by(loop, WatchedRun("never", measures=measures))) == []


def train(steps: int, start: Callable[[Any, SGD], Any], seed: int = 0) -> Any:
    model = small(seed)
    optimizer = SGD(model.parameters(), lr=0.3, momentum=0.5)
    monitor = start(model, optimizer)
    for _ in range(steps):
        optimizer.zero_grad()
        backward(model)
        optimizer.step()
    return monitor


def test_the_record_is_that_of_a_monitor_on_the_same_data() -> None:
    options: dict[str, Any] = {"every": 3, "measures": ["loss", "sharpness", "ratio", "spectrum@end"]}
    watched = train(6, lambda m, o: es.watch(m, o, LOSS, data(), path="kept", threads=1, **options))
    watched.close()
    usual = train(6, lambda m, o: es.Monitor(objective_of(m), o, **options))
    usual.finish()
    usual.close()
    columns = ["step", "measure", "part", "value", "error"]
    assert watched.table().select(columns).equals(usual.table().select(columns))
    assert watched.table().filter(measure="spectrum")["step"].unique().to_list() == [6]


def test_the_default_is_every_hundred_steps_and_budget_takes_its_place() -> None:
    model = small()
    optimizer = SGD(model.parameters(), lr=0.1)
    with es.watch(model, optimizer, LOSS, data()) as monitor:
        assert monitor.schedule == es.monitor.Every(100)
    with es.watch(model, optimizer, LOSS, data(), budget=0.1) as monitor:
        assert isinstance(monitor.schedule, es.monitor.Budget)


def test_a_criterion_and_a_compiled_model_are_taken_as_they_are() -> None:
    model = small()
    optimizer = SGD(model.parameters(), lr=0.1)
    compiled = torch.compile(model, backend="eager")
    for criterion in (torch.nn.functional.cross_entropy, torch.nn.CrossEntropyLoss()):
        with es.watch(compiled, optimizer, criterion, data(), measures=["loss"]) as monitor:
            monitor.start()
            expected = torch.nn.functional.cross_entropy(model(data()[0]), data()[1])
            assert monitor.value("loss") == pytest.approx(float(expected.detach()), rel=1e-6)


def test_an_unknown_option_is_named() -> None:
    model = small()
    with pytest.raises(InputError, match=r"unknown option measure= of watch.*'measures'"):
        es.watch(model, SGD(model.parameters(), lr=0.1), LOSS, data(), measure=["loss"])


def test_a_run_that_stops_is_resumed(tmp_path: Path) -> None:
    def start(model: Any, optimizer: SGD) -> Any:
        return es.watch(model, optimizer, LOSS, data(), every=2, measures=["loss"], out=tmp_path, resume=True)

    with train(3, start):
        pass
    with train(5, start) as monitor:  # from the same start, as a script that is run again
        pass
    assert monitor.table()["step"].to_list() == [0, 2, 4]
    with es.Record.open(tmp_path) as record:
        assert record.status == "finished"
        assert "resumed" in record.events()["kind"].to_list()


def test_an_error_in_a_with_block_is_the_end_of_the_run(tmp_path: Path) -> None:
    for error, status in ((KeyboardInterrupt, "interrupted"), (ValueError, "failed")):
        with pytest.raises(error):  # noqa: PT012
            out = tmp_path / status
            with train(4, lambda m, o, out=out: es.watch(m, o, LOSS, data(), every=2, measures=["loss"], out=out)):
                raise error
        with es.Record.open(out) as record:
            assert (record.status, record.last_step) == (status, 4)


SCRIPT = """
import sys
import torch
import edgescope as es
from edgescope.losses import half_mse

def main(out, end):
    torch.manual_seed(0)
    model = torch.nn.Linear(5, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = torch.randn(24, 5), torch.randint(3, (24,))
    es.watch(model, optimizer, half_mse, (x, y), every=2, measures=["loss"], out=out)
    for _ in range(4):
        optimizer.zero_grad()
        half_mse(model(x), y).backward()
        optimizer.step()
    if end == "failed":
        raise ValueError("the end")
    if end == "interrupted":
        raise KeyboardInterrupt
    if end == "sys.exit":
        sys.exit(0)

main(*sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("of main", "finished"),
        ("sys.exit", "finished"),
        ("failed", "failed"),
        ("interrupted", "interrupted"),
    ],
)
def test_where_python_ends_the_last_step_is_read_and_the_record_closed(
    tmp_path: Path, end: str, status: str, users_python: WarmProcess
) -> None:
    program = tmp_path / "program.py"
    program.write_text(SCRIPT)
    users_python.begin("whole", str(tmp_path), str(program), str(tmp_path / "run"), end)
    assert (users_python.code() == 0) == (status == "finished")
    with es.Record.open(tmp_path / "run") as record:
        assert record.status == status
        assert record.series("loss", "train")[0].tolist() == [0, 2, 4]


def test_a_run_whose_optimizer_is_gone_ends_when_the_next_begins(tmp_path: Path) -> None:
    def start(out: Path) -> Callable[[Any, SGD], Any]:
        return lambda m, o: es.watch(m, o, LOSS, data(), every=2, measures=["loss"], out=out)

    train(4, start(tmp_path / "first"))
    gc.collect()
    with es.Record.open(tmp_path / "first") as record:
        assert record.last_step == 2, "nothing is measured while garbage is collected"
    second = train(2, start(tmp_path / "second"))
    with es.Record.open(tmp_path / "first") as record:
        assert (record.status, record.last_step) == ("finished", 4)
    second.close()


def test_a_closed_run_is_not_kept_alive() -> None:
    monitor = train(2, lambda m, o: es.watch(m, o, LOSS, data(), measures=["loss"]))
    monitor.close()
    model = weakref.ref(monitor.objective.model)
    del monitor
    gc.collect()
    assert model() is None
    assert not ending._FORGOTTEN
