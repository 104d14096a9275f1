"""The monitor: what attaches to a training loop and takes measures on a schedule."""

from __future__ import annotations

import functools
import math
import os
import time
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import torch

from edgescope.errors import InputError, one_of
from edgescope.extras import installed
from edgescope.measures import Measure, Reading
from edgescope.measures.arguments import Optimizers, checked_evaluations, checked_objective, checked_optimizers
from edgescope.monitor.arguments import (
    checked_folder,
    checked_on_reading,
    checked_record,
    value_of,
    with_mini_batch_measure,
)
from edgescope.monitor.forecast import Forecast, forecast_reading
from edgescope.monitor.notebook import monitor_html, readable, report_folder, run_report
from edgescope.monitor.notifier import OnError
from edgescope.monitor.order import in_order
from edgescope.monitor.reader import OnReading, Reader
from edgescope.monitor.reasons import Verdict
from edgescope.monitor.regimes import REGIME_KINDS
from edgescope.monitor.resuming import Continuation, Resume, checked_resume, closed_by_errors, record_of_first
from edgescope.monitor.run_facts import RunFacts
from edgescope.monitor.schedule import Budget, Schedules, schedule_from
from edgescope.monitor.spikes import KINDS, SpikeOptions, checked_spikes
from edgescope.monitor.state import checked_state, plain_state
from edgescope.monitor.steps import StepListener
from edgescope.monitor.trackers import Log, tracker_from
from edgescope.monitor.verdict import judge
from edgescope.notices import Notices
from edgescope.objective import Objective
from edgescope.objective.processes import as_the_first, is_first
from edgescope.options import check_int
from edgescope.short_errors import short_errors
from edgescope.store import Record
from edgescope.store.record import Status

if TYPE_CHECKING:
    import polars as pl

DEFAULT_MEASURES: Final = ("loss", "gradient_norm", "sharpness", "effective_sharpness", "threshold", "ratio")


@short_errors
class Monitor:
    """Takes measures of a training run and keeps them in a record.

    Steps are counted by hooks on the optimizer. A reading at step t describes the parameters after t optimizer steps,
    and the optimizer as it then stands; step 0 is taken just before the first (at once without an ``optimizer``). It is
    taken when ``monitor.step()`` is called after the optimizer step, and before the next step at the latest, so that
    calling ``step()`` more often, earlier or not at all gives the same record. Training with a monitor gives the same
    weights, bit for bit, as training without.

    Args:
        objective: the loss whose curvature is measured; its data need not be those of the training loop.
        optimizer: the optimizer, or a list of those that step the same model, each with parameters of its own; wrappers
            of Accelerate, Lightning and Fabric are seen through. Threshold, learning rate and the start of each step
            are read from them. A step is over when each of several has stepped, or one steps again.
        every: measure at every so many steps (default 10), or at the steps for which a function is true.
        budget: instead of ``every``: the share of the time of the run that measurements take, such as 0.1. The first
            one, and the construction of objective and monitor, count, too. It comes as soon as it takes no more than
            1.2 times that share, by what :meth:`forecast` expects, so that there is no reading at step 0, and later
            ones wait until the share is kept again. Decided by measured times, so not reproducible bit for bit.
        measures: names, texts such as ``"sharpness:k=3"``, or :class:`Measure` objects; no two of the same name. By
            default loss, gradient norm, sharpness, threshold and their ratio, and where ``batch_size`` is less than
            what is measured, "batch_sharpness" (SGD) or "batch_ratio" (other optimizers, and batch normalization), as
            the ratio of all data does not tell of mini-batches. A text may end in a schedule of its own:
            ``"training_loss@1"`` at every step, ``"spectrum@1000"`` at every thousandth, ``"sharpness@end"`` where
            :meth:`finish` is called and nowhere else.
        evaluations: further objectives by name, such as ``{"test": objective}``.
        out: folder for the record; without it the record is kept in memory. Of several processes (``torchrun``) the
            first one writes it, that of the objective's group where it has one, and the others keep theirs in memory.
        record: a record to write to instead, which is left open.
        resume: continue an existing record. The step is that of :meth:`load_state_dict` where it was called
            before the first step; else it is found from parameters and optimizer (docs/attach.md), and the first
            step raises :class:`InputError` where they do not determine it. A number is that of the steps already taken,
            with or without a record; 0 begins anew. Later readings are removed when the first step is taken.
        config: what the new record keeps as the configuration of the run; one that is continued has to have the same.
        batch_size: how many samples a training step takes, where these are fewer than the objective's; otherwise that
            is known from ``step(batch=...)`` alone. The note of the ratio says so, and batch sharpness is of that size.
        release: free the objective's graphs after each measurement. False where training itself then computes the
            gradient of the objective at the same parameters.
        on_error: "warn" (default): an error in a measure becomes a note and one warning, and training continues; only
            KeyboardInterrupt is raised. "raise" raises it.
        on_reading: a function called as ``on_reading(step, readings)`` whenever readings were taken and are in the
            record, step 0 included; ``readings`` maps the name of each measure to its :class:`Reading`. An error in it
            is treated as one in a measure, so that it does not end training.
        log: where values are sent as they are taken: a function called as ``log(values, step)``, such as ``wandb.log``,
            or "csv", "tensorboard", "wandb" (offline), "mlflow", "trackio" (docs/attach.md). Keys are as
            ``edgescope/ratio``. Of several processes the first one does so. An error in it gives one warning.
        spikes: watch the norm of every step for warnings before a spike of the loss (:meth:`on`), which are events of
            the record; ``SpikeOptions`` has the cut-offs. Cost: a copy of the parameters and a norm at every step, a
            gradient and a product where a step is long, one loss a step after a warning unless the caller gives it.

    Where the parameters or the loss are no longer finite, an event "diverged" is recorded at that step, the status of
    the record is diverged, and no more curvature is measured; nothing is raised. Anything else that cannot be measured
    is a reading without values whose note says why. What a reader must know (an unknown optimizer, clipped gradients, a
    changed model, another function in training) is noticed once, as :class:`EdgescopeWarning` and as an event whose
    kind is one of ``edgescope.notices.KINDS``. Raises :class:`InputError` for arguments that cannot be used.
    """

    def __init__(
        self,
        objective: Objective,
        optimizer: Optimizers | None = None,
        *,
        every: int | Callable[[int], bool] | None = None,
        budget: float | None = None,
        measures: Iterable[str | Measure] = DEFAULT_MEASURES,
        evaluations: dict[str, Objective] | None = None,
        out: str | os.PathLike[str] | None = None,
        record: Record | None = None,
        resume: Resume = False,
        config: dict[str, Any] | None = None,
        batch_size: int | None = None,
        release: bool = True,
        on_error: OnError = "warn",
        on_reading: OnReading | None = None,
        log: Log | None = None,
        spikes: bool | SpikeOptions = False,
    ) -> None:
        began = time.perf_counter()
        if out is not None and record is not None:
            raise InputError("both out= and record= were given", expected="one of them")
        one_of(on_error, ("warn", "raise"), "on_error")
        checked_objective(objective, "a monitor")
        optimizers, evaluations = checked_optimizers(optimizer, "a monitor"), checked_evaluations(evaluations)
        folder = checked_folder(out)
        tracker = tracker_from(log, None if folder is None else Path(folder))
        watched = checked_spikes(spikes)
        resume = checked_resume(resume, out is not None or record is not None)
        self.schedule = schedule_from(every, budget)
        batch_size = None if batch_size is None else check_int("a monitor", "batch_size", batch_size, least=1)
        if measures is DEFAULT_MEASURES:
            measures = with_mini_batch_measure(DEFAULT_MEASURES, objective, optimizers, batch_size)
        self.measures, self._own = in_order(measures)
        self._closed, self._owned = False, record is None
        self._last_facts: RunFacts | None = None  # of a closed record
        if record is None:
            record = record_of_first(folder, config, resume, objective.group)
        self._record = checked_record(record)
        with closed_by_errors(record if self._owned else None):
            self._reader = Reader(
                objective,
                optimizers,
                self.measures,
                evaluations,
                self._record,
                release=release,
                on_error=on_error,
                on_reading=checked_on_reading(on_reading),
                tracker=tracker if is_first(objective.group) else None,
                batch_size=batch_size,
            )
            self._continuation = Continuation(resume, self._record, self._reader)
            if watched is not None:
                self._reader.watch(watched)
            self._reader.check_at_the_start()
        schedules = Schedules(tuple(measure.name for measure in self.measures), self.schedule, self._own)
        self._steps = StepListener(self._reader, schedules, self._continuation)
        if isinstance(self.schedule, Budget):
            self.schedule.expect = functools.partial(self._expected_seconds, self.schedule)
            if objective.group is not None:
                self.schedule.agree = lambda due: bool(as_the_first(lambda: due, objective.group))
            self.schedule.spent(time.perf_counter() - began + objective.meter.take_construction())
        # The steps live as long as the optimizers do, and write to the record as long.
        self._finalizer = weakref.finalize(self._steps, record.close) if self._owned else None
        if not optimizers and resume is False:
            self.start()

    # -------------------------------------------------------------------------------------------------- what is known

    @property
    def objective(self) -> Objective:
        """The objective whose curvature is measured."""
        return self._reader.objective

    @property
    def optimizers(self) -> list[torch.optim.Optimizer]:
        """The optimizers that are followed now."""
        return self._reader.optimizers

    @property
    def evaluations(self) -> dict[str, Objective]:
        """Further objectives by name."""
        return self._reader.evaluations

    @property
    def notices(self) -> Notices:
        """The notices that were given so far: what a reader of the figures must know."""
        return self._reader.notifier.notices

    @property
    def diverged(self) -> bool:
        """Whether parameters or loss were not finite at a reading."""
        return self._reader.progress.diverged

    @property
    def taken(self) -> list[str]:
        """The measures that were taken at the last step that is over."""
        return self._reader.progress.taken

    @property
    def steps(self) -> int:
        """How many optimizer steps have been taken, including those before the record was continued."""
        self._continuation.find_place()
        return self._steps.count

    @property
    def record(self) -> Record:
        """The record, including the reading of the last step."""
        self._steps.settle()
        return self._record

    @property
    def latest(self) -> dict[str, Reading]:
        """The last reading of each measure by its name."""
        self._steps.settle()
        return self._reader.progress.latest

    def value(self, measure: str, part: str | None = None) -> float | None:
        """The last value of a measure's part, by default its only or first one; None where there is none."""
        return value_of(self.latest, [each.name for each in self.measures], measure, part)

    def table(self) -> pl.DataFrame:
        """All readings so far, one row a step, measure and part: :meth:`Record.table`."""
        return self.record.table() if self._last_facts is None else self._last_facts.table

    def verdict(self) -> Verdict:
        """What regime the run is in, by the readings so far, with the figures that say so: :class:`Verdict`. No cost.

        Of several optimizers it is that of all together. Also on a closed monitor.
        """
        return judge(self._facts() if self._last_facts is None else self._last_facts)

    def plot(self, *measures: str) -> Any:
        """The run so far in figures, which a notebook shows as still pictures, without a network; ``.save(folder)``.

        Loss, eigenvalues with their threshold, and ratio, or these ``measures``. Needs the extra ``figures``.
        """
        with readable(self._record if self._closed else self.record) as record:
            return run_report().plot_run(record, *measures)

    def report(self, out: str | os.PathLike[str] | None = None) -> Path:
        """Write the report of the run so far, as ``edgescope report`` does, and give its path.

        By default into the folder of the record; one in memory needs ``out``. Needs the extra ``figures``.
        """
        with readable(self._record if self._closed else self.record) as record:
            return run_report().report_record(record, report_folder(record, out))

    def _repr_html_(self) -> str:
        return monitor_html(self.steps, self.latest, self.verdict() if installed("polars") else None)

    def _facts(self) -> RunFacts:
        record = self.record
        return RunFacts(record.table(), record.events(), record.info, record.status)

    def forecast(self) -> Forecast:
        """What a reading of the measures on the usual schedule is expected to take.

        Cost: a loss and two gradients, or one that takes longer than a second.
        """
        usual = [measure for measure in self.measures if measure.name not in self._own]
        return forecast_reading(self.objective, usual, prepared=self.objective.spent.products > 0)

    def _expected_seconds(self, budget: Budget) -> tuple[float, float]:
        """Of the first reading, and of one along the run; 0 where that cannot be told, so that the error shows."""
        with self._reader.notifier.guarded("what a reading takes cannot be forecast"):
            expected = self.forecast()
            wait = budget.training_before(expected.first_seconds)
            text = f"{expected}; budget= allows that after {wait:.2g} s of training"
            self._reader.notifier.notify("budget", text, faq="budget", cause="forecast", warn=False)
            return expected.first_seconds, expected.seconds
        return 0.0, math.inf

    # ---------------------------------------------------------------------------------------------------- the training

    def start(self) -> dict[str, Reading] | None:
        """Measure step 0 now; the optimizer's first step does so where this was not called before.

        Of a run that is continued, the step at which it continues, unless the record has a reading of that already.
        """
        return None if self._closed else self._steps.start()

    def step(self, batch: Any = None, loss: float | torch.Tensor | None = None) -> dict[str, Reading] | None:
        """To be called after the optimizer's step: the readings by name where there are new ones, else None.

        Without an optimizer every call counts as a step. Where several step in turns, the call after the step is over
        returns the readings. ``batch`` is the data that this step was taken on, as the objective's loss function takes
        them (a list of batches where their gradients were added up): measures such as ``headroom`` then have parts for
        it. It is only looked at where such a measure is due, and not kept. ``loss`` is the training loss that the step
        was taken on: a run that is watched for spikes then sees each of them, without measuring the loss itself.
        """
        return None if self._closed else self._steps.called(batch, loss)

    def on(self, kind: str, callback: Callable[[Any], object]) -> None:
        """Call ``callback(event)`` with each event of a kind: "edge", "diverging", "warning" or "spike".

        "edge": the verdict is for the first time that the run is at the edge of stability or beyond it; "diverging":
        that it diverges, or loss or parameters are not finite. The :class:`RegimeEvent` has ``kind step verdict``.
        Cost: a verdict at each reading, which needs polars.

        "warning": a step was long (beyond 1.5 times the median of the 100 before it), and the curvature along the
        preconditioned gradient is above the stability threshold; "spike": the training loss has jumped. The
        :class:`SpikeEvent` has ``kind step value threshold block curvature``. Each step is watched for these.

        Each is an event of the record too. An error in the function is treated as one in a measure, so that it does not
        end training. Raises :class:`InputError` for another kind.
        """
        one_of(kind, (*REGIME_KINDS, *KINDS), "kind of event")
        if kind in REGIME_KINDS:
            self._reader.watch_regimes().on(kind, callback)
        else:
            self._reader.watch(SpikeOptions()).on(kind, callback)

    def finish(self, everything: bool = False) -> dict[str, Reading] | None:
        """Measure where training has ended what is scheduled ``@end``, or everything; not twice at the same step."""
        return None if self._closed else self._steps.finish(everything)

    def close(self, status: Status = "finished") -> None:
        """Stop following the optimizer, and close the record where the monitor opened it; :meth:`table` still answers.

        ``status`` is what the record says of a run that has not diverged.
        """
        self._close(status)

    def _close(self, status: Status, error: BaseException | None = None) -> None:
        if self._closed:
            return
        self._steps.end()
        if isinstance(self.schedule, Budget) and self._steps.count and not self._reader.progress.latest:
            text = f"training ended before budget={self.schedule.share:g} had allowed one reading; try a larger one,"
            text += " every=, or monitor.finish(everything=True) before closing"
            self._reader.notifier.notify("budget", text, faq="budget", cause="no reading")
        self._closed = True
        self._reader.close_tracker()
        if self._owned or self._continuation.reopened:
            with self._reader.notifier.guarded("the record cannot be closed"):
                self._reader.stopwatch.add_to(self._record)
                if not self._continuation.untouched and self._record.status == "running":
                    self._continuation.note_digest(final=True)
                    self._record.end_by(error) if error is not None else self._record.set_status(status)
                self._last_facts = self._facts() if installed("polars") else None
        if self._owned and self._record.folder == Path(":memory:"):
            weakref.finalize(self, self._record.close)  # until then it can be drawn
        elif self._owned:
            self._record.close()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close("finished", error)

    def state_dict(self) -> dict[str, Any]:
        """All that readings depend on, for a checkpoint of the caller: eigenvectors of the last steps, counts, notices.

        Nested dicts and lists of tensors, numbers and text, which ``torch.load(weights_only=True)`` reads. To be called
        between two steps, when all of several optimizers have taken theirs; also on a closed monitor.
        """
        if not self._closed:
            self._continuation.find_place()
            self._steps.settle(force=True)
        return plain_state(self._reader.state() | self._steps.state())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue at the step at which a monitor with the same measures gave this state, bit for bit.

        What the record has of later steps is removed when the next step is taken. May be called at any time, to go back
        within a run too. Raises :class:`InputError` for a state of other measures or of another number of parameters.
        """
        self._reader.load_state(checked_state(state_dict, self.measures, self.objective.size))
        self._steps.load_state(state_dict)
        self._continuation.loaded()

    state, load_state = state_dict, load_state_dict
