"""A monitor as a callback of the Hugging Face Trainer: ``Trainer(..., callbacks=[EdgescopeCallback(watch)])``."""

from __future__ import annotations

from typing import Any

from edgescope.errors import InputError
from edgescope.monitor.attached import Attached, Watch
from edgescope.monitor.monitor import Monitor

try:
    from transformers import TrainerCallback
except ModuleNotFoundError as error:
    raise InputError("Transformers is not installed", hint="pip install 'edgescope[transformers]'") from error


class EdgescopeCallback(TrainerCallback):
    """Takes measures of the model that a Hugging Face Trainer trains.

    ``watch(model)`` returns the :class:`Objective` to measure, made when training starts; ``options`` are those of
    :class:`Monitor`. ``callback.monitor`` is the monitor once training has started.
    """

    def __init__(self, watch: Watch, **options: Any) -> None:
        self._attached = Attached(watch, options)

    @property
    def monitor(self) -> Monitor | None:
        return self._attached.monitor

    def on_train_begin(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        self._attached.begin(parts["model"], parts["optimizer"], state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        self._attached.advanced_to(state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        self._attached.end()
