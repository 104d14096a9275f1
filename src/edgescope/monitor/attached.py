"""What the callbacks of training frameworks share: a monitor that begins when training does."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
import torch.distributed as distributed
from torch import nn
from torch.utils.data import DataLoader

from edgescope.errors import EdgescopeError, EdgescopeWarning, InputError, MissingExtraError, one_of
from edgescope.faq import see
from edgescope.measures import Reading
from edgescope.measures.arguments import kind_of
from edgescope.monitor.ending import end_forgotten
from edgescope.monitor.monitor import Monitor
from edgescope.monitor.probe import draw_probe, loader_of
from edgescope.monitor.regimes import REGIME_KINDS, EarlyStopping
from edgescope.monitor.spikes import KINDS
from edgescope.monitor.trackers import Log, Tracker
from edgescope.monitor.watch import LossFunction, WatchingMonitor, check_options, monitor_of, objective_of
from edgescope.objective import Objective
from edgescope.objective.batches import Count
from edgescope.objective.checks import as_loss
from edgescope.options import check_int
from edgescope.short_errors import short_errors
from edgescope.user_code import describe_exception

Watch = Callable[[nn.Module], Objective]

OF_TRAINER: Final = "trainer"
"""As ``log=``: the trackers that the trainer itself logs to."""


@dataclass(frozen=True)
class Training:
    """What a framework trains: the ``model``, its ``optimizers``, and how many ``steps`` all of them have taken.

    ``loss_fn`` is the framework's own loss of a batch, ``loader`` its training data, ``prepare`` what it does to a
    batch before the loss, and ``count`` the weight of a batch where the loss does not show it. ``accumulate`` is the
    number of batches of a step on this process, and ``tracker`` where the framework logs.
    """

    model: nn.Module
    optimizers: Sequence[torch.optim.Optimizer]
    steps: int
    loss_fn: LossFunction
    loader: Any
    prepare: Callable[[Any], Any]
    accumulate: int
    tracker: Tracker
    count: Count | None = None


class Attached:
    """Makes the monitor of a training run once its model and optimizers are there, and calls it after steps.

    A framework reports after every batch how many optimizer steps it has taken; with accumulated gradients that is not
    one a batch. Steps themselves are counted by the monitor. Where the framework has taken some before training starts,
    it continues a run, and so does the monitor: from the state that a checkpoint has of it, else from that number.
    """

    def __init__(
        self,
        watch: Watch | None,
        *,
        every: int | Callable[[int], bool] | None,
        data: Any,
        loss_fn: LossFunction | None,
        samples: int,
        seed: int,
        log: Log | Literal["trainer"] | None,
        stop_on: str | None,
        options: dict[str, Any],
    ) -> None:
        owner = "EdgescopeCallback"
        check_options(owner, options)
        if watch is not None and not callable(watch):
            raise InputError(f"watch= is {kind_of(watch)}", expected="a function of the model, or none at all")
        if watch is not None and (data is not None or loss_fn is not None):
            raise InputError("both watch= and data= or loss_fn=", expected="watch=, or data= and loss_fn=")
        self.watch, self.every, self.data, self.loss_fn = watch, every, data, loss_fn
        self.samples = check_int(owner, "samples", samples, least=1)
        self.seed = check_int(owner, "seed", seed, least=0)
        self.log, self.options = log, options
        self.stopping = EarlyStopping()
        self._callbacks: list[tuple[str, Callable[[Any], object]]] = []
        self.monitor: WatchingMonitor | None = None
        self.refusal: str | None = None
        if stop_on is not None:
            self.on(stop_on, self.stopping)
        self._ended = True
        self._batches: list[Any] = []  # of the step under way
        self._steps = 0
        self._warned: set[str] = set()
        self._state: dict[str, Any] = {}

    def on(self, kind: str, callback: Callable[[Any], object]) -> None:
        """As :meth:`Monitor.on`, also before training starts."""
        one_of(kind, (*REGIME_KINDS, *KINDS), "kind of event")
        self._callbacks.append((kind, callback))
        if self.monitor is not None:
            self.monitor.on(kind, callback)

    def begin(self, training: Training) -> None:
        """Training starts, or continues.

        What is refused of the model, its loss or its data becomes one warning, and training goes on without a monitor,
        unless ``on_error`` is "raise". A record that cannot be opened is refused before training starts.
        """
        end_forgotten()
        again = self.monitor is not None and not self._ended
        if again:  # the framework has given up, and starts anew with smaller batches
            self.end("failed")
        self._steps = training.steps
        self.monitor = self.refusal = None
        found = self._objective(training)
        if found is None:
            return
        objective, described, batch_size = found
        before = training.steps // max(1, len(training.optimizers))
        options = dict(self.options)
        if before or self._state or again:
            options["resume"] = before
        if batch_size is not None:
            options.setdefault("batch_size", batch_size)
        options["log"] = training.tracker if self.log == OF_TRAINER else self.log
        self.monitor = monitor_of(objective, list(training.optimizers), described, self.every, options)
        self._ended = False
        if self._state:
            self._load(self._state)
            self._state = {}
        for kind, callback in self._callbacks:
            self.monitor.on(kind, callback)

    def advanced_to(self, steps: int, batch: Any = None) -> dict[str, Reading]:
        """Call the monitor if the framework has taken an optimizer step since the last batch: the new readings.

        ``batch`` is the last one, where the framework tells and it is one of the measured loss.
        """
        if self.monitor is None or self._ended:
            return {}
        if batch is not None and self.watch is None and self.data is None:
            self._batches.append(batch)
        if steps <= self._steps:
            return {}
        self._steps, batches, self._batches = steps, self._batches, []
        return self.monitor.step(batch=batches[0] if len(batches) == 1 else batches or None) or {}

    def end(self, status: Literal["finished", "failed"] = "finished", error: BaseException | None = None) -> None:
        """Training has ended, by an ``error`` if there is one."""
        if self.monitor is not None and not self._ended:
            with self.guarded("the run cannot be closed"):
                if status == "failed" and error is None:
                    self.monitor.close(status)
                else:
                    self.monitor.end(error)
        self._ended = True

    def verdict(self) -> str | None:
        """The verdict on the run as a line for the framework's log; None where there is none, or nothing is logged."""
        if self.monitor is None or self.log is None:
            return None
        with self.guarded("the run cannot be judged"), contextlib.suppress(MissingExtraError):
            return str(self.monitor.verdict())
        return None

    def state_dict(self) -> dict[str, Any]:
        """The state of the monitor, for a checkpoint; empty before training, or where it cannot be had."""
        if self.monitor is None:
            return self._state
        try:
            return self.monitor.state_dict()
        except EdgescopeError as error:  # a checkpoint of the user's is worth more than this state
            self.warn(f"the state of the monitor is not in the checkpoint: {error}")
            return {}

    @contextlib.contextmanager
    def guarded(self, what: str) -> Iterator[None]:
        """What goes wrong inside is one warning, and never ends training; with ``on_error`` "raise" it is raised."""
        try:
            yield
        except Exception as error:
            if self.options.get("on_error") == "raise" or isinstance(error, EdgescopeWarning):
                raise
            self.warn(f"{what} ({describe_exception(error)})")

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from this state when training starts; at once where it has."""
        if self.monitor is not None and not self._ended and state:
            self._load(state)
        else:
            self._state = dict(state)

    def _load(self, state: dict[str, Any]) -> None:
        assert self.monitor is not None
        try:
            self.monitor.load_state_dict(state)
        except EdgescopeError as error:
            self.warn(f"the state of the monitor in the checkpoint cannot be used, so it starts without one: {error}")

    def _objective(self, training: Training) -> tuple[Objective, str, int | None] | None:
        """The objective, its data in words, and the samples of a step where these are fewer; None where refused."""
        if self.watch is not None:
            return self.watch(training.model), "the data of the given objective", None
        try:
            return self._own_objective(training)
        except Exception as error:
            if self.options.get("on_error") == "raise":
                raise
            text = str(error) if isinstance(error, EdgescopeError) else describe_exception(error)
            self.refusal = f"nothing is measured of this training: {text}"
            self.warn(self.refusal)
            return None

    def _own_objective(self, training: Training) -> tuple[Objective, str, int | None]:
        options = {"group": group_of_all(), "count": training.count if self.loss_fn is None else None} | self.options
        group = options["group"]
        data = loader_of(training.loader if self.data is None else self.data)
        described, batch_size = "the data that were given", None
        if isinstance(data, DataLoader):
            probe = draw_probe(data, self.samples, seed=self.seed, group=group)
            data, described = [training.prepare(batch) for batch in probe.batches], probe.description
            batch_size = probe.samples_of_a_step(group, training.accumulate)
        elif self.data is None:
            raise InputError(
                f"the training data are a {type(data).__name__}",
                expected="a DataLoader",
                hint="data= with a batch, or a list of batches as the loss takes them",
            )
        loss_fn = training.loss_fn if self.loss_fn is None else self.loss_fn
        loss_fn = as_loss(loss_fn)
        return objective_of(training.model, loss_fn, data, options), described, batch_size

    def warn(self, text: str) -> None:
        """Give a warning, once for each text, which ends with the anchor of docs/faq.md that explains it."""
        if text in self._warned:
            return
        self._warned.add(text)
        warnings.warn(f"{text} {see('callbacks')}", EdgescopeWarning, stacklevel=2)


def group_of_all() -> distributed.ProcessGroup | None:
    """The group of all processes, where several train together."""
    if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
        return distributed.group.WORLD
    return None


@short_errors
class AttachedCallback:
    """What the callbacks of all frameworks have in common, beside the base class of the framework."""

    def __init__(
        self,
        watch: Watch | None = None,
        *,
        every: int | Callable[[int], bool] | None = 100,
        data: Any = None,
        loss_fn: LossFunction | None = None,
        samples: int = 256,
        seed: int = 0,
        log: Log | Literal["trainer"] | None = OF_TRAINER,
        stop_on: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self._attached = Attached(
            watch,
            every=every,
            data=data,
            loss_fn=loss_fn,
            samples=samples,
            seed=seed,
            log=log,
            stop_on=stop_on,
            options=options,
        )

    @property
    def monitor(self) -> Monitor | None:
        """The monitor, once training has started."""
        return self._attached.monitor

    @property
    def refusal(self) -> str | None:
        """Why nothing is measured of this training; None where it is, or before training starts."""
        return self._attached.refusal

    def on(self, kind: str, callback: Callable[[Any], object]) -> None:
        """As :meth:`Monitor.on`, also before training starts."""
        self._attached.on(kind, callback)
