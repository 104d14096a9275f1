"""A monitor as a callback of Lightning: ``Trainer(callbacks=[EdgescopeCallback(watch, every=50, out="runs/a")])``."""

from __future__ import annotations

from typing import Any

from edgescope.errors import InputError
from edgescope.monitor.attached import Attached, Watch
from edgescope.monitor.monitor import Monitor

try:
    from lightning.pytorch.callbacks import Callback
except ModuleNotFoundError as error:
    raise InputError("Lightning is not installed", hint="pip install 'edgescope[lightning]'") from error


class EdgescopeCallback(Callback):
    """Takes measures of the module that a Lightning trainer trains, with its first optimizer.

    ``watch(module)`` returns the :class:`Objective` to measure, made when training starts; ``options`` are those of
    :class:`Monitor`. ``callback.monitor`` is the monitor once training has started.
    """

    def __init__(self, watch: Watch, **options: Any) -> None:
        super().__init__()
        self._attached = Attached(watch, options)

    @property
    def monitor(self) -> Monitor | None:
        return self._attached.monitor

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._attached.begin(pl_module, trainer.optimizers[0], trainer.global_step)

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        self._attached.advanced_to(trainer.global_step)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self._attached.end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._attached.end("interrupted" if isinstance(exception, KeyboardInterrupt) else "failed")
