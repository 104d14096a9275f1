"""One training run, with measurements and with checkpoints from which it continues bit for bit."""

from __future__ import annotations

import contextlib
import functools
import math
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from edgescope.errors import RecordError
from edgescope.extras import require
from edgescope.monitor import Forecast, Monitor
from edgescope.monitor.arguments import with_mini_batch_measure
from edgescope.notebooks import in_notebooks
from edgescope.optim import GradientFlow
from edgescope.options import check_bool, check_folder, check_function, checked, optional
from edgescope.progress import Progress, no_progress
from edgescope.store import (
    Checkpoint,
    Record,
    pack_state,
    rng_state,
    save_checkpoint,
    set_rng_state,
    unpack_state,
)
from edgescope.store.record import ENDED, FILE, Status
from edgescope.training.config import MEASURED, RunConfig, check_run
from edgescope.training.decay_schedules import DECAY_SCHEDULES
from edgescope.training.extension import asks_for_more, before_the_end, extend
from edgescope.training.gradients import FromBatches, FromObjective, Gradients
from edgescope.training.parts import Parts
from edgescope.training.schedules import SCHEDULES
from edgescope.training.stepping import take_step

DIVERGED: Final = 1e4
"""A run whose training loss exceeds this many times the first one has diverged, finite or not."""


MINI_BATCH_FIGURES: Final = (
    ("batch_sharpness", "ratio", "batch sharpness / plateau"),
    ("batch_ratio", "", "ratio on mini-batches"),
)
"""Measures and parts that say how near the edge a run on mini-batches is, and their words in a line of progress."""


@in_notebooks
@dataclass(frozen=True)
class RunResult:
    """How a run ended ("finished", "diverged" or "interrupted"), after how many optimizer steps and seconds in all."""

    status: Status
    steps: int
    folder: Path
    seconds: float


@checked(
    folder=check_folder,
    progress=optional(check_function),
    resume=check_bool,
    on_forecast=optional(check_function),
)
def train(
    config: RunConfig,
    folder: str | PathLike[str],
    progress: Progress | None = None,
    resume: bool = False,
    tags: Mapping[str, str] | None = None,
    on_forecast: Callable[[Forecast], object] | None = None,
) -> RunResult:
    """Train the run described by ``config``, with its record and checkpoints in ``folder``.

    With ``resume``, a killed or interrupted run continues from its newest undamaged checkpoint, or from the start if
    there is none. Its record is then equal, bit for bit, to that of an uninterrupted run, unless ``config.budget``
    schedules measurements by time, or ``config.device`` is another than before, which changes the rounding and is noted
    in the event "resumed". An ended run is left unchanged, except that it is extended if ``config`` has more
    steps than its record, and then equals a run with all steps from the start; a run that diverged or met a stop
    condition is not extended. ``progress`` is called after every step. ``tags`` are stored in a new record, as
    :attr:`edgescope.store.Record.tags`. ``on_forecast`` is told before step 0 what a reading is expected to take, which
    costs a gradient.

    A reading at step t describes the parameters after t steps. The run ends after ``config.steps``, when a stop
    condition is met (event "stopped"), or when it diverges: the training loss is not finite or more than 10,000 times
    the first one (event and status "diverged"; not an error). Ctrl-C ends it after the current step, with a checkpoint
    and the status "interrupted"; a second Ctrl-C ends it at once. The number of threads and the states of the random
    generators are restored at the end.

    Raises :class:`InputError` if the parts of the configuration do not fit together or ``resume`` finds a record of
    another configuration, and :class:`RecordError` for a folder that is in use or cannot be written.
    """
    require("tables", "training runs need", "polars")  # now, not when the run ends
    check_run(config)
    folder = Path(folder)
    parts = Parts(config)  # first, so that a configuration that is refused leaves no folder behind
    before = torch.get_num_threads(), rng_state()
    continued = resume and (folder / FILE).exists()
    new = functools.partial(Record.create, config=config.as_dict(), tags=tags)
    with Record.open(folder) if continued else new(folder) as record:
        more = continued and asks_for_more(config, record)
        if record.status in ENDED and not more:
            return _ended(record)
        try:
            record.claim()  # before reading the state to continue from
            checkpoint = record.latest_checkpoint() if continued else None
            if more:
                extend(config, record, checkpoint)
                if record.status in ENDED:
                    return _ended(record)
            run = _TrainingRun(parts, record, checkpoint)
            before_on, now_on = record.info.get("device"), str(run.objective.device)
            record.set_info("device", now_on)
            if continued:
                moved = f" on {now_on}, before on {before_on}" if before_on not in (None, now_on) else ""
                record.note(run.monitor.steps, "resumed", f"continued from step {run.monitor.steps}{moved}")
                record.set_status("running")
            return run.run(progress or no_progress, on_forecast)
        except BaseException as error:
            with contextlib.suppress(RecordError):
                record.end_by(error)
            raise
        finally:
            torch.set_num_threads(before[0])
            set_rng_state(before[1])


class _TrainingRun:
    def __init__(self, parts: Parts, record: Record, checkpoint: Checkpoint | None) -> None:
        self.config, self.record = parts.config, record
        self.model, self.optimizers = parts.model, parts.optimizers
        self.started = time.perf_counter()
        self.seconds_before = 0.0
        self.schedulers = SCHEDULES.build(parts.config.schedule).attach(parts.optimizers, parts.config.steps)
        self.decay = DECAY_SCHEDULES.build(parts.config.decay_schedule)
        self.first_loss: float | None = None
        self._batch: Any = None
        config = self.config
        how = self._path_and_threads(parts)
        self.objective = parts.objective(parts.samples, parts.mode, **how)
        self.gradients: Gradients = (
            FromObjective(self.objective)
            if parts.from_objective
            else FromBatches(
                parts.model,
                parts.loss_fn,
                parts.samples,
                config.batch,
                config.seed,
                masks=not isinstance(parts.optimizer, GradientFlow),
            )
        )
        self.monitor = Monitor(
            self.objective,
            self.optimizers,
            every=config.every,
            budget=config.budget,
            measures=self._measures(),
            batch_size=config.batch,
            evaluations=parts.evaluations(**how),
            record=record,
            spikes=config.spikes,
            release=False,  # the next gradient is the training step's, at the same parameters
        )
        if isinstance(parts.optimizer, GradientFlow):
            parts.optimizer.sharpness = lambda: self.monitor.value("sharpness", "1")
        _seed_everything(config.seed)
        if checkpoint is not None:
            self._load(checkpoint)

    def _measures(self) -> Sequence[str]:
        """Those of the configuration; beside the usual ones, what says how near the edge is on mini-batches."""
        measures = tuple(self.config.measures)
        if measures != MEASURED:
            return measures
        return with_mini_batch_measure(measures, self.objective, self.optimizers, self.config.batch)

    def run(self, progress: Progress, on_forecast: Callable[[Forecast], object] | None) -> RunResult:
        monitor, config = self.monitor, self.config
        if on_forecast is not None and monitor.steps == 0:
            on_forecast(monitor.forecast())
        status: Status | None = None
        with _interruptions() as interrupted:
            monitor.start()
            stopped = False
            while status is None:
                if monitor.diverged:
                    status = "diverged"
                elif (stopped := self._stops()) or monitor.steps >= config.steps:
                    status = "diverged" if self._ends_diverged() else "finished"
                elif interrupted.is_set():
                    status = "interrupted"
                elif (loss := self._step()) is None:
                    status = "diverged"
                else:
                    monitor.step(self._batch, loss if config.spikes else None)
                    if self.record.fault is not None:  # a monitor goes on where it cannot write
                        raise self.record.fault
                    progress(monitor.steps / config.steps, self._words(loss))
                    if monitor.steps % config.checkpoint_every == 0:
                        self._save()
            if status == "finished":
                # With the state before what is measured at the end, so that the run can be extended.
                self._save(before_the_end(self.record, monitor.steps, monitor.taken))
                monitor.finish(everything=stopped)
            return self._end(status)

    def _step(self) -> float | None:
        """One optimizer step: the training loss before it, or None (and no step) where the run has diverged."""
        step = self.monitor.steps
        self._batch = None if self.config.batch is None else self.gradients.batch(step)

        def closure() -> torch.Tensor:
            return self.gradients.compute(step)

        loss = float(closure())
        self.first_loss = loss if self.first_loss is None else self.first_loss
        if self._diverges(loss):
            return None
        take_step(self.optimizers, closure, self.config.clip)
        for scheduler in self.schedulers:
            scheduler.step()
        self.decay.apply(self.optimizers, step + 1)
        return loss

    def _diverges(self, loss: float) -> bool:
        """Whether this training loss counts as divergence; recorded if so."""
        if self.first_loss is None or (math.isfinite(loss) and loss <= DIVERGED * abs(self.first_loss)):
            return False
        words = f"the training loss is {loss:.4g}, at the start it was {self.first_loss:.4g}"
        self.record.note(self.monitor.steps, "diverged", words)
        return True

    def _ends_diverged(self) -> bool:
        """Whether the loss after the last step counts as divergence; only known on the full batch."""
        return isinstance(self.gradients, FromObjective) and self._diverges(self.gradients.loss())

    def _words(self, loss: float) -> str:
        words, ratio = f"step {self.monitor.steps}, loss {loss:.4g}", self.monitor.value("ratio")
        words += "" if ratio is None else f", sharpness / threshold {ratio:.3f}"
        for measure, part, name in MINI_BATCH_FIGURES:
            found = self.monitor.value(measure, part)
            words += "" if found is None else f", {name} {found:.3f}"
        return words

    def _stops(self) -> bool:
        """Whether this step meets a stop condition; recorded if so."""
        for measure, limit, sign in (("loss", self.config.stop_loss, 1), ("accuracy", self.config.stop_accuracy, -1)):
            if limit is None:
                continue
            if measure == "loss" and isinstance(self.gradients, FromObjective):
                value: float | None = self.gradients.loss()
            else:
                value = self.monitor.value(measure, "train") if measure in self.monitor.taken else None
            if value is not None and sign * value <= sign * limit:
                self.record.note(self.monitor.steps, "stopped", f"training {measure} {value:.4g} has reached {limit:g}")
                return True
        return False

    def _end(self, status: Status) -> RunResult:
        steps, seconds = self.monitor.steps, self._seconds()
        if status == "interrupted":
            self._save()
            self.record.note(steps, "interrupted", f"interrupted at step {steps}")
        self.record.set_info("steps", steps)
        self.record.set_info("seconds", seconds)
        self.record.set_status(status)
        self.monitor.close()
        return RunResult(status, steps, self.record.folder, seconds)

    def _seconds(self) -> float:
        return self.seconds_before + time.perf_counter() - self.started

    def _path_and_threads(self, parts: Parts) -> dict[str, Any]:
        """Path and threads of products: as configured, as at the first start, or timed now; stored in the record."""
        how: dict[str, Any] = {"path": self.config.path, "threads": self.config.threads}
        how |= self.record.info.get("plan", {})
        if None in how.values():
            timed = {name: value or "auto" for name, value in how.items()}
            plan = parts.objective(parts.samples, parts.mode, **timed).plan()
            how = {"path": plan.path, "threads": plan.threads}
        self.record.set_info("plan", how)
        torch.set_num_threads(how["threads"])
        return how

    def _save(self, before_end: dict[str, Any] | None = None) -> None:
        # A resumed run has no gradient worked out yet, so that an undisturbed one must not go on with one either.
        self.objective.release()
        tensors: dict[str, torch.Tensor] = {}
        meta: dict[str, Any] = {}
        first, *others = [optimizer.state_dict() for optimizer in self.optimizers]
        for name, state in {
            "model": self.model.state_dict(),
            "optimizer": first,
            **({"other_optimizers": others} if others else {}),
            **({"schedulers": [one.state_dict() for one in self.schedulers]} if self.schedulers else {}),
            "monitor": self.monitor.state_dict(),
            "rng": rng_state(),
            "run": {"first_loss": self.first_loss, "seconds": self._seconds(), "before_end": before_end},
        }.items():
            packed, structure = pack_state(name, state)
            tensors |= packed
            meta |= structure
        save_checkpoint(self.record.folder, self.monitor.steps, tensors, meta)

    def _load(self, checkpoint: Checkpoint) -> None:
        def state(name: str) -> Any:
            return unpack_state(name, checkpoint.tensors, checkpoint.meta)

        self.model.load_state_dict(state("model"))
        kept = [state("optimizer"), *(state("other_optimizers") if len(self.optimizers) > 1 else [])]
        for optimizer, own in zip(self.optimizers, kept, strict=True):
            optimizer.load_state_dict(own)
        for scheduler, own in zip(self.schedulers, state("schedulers") if self.schedulers else [], strict=True):
            scheduler.load_state_dict(own)
        self.monitor.load_state_dict(state("monitor"))
        self.first_loss, self.seconds_before = state("run")["first_loss"], state("run")["seconds"]
        set_rng_state(state("rng"))


def _ended(record: Record) -> RunResult:
    """The result of a run that had ended before."""
    info = record.info
    return RunResult(record.status, info["steps"], record.folder, info["seconds"])


def _seed_everything(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (models of users may draw from it)


@contextlib.contextmanager
def _interruptions() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; the second raises KeyboardInterrupt."""
    asked = threading.Event()
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not usual or threading.current_thread() is not threading.main_thread():
        yield asked  # somebody else decides what Ctrl-C does
        return

    def note(*_: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    signal.signal(signal.SIGINT, note)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
