"""A training loop whose warnings and events are collected."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from monitor_runs import LOSS, data, objective_of
from torch import Tensor, nn
from torch.optim import SGD

from edgescope.errors import EdgescopeWarning
from edgescope.monitor import Monitor
from edgescope.notices import KINDS
from edgescope.objective import Objective

MEASURES = ("loss", "sharpness", "threshold", "ratio", "norms")
HERE = {"monitor_runs.py", "noticed_training.py", "test_changes_noticed.py", "test_training_noticed.py"}
"""Where the lines of the user are, at which warnings are to point."""


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
        assert all("\n" not in text and len(text.partition(" (see faq#")[0]) < 400 for _, text in self.events)
        assert {warning.filename.rpartition("/")[2] for warning in warned} <= HERE, "they point at the user's line"
        return self

    def told(self, kind: str, *words: str) -> Training:
        """This kind was told of, once, in a text with these words, and nothing else was."""
        texts = [str(warning.message) for warning in self.warned]
        assert len(texts) == 1, texts
        assert all(word in texts[0] for word in words), texts
        assert (kind, texts[0]) in self.events
        assert [other for other, _ in self.events if other not in (kind, "update", "gradients", "weights")] == []
        return self

    @property
    def ratio(self) -> float | None:
        return self.latest["ratio"].values.get("")


def normalised() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3))
