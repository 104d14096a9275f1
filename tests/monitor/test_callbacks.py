"""The callbacks, against stand-ins for the frameworks, which need not be installed."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from edgescope.errors import InputError
from edgescope.losses import half_mse, supervised
from edgescope.objective import Objective

LOSS = supervised(half_mse)
BATCH = torch.ones(6, 2), torch.zeros(6, dtype=torch.int64)
FRAMEWORKS = {
    "lightning": ("lightning.pytorch.callbacks", "Callback"),
    "transformers": ("transformers", "TrainerCallback"),
}


def callback_class(monkeypatch: pytest.MonkeyPatch, framework: str, installed: bool) -> Any:
    module, base = FRAMEWORKS[framework]
    monkeypatch.delitem(sys.modules, f"edgescope.monitor.{framework}", raising=False)
    parts = module.split(".")
    for i in range(len(parts)):
        stand_in = ModuleType(".".join(parts[: i + 1])) if installed else None
        monkeypatch.setitem(sys.modules, ".".join(parts[: i + 1]), stand_in)  # type: ignore[arg-type]
    if installed:
        setattr(sys.modules[module], base, type(base, (), {}))
    try:
        return importlib.import_module(f"edgescope.monitor.{framework}").EdgescopeCallback
    finally:
        sys.modules.pop(f"edgescope.monitor.{framework}", None)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_missing_framework_names_the_extra(monkeypatch: pytest.MonkeyPatch, framework: str) -> None:
    with pytest.raises(InputError, match=rf"pip install 'edgescope\[{framework}\]'"):
        callback_class(monkeypatch, framework, installed=False)


class Loop:
    """A training loop with two batches to an optimizer step, that tells a callback what its framework would."""

    def __init__(self, callback: Any, framework: str) -> None:
        torch.manual_seed(0)
        self.model = nn.Linear(2, 2)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.callback, self.framework, self.global_step = callback, framework, 100
        self.optimizers = [self.optimizer]

    def tell(self, lightning: str, transformers: str) -> None:
        if self.framework == "lightning":
            getattr(self.callback, lightning)(self, self.model)
        else:
            wrapped = SimpleNamespace(optimizer=self.optimizer)
            state = SimpleNamespace(global_step=self.global_step)
            getattr(self.callback, transformers)(None, state, None, model=self.model, optimizer=wrapped)

    def run(self, batches: int) -> None:
        self.tell("on_train_start", "on_train_begin")
        for batch in range(batches):
            LOSS(self.model, BATCH).backward()
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
