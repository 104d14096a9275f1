"""Carrying out a training run: step by step, measured, with checkpoints from which it continues bit for bit."""

from __future__ import annotations

import contextlib
import math
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from edgescope.errors import InputError, RecordError
from edgescope.monitor import Monitor
from edgescope.optim import SAM, GradientFlow
from edgescope.store import (
    Checkpoint,
    Record,
    latest_checkpoint,
    pack_state,
    rng_state,
    save_checkpoint,
    set_rng_state,
    unpack_state,
)
from edgescope.store.record import FILE, Status
from edgescope.training.config import RunConfig
from edgescope.training.gradients import FromBatches, FromObjective, Gradients
from edgescope.training.parts import Parts

DIVERGED: Final = 1e4
"""A run whose training loss exceeds this many times the first one has diverged, finite or not."""

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class RunResult:
    """How a run ended ("finished", "diverged" or "interrupted"), after how many optimizer steps and seconds in all."""

    status: Status
    steps: int
    folder: Path
    seconds: float


def train(
    config: RunConfig, folder: str | PathLike[str], progress: Progress | None = None, resume: bool = False
) -> RunResult:
    """Carry out the run that ``config`` describes, its record and checkpoints in ``folder``.

    With ``resume`` a run that was killed or interrupted continues from its newest whole checkpoint (from the start if
    there is none) to the same record, bit for bit, as an undisturbed one, except where ``config.budget`` decides by
    measured times; one that has ended is left alone. ``progress`` is called after every step with the share of steps
    done and a few words.

    A reading at step t describes the parameters after t steps. The run ends after ``config.steps``, at a measurement
    that meets a stop condition (event "stopped"), or when it diverges: the training loss is not finite or more than
    10,000 times the first one (event and status "diverged"; not an error). Ctrl-C ends it after the step under way with
    a checkpoint and status "interrupted"; a second one ends it at once, with the last checkpoint. Threads, and the
    random generators, are given back as they were.

    Raises :class:`InputError` where the parts of the configuration do not fit together, or ``resume`` finds a record of
    another configuration, and :class:`RecordError` for a folder that is taken or cannot be written.
    """
    folder = Path(folder)
    parts = Parts(config)  # first of all: what does not fit together leaves no folder behind
    before = torch.get_num_threads(), rng_state()
    continued = resume and (folder / FILE).exists()
    with Record.open(folder) if continued else Record.create(folder, config=config.as_dict()) as record:
        if continued:
            _refuse_other(config, record)
        if record.status in ("finished", "diverged"):
            info = record.info
            return RunResult(record.status, info["steps"], folder, info["seconds"])
        try:
            run = _Run(parts, record, latest_checkpoint(folder) if continued else None)
            if continued:
                record.note(run.monitor.steps, "resumed", f"continued from step {run.monitor.steps}")
                record.set_status("running")
            return run.carry_out(progress or (lambda share, words: None))
        except BaseException as error:
            with contextlib.suppress(RecordError):
                record.set_status("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
            raise
        finally:
            torch.set_num_threads(before[0])
            set_rng_state(before[1])


class _Run:
    def __init__(self, parts: Parts, record: Record, checkpoint: Checkpoint | None) -> None:
        self.config, self.record = parts.config, record
        self.model, self.optimizer = parts.model, parts.optimizer
        self.started = time.perf_counter()
        self.seconds_before = 0.0
        self.first_loss: float | None = None
        config = self.config
        how = self._path_and_threads(parts)
        self.objective = parts.objective(parts.samples, parts.mode, **how)
        self.gradients: Gradients = (
            FromObjective(self.objective)
            if parts.from_objective
            else FromBatches(parts.model, parts.loss_fn, parts.samples, config.batch, config.seed)
        )
        self.monitor = Monitor(
            self.objective,
            self.optimizer,
            every=config.every,
            budget=config.budget,
            measures=config.measures,
            evaluations=parts.evaluations(**how),
            record=record,
            release=False,  # the next gradient is the training step's, at the same parameters
        )
        if isinstance(self.optimizer, GradientFlow):
            self.optimizer.sharpness = lambda: self.monitor.value("sharpness", "1")
        _seed_everything(config.seed)
        if checkpoint is not None:
            self._load(checkpoint)

    def carry_out(self, progress: Progress) -> RunResult:
        monitor, config = self.monitor, self.config
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
                    monitor.step()
                    progress(monitor.steps / config.steps, self._words(loss))
                    if monitor.steps % config.checkpoint_every == 0:
                        self._save()
            if status == "finished":
                monitor.finish(everything=stopped)
            return self._end(status)

    def _step(self) -> float | None:
        """One optimizer step: the training loss before it, or None (and no step) where the run has diverged."""
        step = self.monitor.steps

        def closure() -> torch.Tensor:
            return self.gradients.compute(step)

        loss = float(closure())
        self.first_loss = loss if self.first_loss is None else self.first_loss
        if self._diverges(loss):
            return None
        if isinstance(self.optimizer, GradientFlow):
            self.optimizer.step(closure)
        else:
            if isinstance(self.optimizer, SAM):
                self.optimizer.first_step()
                closure()
            self.optimizer.step()
        return loss

    def _diverges(self, loss: float) -> bool:
        """Whether this training loss is too much beside the first one; recorded if so."""
        if self.first_loss is None or (math.isfinite(loss) and loss <= DIVERGED * abs(self.first_loss)):
            return False
        words = f"the training loss is {loss:.4g}, at the start it was {self.first_loss:.4g}"
        self.record.note(self.monitor.steps, "diverged", words)
        return True

    def _ends_diverged(self) -> bool:
        """Whether the last step of all led away, which no further step would tell; known of the full batch alone."""
        return isinstance(self.gradients, FromObjective) and self._diverges(self.gradients.loss())

    def _words(self, loss: float) -> str:
        words = f"step {self.monitor.steps}, loss {loss:.4g}"
        ratio = self.monitor.value("ratio")
        return words if ratio is None else f"{words}, sharpness / threshold {ratio:.3f}"

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
        if status != "diverged":
            self._save()
        if status == "interrupted":
            self.record.note(steps, "interrupted", f"interrupted at step {steps}")
        self.record.set_info("steps", steps)
        self.record.set_info("seconds", seconds)
        self.record.set_status(status)
        self.monitor.close()
        return RunResult(status, steps, self.record.folder, seconds)

    def _seconds(self) -> float:
        return self.seconds_before + time.perf_counter() - self.started

    def _path_and_threads(self, parts: Parts) -> dict[str, Any]:
        """How products are computed: as configured, as at the first start, or as timed now; kept in the record."""
        how: dict[str, Any] = {"path": self.config.path, "threads": self.config.threads}
        how |= self.record.info.get("plan", {})
        if None in how.values():
            timed = {name: value or "auto" for name, value in how.items()}
            plan = parts.objective(parts.samples, parts.mode, **timed).plan()
            how = {"path": plan.path, "threads": plan.threads}
        self.record.set_info("plan", how)
        torch.set_num_threads(how["threads"])
        return how

    def _save(self) -> None:
        # A resumed run has no gradient worked out yet, so that an undisturbed one must not go on with one either.
        self.objective.release()
        tensors: dict[str, torch.Tensor] = {}
        meta: dict[str, Any] = {}
        for name, state in {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "monitor": self.monitor.state(),
            "rng": rng_state(),
            "run": {"first_loss": self.first_loss, "seconds": self._seconds()},
        }.items():
            packed, structure = pack_state(name, state)
            tensors |= packed
            meta |= structure
        save_checkpoint(self.record.folder, self.monitor.steps, tensors, meta)

    def _load(self, checkpoint: Checkpoint) -> None:
        def state(name: str) -> Any:
            return unpack_state(name, checkpoint.tensors, checkpoint.meta)

        self.model.load_state_dict(state("model"))
        self.optimizer.load_state_dict(state("optimizer"))
        self.monitor.load_state(state("monitor"))
        self.first_loss, self.seconds_before = state("run")["first_loss"], state("run")["seconds"]
        set_rng_state(state("rng"))


def _refuse_other(config: RunConfig, record: Record) -> None:
    """A record of another configuration cannot be continued by this one."""
    then, now = record.config, config.as_dict()
    for name in {**now, **then}:
        if then.get(name) != now.get(name):
            raise InputError(
                f"the run in {record.folder} has {name} = {then.get(name)}, not {now.get(name)}",
                expected="the configuration it was started with",
                hint="another folder",
            )


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
