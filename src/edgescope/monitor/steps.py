"""The steps of a run as its optimizers report them: when one is over, its measures are taken if they are due."""

from __future__ import annotations

import time
from typing import Any

import torch

from edgescope.measures import Reading
from edgescope.measures.rules import measured_of, replaced_by
from edgescope.monitor import checks
from edgescope.monitor.pending import PendingStep
from edgescope.monitor.reader import Reader
from edgescope.monitor.resuming import Continuation
from edgescope.monitor.schedule import Schedules
from edgescope.monitor.step_hooks import StepHooks


class StepListener:
    """The listener of :class:`StepHooks`: has each step that is over read by ``reader``, where a measure is due.

    ``pending`` is the step under way. A step of several optimizers is over when each has stepped, or one steps again;
    it is read when the caller asks (:meth:`settle`), and before the next one begins at the latest.
    """

    def __init__(self, reader: Reader, schedules: Schedules, continuation: Continuation) -> None:
        self.reader, self.schedules, self.continuation = reader, schedules, continuation
        self.pending: PendingStep | None = None
        self._readings: dict[str, Reading] | None = None  # those that the caller has not been given yet
        self._calls = self._others_before = 0  # of the caller since the last step, and steps of others until it
        self.keeper: object = None  # what lives as long as the steps do, and so as long as an optimizer
        self._order: list[torch.optim.Optimizer] = []  # that in which optimizers have first stepped
        self.hooks = StepHooks(reader.optimizers, self, self._holds) if reader.optimizers else None

    @property
    def count(self) -> int:
        """How many steps have been taken, the one under way included once an optimizer has stepped."""
        return self.reader.progress.step + int(self.pending is not None and bool(self.pending.stepped))

    # ------------------------------------------------------------------------------------------------- by the caller

    def start(self) -> dict[str, Reading] | None:
        """Read step 0, or the one where the run is continued, unless that was done before."""
        self.continuation.begin()
        if self.reader.progress.started:
            return None
        return self._start(PendingStep(self._due_at(self.reader.progress.step)))

    def called(self, batch: Any = None, loss: Any = None) -> dict[str, Reading] | None:
        """The caller's ``monitor.step()``: the new readings, if there are any. A step where nobody else reports one.

        ``batch`` is what the step was taken on, ``loss`` its loss there.
        """
        if not self.reader.optimizers:
            self.start()
            self.pending = PendingStep(self._due_at(self.reader.progress.step + 1), batch=batch, loss=loss)
            self.settle(force=True)
        else:
            self._calls = 0 if self.pending is not None and self.pending.stepped else self._calls + 1
            self._check_missing_steps()
            if self.pending is not None and self.pending.stepped:
                self.pending.batch = self.pending.batch if batch is None else batch
                self.pending.loss = self.pending.loss if loss is None else loss
            self.settle()
        found, self._readings = self._readings, None
        return found

    def settle(self, force: bool = False) -> None:
        """Let the step that was taken be over, and read it; ``force``: also where some optimizer has not stepped."""
        pending, optimizers = self.pending, self.reader.optimizers
        if pending is None or not (force or len(pending.stepped) >= len(optimizers)):
            return
        if optimizers and not pending.stepped:
            return
        self.pending = None
        self.reader.progress.step += 1
        self.reader.progress.taken = []
        self.reader.follow(pending)
        if pending.due:
            self._readings = self._read(pending)

    def finish(self, everything: bool) -> dict[str, Reading] | None:
        """Read what is due where training ends, or ``everything``, and was not read at this step before."""
        self.continuation.begin()
        self.settle(force=True)
        due = set(self.schedules.names) if everything else self.schedules.at_end()
        due -= set(self.reader.progress.taken)
        return self._read(PendingStep(due)) if due else None

    def end(self) -> None:
        """The last step is over, and none is listened to any more."""
        self.settle(force=True)
        self._check_missing_steps(at_the_end=True)
        if self.hooks is not None:
            self.hooks.remove()

    def state(self) -> dict[str, Any]:
        """The order in which the optimizers step, by their numbers."""
        numbers = [i for one in self._order for i, other in enumerate(self.reader.optimizers) if one is other]
        return {"order": numbers}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from a state that :meth:`state` gave; the step under way is dropped."""
        optimizers = self.reader.optimizers
        self._order = [optimizers[i] for i in state.get("order", []) if i < len(optimizers)]
        self.pending = self._readings = None

    # -------------------------------------------------------------------------------------------------- by the hooks

    def before_step(self, optimizer: torch.optim.Optimizer, ready: bool) -> None:
        """A step of one of the optimizers begins; ``ready``: its gradient is there."""
        self.continuation.begin()
        if not self.reader.progress.started:
            first = PendingStep(self._due_at(self.reader.progress.step))
            self.reader.begin_part(first, optimizer, ready)
            self._start(first)
        pending = self._begin(optimizer)
        self.reader.begin_part(pending, optimizer, ready)

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        """A step of one of the optimizers is done."""
        if self.pending is not None:
            self._calls = 0
            self._others_before = 0 if self.hooks is None else self.hooks.others_stepped
            self.pending.stepped.append(optimizer)
            if not any(optimizer is one for one in self._order):
                self._order.append(optimizer)
            self.reader.end_part(self.pending, optimizer)

    def before_other(self, optimizer: torch.optim.Optimizer) -> None:
        """An optimizer that is not followed begins a step of parameters of the objective."""
        self.start()
        if self._order and not replaced_by(optimizer, self.reader.optimizers, self.reader.objective):
            return  # it takes turns with those that are followed, and its first step belongs to their last
        self.settle(force=True)
        self._begin()

    def after_other(self, optimizer: torch.optim.Optimizer) -> None:
        """Follow it from now on: in place of those that hold the same parameters, or with the others."""
        optimizers = self.reader.optimizers
        replaced = replaced_by(optimizer, optimizers, self.reader.objective)
        in_turn = bool(self._order) and not replaced
        kept = [one for one in optimizers if not any(one is other for other in replaced)]
        self.reader.optimizers = [*kept, optimizer]
        if self.hooks is not None:
            self.hooks.watch(self.reader.optimizers)
        text = checks.followed_optimizer(optimizer, replaced)
        self.reader.notifier.notify("optimizer", text, faq="other-optimizers", cause=text)
        if in_turn and self.pending is None:
            self._order.append(optimizer)
        else:
            self.after_step(optimizer)

    # ------------------------------------------------------------------------------------------------------- private

    def _start(self, pending: PendingStep) -> dict[str, Reading] | None:
        reader = self.reader
        reader.progress.started = True
        reader.follow()
        step = reader.progress.step
        if step and (not pending.due or reader.record.last_step == step):
            return None  # where the record goes on
        self.continuation.note_digest(final=False)
        return self._read(pending)

    def _begin(self, optimizer: torch.optim.Optimizer | None = None) -> PendingStep:
        """The step under way; a new one where there is none, or where it is not ``optimizer``'s turn in it.

        It is not where that has stepped already, or one has that usually steps after it.
        """
        order, stepped = self._order, [] if self.pending is None else self.pending.stepped
        turn = next((i for i, one in enumerate(order) if one is optimizer), len(order))
        self.settle(force=any(one is other for one in stepped for other in order[turn:]))
        pending = self.pending
        if pending is None or not pending.stepped:  # one without steps has failed, or was skipped
            due = self._due_at(self.reader.progress.step + 1) if pending is None else pending.due
            known = None if pending is None else pending.previous
            self.pending = pending = PendingStep(due)
            self.reader.begin(pending, known)
        return pending

    def _due_at(self, step: int) -> set[str]:
        with self.reader.notifier.guarded("a schedule cannot be asked"):
            return self.schedules.due(step)
        return set()

    def _read(self, pending: PendingStep) -> dict[str, Reading]:
        began = time.perf_counter()
        readings = self.reader.read(pending)
        self.schedules.measured(pending.due, time.perf_counter() - began + pending.seconds)
        return readings

    def _holds(self, optimizer: torch.optim.Optimizer) -> bool:
        return bool(measured_of(optimizer, self.reader.objective))

    def _check_missing_steps(self, at_the_end: bool = False) -> None:
        """Give a notice of optimizers that do not step though ``monitor.step()`` is called, or though others do."""
        if self.hooks is None or not self._calls:
            return
        others = self.hooks.others_stepped - self._others_before
        optimizers, step = self.reader.optimizers, self.reader.progress.step
        text = checks.missing_steps(optimizers, step, self._calls, others, at_the_end)
        if text:
            self.start()
            self.reader.notifier.notify("optimizer", text, faq="no-steps", cause="no steps")
