"""The callbacks, against stand-ins for the frameworks, which need not be installed."""

from __future__ import annotations

import importlib
import sys
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from torch import nn

from edgescope.errors import EdgescopeWarning, MissingExtraError, RecordError
from edgescope.losses import half_mse, supervised
from edgescope.objective import Objective

LOSS = supervised(half_mse)
BATCH = torch.ones(6, 2), torch.zeros(6, dtype=torch.int64)
FRAMEWORKS = {
    "lightning": ("lightning.pytorch.callbacks", "Callback"),
    "transformers": ("transformers", "TrainerCallback"),
}
RANK_ZERO = "lightning.pytorch.utilities.rank_zero"


def callback_class(monkeypatch: pytest.MonkeyPatch, framework: str, installed: bool) -> Any:
    module, base = FRAMEWORKS[framework]
    monkeypatch.delitem(sys.modules, f"edgescope.monitor.{framework}", raising=False)
    parts = module.split(".")
    for i in range(len(parts)):
        stand_in = ModuleType(".".join(parts[: i + 1])) if installed else None
        monkeypatch.setitem(sys.modules, ".".join(parts[: i + 1]), stand_in)  # type: ignore[arg-type]
    if installed:
        setattr(sys.modules[module], base, type(base, (), {}))
        for name in (RANK_ZERO.rpartition(".")[0], RANK_ZERO) if framework == "lightning" else ():
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
            sys.modules[name].rank_zero_info = print  # type: ignore[attr-defined]
    try:
        return importlib.import_module(f"edgescope.monitor.{framework}").EdgescopeCallback
    finally:
        sys.modules.pop(f"edgescope.monitor.{framework}", None)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_missing_framework_names_the_extra(monkeypatch: pytest.MonkeyPatch, framework: str) -> None:
    with pytest.raises(MissingExtraError, match=rf"pip install 'edgescope\[{framework}\]'"):
        callback_class(monkeypatch, framework, installed=False)


class Loop:
    """A training loop with two batches to an optimizer step, that tells a callback what its framework would."""

    def __init__(self, callback: Any, framework: str, global_step: int = 0) -> None:
        torch.manual_seed(0)
        self.model = nn.Linear(2, 2)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.callback, self.framework, self.global_step = callback, framework, global_step
        self.optimizers = [self.optimizer]
        self.folder: Any = None
        self.train_dataloader, self.accumulate_grad_batches, self.loggers, self.barebones = None, 2, [], True
        self.fit_loop = SimpleNamespace(epoch_loop=SimpleNamespace())
        self.should_stop = False

    def tell(self, lightning: str, transformers: str) -> None:
        if self.framework == "lightning":
            getattr(self.callback, lightning)(self, self.model)
        else:
            state = SimpleNamespace(global_step=self.global_step, is_world_process_zero=True, epoch=1.0, log_history=[])
            args = SimpleNamespace(output_dir=self.folder, resume_from_checkpoint=None)
            getattr(self.callback, transformers)(args, state, None, model=self.model, optimizer=self.optimizer)

    def run(self, batches: int, starts: bool = True) -> None:
        if starts:
            self.tell("on_train_start", "on_train_begin")
        for batch in range(batches):
            (LOSS(self.model, BATCH) / 2).backward()  # of two batches that are accumulated
            if batch % 2:
                self.optimizer.step()
                self.optimizer.zero_grad()
                self.global_step += 1
            if self.framework == "lightning" or batch % 2:
                self.tell("on_train_batch_end", "on_step_end")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_callback_counts_optimizer_steps_and_not_batches(monkeypatch: pytest.MonkeyPatch, framework: str) -> None:
    kind = callback_class(monkeypatch, framework, installed=True)
    callback = kind(
        lambda model: Objective(model, LOSS, BATCH, path="kept", threads=1), every=2, measures=["loss", "time"]
    )
    assert callback.monitor is None
    loop = Loop(callback, framework)
    loop.run(8)
    assert callback.monitor.steps == 4
    assert callback.monitor.record.series("loss", "train")[0].tolist() == [0, 2, 4]
    assert callback.monitor.value("time") == pytest.approx(0.4)
    loop.tell("on_train_end", "on_train_end")
    assert callback.monitor.table().height == 6


def test_all_optimizers_of_a_lightning_run_are_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = callback_class(monkeypatch, "lightning", installed=True)
    callback = kind(lambda model: Objective(model, LOSS, BATCH, path="kept", threads=1), every=1)
    loop = Loop(callback, "lightning")
    loop.optimizers = [torch.optim.SGD([p], lr=1e-3 * (i + 1)) for i, p in enumerate(loop.model.parameters())]
    loop.tell("on_train_start", "on_train_begin")
    for _ in range(3):
        for optimizer in loop.optimizers:
            loop.model.zero_grad()
            LOSS(loop.model, BATCH).backward()
            optimizer.step()
            loop.global_step += 1
        loop.tell("on_train_batch_end", "on_step_end")
    assert callback.monitor.optimizers == loop.optimizers
    assert callback.monitor.steps == 3
    assert callback.monitor.record.series("loss", "train")[0].tolist() == [0, 1, 2, 3]
    loop.tell("on_train_end", "on_train_end")


def test_a_failed_lightning_run_is_recorded_as_failed(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    kind = callback_class(monkeypatch, "lightning", installed=True)
    callback = kind(lambda model: Objective(model, LOSS, BATCH, path="kept", threads=1), out=tmp_path / "run")
    loop = Loop(callback, "lightning")
    loop.run(2)
    record = callback.monitor.record
    statuses = []
    monkeypatch.setattr(record, "set_status", statuses.append)
    callback.on_exception(loop, loop.model, ValueError())
    assert statuses == ["failed"]


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("kept", [True, False])
def test_a_training_that_goes_on_continues_the_record(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, framework: str, kept: bool
) -> None:
    """From a checkpoint at step 4 of 6, with the state of the callback or (``kept``) without."""
    kind = callback_class(monkeypatch, framework, installed=True)

    def callback(name: str) -> Any:
        watch = partial(Objective, loss_fn=LOSS, data=BATCH, path="kept", threads=1)
        return kind(watch, every=2, measures=["loss", "time"], out=tmp_path / name)

    def save(loop: Loop) -> None:
        (tmp_path / "checkpoint-4").mkdir()
        states = [loop.model.state_dict(), loop.optimizer.state_dict()]
        if framework == "lightning":
            states.append(loop.callback.state_dict())
        else:
            loop.tell("", "on_save")
        torch.save(states, tmp_path / "states.pt")

    whole = Loop(callback("whole"), framework)
    whole.run(14)
    whole.tell("on_train_end", "on_train_end")
    loop = Loop(callback("parts"), framework)
    loop.folder = tmp_path
    loop.run(8)
    save(loop)
    loop.run(4, starts=False)
    loop.tell("on_train_end", "on_train_end")
    loop = Loop(callback("parts"), framework, global_step=4)
    loop.folder = tmp_path if kept else tmp_path / "elsewhere"
    model, optimizer, *state = torch.load(tmp_path / "states.pt", weights_only=True)
    loop.model.load_state_dict(model)
    loop.optimizer.load_state_dict(optimizer)
    if state and kept:
        loop.callback.load_state_dict(state[0])
    loop.run(6)
    assert loop.callback.monitor.steps == loop.global_step == 7
    loop.tell("on_train_end", "on_train_end")
    tables = [one.callback.monitor.table() for one in (loop, whole)]
    if not kept:  # without its state the time of earlier steps is not known
        tables = [table.filter(pl.col("measure") == "loss") for table in tables]
    assert_frame_equal(*tables, check_exact=True)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_folder_that_is_taken_is_refused_by_a_training_that_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, framework: str
) -> None:
    kind = callback_class(monkeypatch, framework, installed=True)
    for options, words in (({}, None), ({}, "try resume=True"), ({"resume": True}, None)):
        watch = partial(Objective, loss_fn=LOSS, data=BATCH, path="kept", threads=1)
        loop = Loop(kind(watch, measures=["loss"], out=tmp_path / "run", **options), framework)
        if words is None:
            loop.run(4)  # from the same initialisation each time
            loop.tell("on_train_end", "on_train_end")
        else:
            with pytest.raises(RecordError, match=words):
                loop.run(4)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_training_that_starts_anew_begins_its_record_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, framework: str
) -> None:
    """As a trainer does that finds a batch size which fits into memory; no callback is told that a try has ended."""
    kind = callback_class(monkeypatch, framework, installed=True)
    watch = partial(Objective, loss_fn=LOSS, data=BATCH, path="kept", threads=1)
    callback = kind(watch, every=2, measures=["loss"], out=tmp_path / "run")
    Loop(callback, framework).run(8)
    loop = Loop(callback, framework)
    loop.run(4)
    assert callback.monitor.steps == 2
    loop.tell("on_train_end", "on_train_end")
    assert callback.monitor.table()["step"].unique().sort().to_list() == [0, 2]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_state_of_other_measures_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, framework: str
) -> None:
    kind = callback_class(monkeypatch, framework, installed=True)
    watch = partial(Objective, loss_fn=LOSS, data=BATCH, path="kept", threads=1)
    first, second = (kind(watch, every=2, measures=[measure]) for measure in ("loss", "gradient_norm"))
    Loop(first, framework).run(4)
    second._attached.load_state_dict(first._attached.state_dict())
    loop = Loop(second, framework, global_step=2)
    loop.folder = tmp_path
    with pytest.warns(EdgescopeWarning, match="the state of the monitor in the checkpoint cannot be used"):
        loop.run(4)
    assert second.monitor.steps == 4
