"""One line for a training loop: the objective, its data and the monitor, with nothing else to call."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any, Final

from torch import nn
from torch.utils.data import DataLoader

from edgescope.errors import InputError
from edgescope.measures import Reading
from edgescope.measures.arguments import Optimizers
from edgescope.monitor.ending import end_at_exit, end_forgotten, end_later, has_ended
from edgescope.monitor.monitor import Monitor
from edgescope.monitor.probe import draw_probe, loader_of
from edgescope.near_names import suggestion
from edgescope.objective import Objective
from edgescope.objective.checks import as_loss
from edgescope.options import check_int
from edgescope.short_errors import short_errors
from edgescope.store.record import Status

LossFunction = Callable[..., Any]


def _options_of(kind: Any) -> frozenset[str]:
    parameters = inspect.signature(kind.__init__).parameters.values()
    return frozenset(p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)


OF_OBJECTIVE: Final = _options_of(Objective)
OF_MONITOR: Final = _options_of(Monitor)


@short_errors
class WatchingMonitor(Monitor):
    """The :class:`Monitor` that :func:`watch` returns: it lives as long as the optimizer does, and closes itself.

    It is closed where Python ends, with the status "failed" or "interrupted" if an error or Ctrl-C ends it. Closing
    takes the reading of the last step if it is due, and the measures that are scheduled ``@end``. ``description`` says
    what is measured.
    """

    def __init__(self, objective: Objective, optimizer: Optimizers, description: str, **options: Any) -> None:
        self.description = description
        self._process = os.getpid()
        super().__init__(objective, optimizer, **options)
        self._steps.keeper = self  # as the optimizer keeps the steps, nobody else has to keep the monitor
        if self._finalizer is not None:
            self._finalizer.detach()  # it would close the record before the last step is read
        with self._reader.notifier.guarded("what is measured cannot be noted"):
            self._record.set_info("probe", description)
        end_at_exit(self, self._record)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.description})"

    def end(self, error: BaseException | None = None) -> None:
        """Close the monitor as the error says that ended training, or as finished."""
        self._close("finished", error)

    def _close(self, status: Status, error: BaseException | None = None) -> None:
        if not self._closed and error is None and status == "finished" and self._reader.progress.started:
            self._finished_readings()
        super()._close(status, error)
        self._steps.keeper = None
        has_ended(self._record)

    def _finished_readings(self) -> dict[str, Reading] | None:
        with self._reader.notifier.guarded("what is due where training ends cannot be measured"):
            return self.finish()
        return None

    def __del__(self) -> None:
        known = vars(self)
        if not known.get("_closed", True) and "_steps" in known and known.get("_process") == os.getpid():
            end_later(self)


@short_errors
def watch(
    model: nn.Module,
    optimizer: Optimizers,
    loss_fn: LossFunction,
    data: Any,
    *,
    every: int | Callable[[int], bool] | None = 100,
    samples: int = 256,
    seed: int = 0,
    **options: Any,
) -> WatchingMonitor:
    """Measure a training loop, with this line before it and nothing else to call; the :class:`Monitor` that does so.

    Steps are counted by hooks on the optimizer. A reading is taken before the step after it begins, and the last one
    where ``close()`` or ``finish()`` is called, a ``with`` block or Python ends. Training gives the same weights, bit
    for bit, as without this line.

    Args:
        model: the model that is trained; compiled and data-parallel wrappers are seen through.
        optimizer: its optimizer, or a list of those that step it.
        loss_fn: ``loss_fn(model, batch)``, the mean loss of a batch, or a criterion of torch such as
            ``F.cross_entropy`` or ``nn.MSELoss()`` for batches ``(inputs, targets)``.
        data: the training DataLoader, of which ``samples`` samples are drawn once, or the data of an
            :class:`Objective`: a batch, a list of batches, or any re-iterable, which are measured whole. A DataLoader
            is not iterated: its samples are fetched in this process, and its workers, sampler and all random
            generators are left as they are. ``monitor.description`` says what was drawn.
        every: as of :class:`Monitor`; ``budget=`` takes its place.
        samples: how many samples of a DataLoader are measured.
        seed: of their choice and of their augmentation.
        options: those of :class:`Monitor`, ``resume=True`` among them, and of :class:`Objective` (``mode=``,
            ``params=``, ``dtype=``, ``count=``, ``group=``). ``batch_size`` is that of the DataLoader by default; where
            gradients of several batches are accumulated, give the number of samples of a step.

    Raises :class:`InputError` for arguments that cannot be used. Cost: that of :class:`Objective` once, and the
    measures' own at each reading.
    """
    check_options("watch", options)
    if optimizer is None:
        raise InputError("the optimizer of watch is None", expected="a torch.optim.Optimizer, or a list of them")
    samples, seed = check_int("watch", "samples", samples, least=1), check_int("watch", "seed", seed, least=0)
    end_forgotten()
    described, data = "the data that were given", loader_of(data)
    if isinstance(data, DataLoader):
        probe = draw_probe(data, samples, seed=seed, group=options.get("group"))
        data, described = probe.batches, probe.description
        batch_size = probe.samples_of_a_step(options.get("group"))
        if batch_size is not None:
            options.setdefault("batch_size", batch_size)
    loss_fn = as_loss(loss_fn)
    objective = objective_of(model, loss_fn, data, options)
    return monitor_of(objective, optimizer, described, every, options)


def check_options(owner: str, options: Mapping[str, Any]) -> None:
    """Raise :class:`InputError` for a name that is no option of Monitor or Objective."""
    unknown = next((name for name in options if name not in OF_OBJECTIVE | OF_MONITOR), None)
    if unknown is not None:
        raise InputError(
            f"unknown option {unknown}= of {owner}",
            expected="an option of edgescope.Monitor or edgescope.Objective",
            hint=suggestion(unknown, sorted(OF_OBJECTIVE | OF_MONITOR)),
        )


def objective_of(model: nn.Module, loss_fn: LossFunction, data: Any, options: Mapping[str, Any]) -> Objective:
    """The objective of a model with those of the ``options`` that are its own."""
    return Objective(model, loss_fn, data, **{k: v for k, v in options.items() if k in OF_OBJECTIVE})


def monitor_of(
    objective: Objective,
    optimizer: Optimizers,
    described: str,
    every: int | Callable[[int], bool] | None,
    options: Mapping[str, Any],
) -> WatchingMonitor:
    """The monitor of an objective with those of the ``options`` that are its own; ``described``: its data, in words."""
    kept = {k: v for k, v in options.items() if k in OF_MONITOR}
    if options.get("budget") is not None:
        every = None
    return WatchingMonitor(objective, optimizer, _in_words(objective, described), every=every, **kept)


def _in_words(objective: Objective, described: str) -> str:
    kind = str(objective.dtype).removeprefix("torch.")
    return f"{objective.size:,} parameters in {kind}, mode {objective.mode}, on {described}"
