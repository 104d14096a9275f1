"""A monitor as a callback of Lightning: ``Trainer(callbacks=[EdgescopeCallback(watch, every=50, out="runs/a")])``."""

from __future__ import annotations

from typing import Any

from edgescope.extras import require
from edgescope.monitor.attached import Attached, Watch
from edgescope.monitor.monitor import Monitor

require("lightning", "this callback needs", "lightning")
from lightning.pytorch.callbacks import Callback


class EdgescopeCallback(Callback):
    """Takes measures of the module that a Lightning trainer trains, with all of its optimizers.

    ``watch(module)`` returns the :class:`Objective` to measure, made when training starts; ``options`` are those of
    :class:`Monitor`. ``callback.monitor`` is the monitor once training has started. Checkpoints of the trainer keep its
    state, so that ``fit(..., ckpt_path=)`` continues the record in ``out=`` where the checkpoint was made.
    """

    def __init__(self, watch: Watch, **options: Any) -> None:
        super().__init__()
        self._attached = Attached(watch, options)

    @property
    def monitor(self) -> Monitor | None:
        return self._attached.monitor

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._attached.begin(pl_module, trainer.optimizers, trainer.global_step)

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        self._attached.advanced_to(trainer.global_step)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self._attached.end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._attached.end("interrupted" if isinstance(exception, KeyboardInterrupt) else "failed")

    def state_dict(self) -> dict[str, Any]:
        return self._attached.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._attached.load_state_dict(state_dict)
