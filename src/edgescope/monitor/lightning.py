"""A monitor as a callback of Lightning: ``Trainer(callbacks=[EdgescopeCallback(every=100)])``."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any

from edgescope.extras import require
from edgescope.monitor.attached import AttachedCallback, Training
from edgescope.monitor.lightning_loss import loss_of_training_step
from edgescope.monitor.trackers import values_of
from edgescope.short_errors import short_errors

require("lightning", "this callback needs", "lightning")
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.rank_zero import rank_zero_info


@short_errors
class EdgescopeCallback(AttachedCallback, Callback):
    """Takes measures of the module that a Lightning trainer trains, with all of its optimizers.

    Args:
        watch: a function of the module that returns the :class:`Objective` to measure. Without it that is the loss of
            ``training_step`` on ``samples`` samples of the trainer's training data, drawn once: in the module's own
            batch transfer, with what ``training_step`` logs, counts or appends left out. With manual optimization it is
            the loss given to ``manual_backward``; where there are several different ones, give ``loss_fn``.
        every: measure at every so many optimizer steps, or at the steps for which a function is true.
        data: instead of the trainer's training data: a DataLoader, a batch, or a list of batches.
        loss_fn: instead of ``training_step``: ``loss_fn(module, batch)``, the mean loss of a batch.
        samples: how many samples of a DataLoader are measured.
        seed: of their choice and of their augmentation.
        log: the trainer's loggers by default; else as of :class:`Monitor`; None: nowhere. Values are also given to
            ``module.log``, so that other callbacks can monitor ``edgescope/ratio``.
        stop_on: stop training at the first event of this kind, such as "diverging" (:meth:`Monitor.on`).
        options: those of :class:`Monitor` and :class:`Objective`.

    Where training ends, the verdict on the run is a line of Lightning's own output.
    ``callback.monitor`` is the monitor once training has started; its ``description`` says what is measured.
    Checkpoints of the trainer keep its state, so that ``fit(..., ckpt_path=)`` continues the record in
    ``out=`` where the checkpoint was made. What cannot be measured gives one warning, and training goes on.
    """

    _axis: _Loggers | None = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._axis = _Loggers(trainer)
        training = Training(
            model=pl_module,
            optimizers=trainer.optimizers,
            steps=trainer.global_step,
            loss_fn=loss_of_training_step(trainer),
            loader=trainer.train_dataloader,
            prepare=partial(_as_the_module_gets_it, pl_module),
            accumulate=trainer.accumulate_grad_batches,
            tracker=self._axis,
        )
        self._attached.begin(training)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any = None, batch: Any = None, batch_idx: int = 0
    ) -> None:
        if self._axis is None:
            return
        with self._axis.after_step():
            values = values_of(self._attached.advanced_to(trainer.global_step, batch))
        if values and self._attached.log is not None and not trainer.barebones:
            with self._attached.guarded("values cannot be given to module.log"):
                pl_module.log_dict(values, logger=False, on_step=True, on_epoch=False, batch_size=1)
        if self._attached.stopping.should_stop:
            trainer.should_stop = True

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self._attached.end()
        verdict = self._attached.verdict()
        if verdict is not None:
            rank_zero_info(f"Edgescope: {verdict}")

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._attached.end(error=exception)

    def state_dict(self) -> dict[str, Any]:
        return self._attached.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._attached.load_state_dict(state_dict)


class _Loggers:
    """The loggers of a trainer as a tracker, on the axis of the trainer's own values: batches that were stepped on."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._after = 0

    @contextlib.contextmanager
    def after_step(self) -> Any:
        """Inside, the trainer has taken a step that it has not counted yet."""
        self._after = 1
        try:
            yield
        finally:
            self._after = 0

    def log(self, values: dict[str, float], step: int) -> None:
        counted = getattr(self._trainer.fit_loop.epoch_loop, "_batches_that_stepped", None)
        step = step if counted is None else counted + self._after
        for logger in self._trainer.loggers:
            logger.log_metrics(values, step=step)

    def close(self) -> None:
        pass


def _as_the_module_gets_it(module: Any, batch: Any) -> Any:
    """A batch as ``training_step`` takes it, after the hooks of the module or its data module."""
    return module._apply_batch_transfer_handler(module._on_before_batch_transfer(batch))
