"""The monitor: what attaches to a training loop and takes measures on a schedule."""

from __future__ import annotations

import math
import os
import time
import weakref
from collections.abc import Callable, Iterable
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, get_args

import polars as pl
import torch
from torch import Tensor

from edgescope.cost import Cost
from edgescope.errors import EdgescopeError, InputError
from edgescope.measures import MEASURES, Measure, Moment, Previous, Reading
from edgescope.measures.measure import Needs
from edgescope.monitor.memory import record_in_memory
from edgescope.monitor.schedule import AtEnd, Every, Schedule, schedule_from
from edgescope.objective import Objective
from edgescope.optim import GradientFlow, UpdateRule, rule_for
from edgescope.store import Record

DEFAULT_MEASURES: Final = ("loss", "gradient_norm", "sharpness", "effective_sharpness", "threshold", "ratio")
_ORDER: Final = get_args(Needs)


class Monitor:
    """Takes measures of a training run and keeps them in a record.

    ``monitor.step()`` belongs after ``optimizer.step()``. A reading at step t describes the parameters after t
    optimizer steps; step 0 is taken just before the first (at once without an ``optimizer``). Training with a monitor
    gives the same weights, bit for bit, as training without.

    Args:
        objective: what the curvature is measured of; its data need not be those of the training loop.
        optimizer: gives threshold, learning rate and the parameters before each step, by a hook on its ``step``.
        every: measure at every so many steps (default 10), or at the steps for which a function is true.
        budget: instead of ``every``: the share of training time that measurements may take, such as 0.1. Decided by
            measured times, so it is not reproducible bit for bit.
        measures: names, texts such as ``"sharpness:k=3"``, or :class:`Measure` objects; no two of the same name. A text
            may end in a schedule of its own: ``"training_loss@1"`` at every step, ``"spectrum@1000"`` at every
            thousandth, ``"sharpness@end"`` where :meth:`finish` is called and nowhere else.
        evaluations: further objectives by name, such as ``{"test": objective}``.
        out: folder for the record; without it the record is kept in memory.
        record: a record to write to instead, which is left open.
        config: what the new record keeps as the configuration of the run.
        release: let go of the objective's graphs after each measurement. False where training itself goes on to ask
            the objective for the gradient at the same parameters.

    Where the parameters or the loss are no longer finite, an event "diverged" is recorded at that step, the status of
    the record is diverged, and no more curvature is measured; nothing is raised. What else cannot be measured is a
    reading without values whose note says why. Raises :class:`InputError` for arguments that cannot be used.
    """

    def __init__(
        self,
        objective: Objective,
        optimizer: torch.optim.Optimizer | None = None,
        *,
        every: int | Callable[[int], bool] | None = None,
        budget: float | None = None,
        measures: Iterable[str | Measure] = DEFAULT_MEASURES,
        evaluations: dict[str, Objective] | None = None,
        out: str | os.PathLike[str] | None = None,
        record: Record | None = None,
        config: dict[str, Any] | None = None,
        release: bool = True,
    ) -> None:
        if out is not None and record is not None:
            raise InputError("both out= and record= were given", expected="one of them")
        self.objective = objective
        self.optimizer = optimizer
        self.schedule = schedule_from(every, budget)
        self.measures, self._own = in_order(measures)
        self.evaluations = dict(evaluations or {})
        self.steps = 0
        self.diverged = False
        self.latest: dict[str, Reading] = {}
        self.taken: list[str] = []  # the measures that were taken at this step
        self._release = release
        self._time: float | None = None if optimizer is None else 0.0
        self._initial: Tensor | None = None
        self._due: set[str] | None = None
        self._previous: Previous | None = None
        self._paid_before = (Cost(), 0.0)
        self._rule, self._why_no_rule = _rule(optimizer, objective)
        self._hook = None if optimizer is None else optimizer.register_step_pre_hook(self._before_step)
        self._last_table: pl.DataFrame | None = None
        self._owned = record is None
        if record is None:
            record = record_in_memory(config or {}) if out is None else Record.create(out, config=config)
        self.record = record
        if self._owned:
            self._finalizer = weakref.finalize(self, record.close)
        record.set_info("measured", _what_is_measured(objective))
        if optimizer is None:
            self.start()

    def start(self) -> dict[str, Reading] | None:
        """Measure step 0 now; called by the optimizer's first step where nobody did before."""
        if self._initial is not None:
            return None
        self._follow()
        return self._measure(self._due_at(0))

    def step(self) -> dict[str, Reading] | None:
        """Count one optimizer step; the readings by name where this step is one to measure at, else None."""
        self.start()
        self.steps += 1
        self.taken = []
        self._follow()
        due = self._due_at(self.steps) if self._due is None else self._due
        self._due = None
        return self._measure(due) if due else None

    def finish(self, everything: bool = False) -> dict[str, Reading] | None:
        """Measure where training has ended what is scheduled ``@end``, or everything; not twice at the same step."""
        ends = {name for name, schedule in self._own.items() if isinstance(schedule, AtEnd)}
        due = {measure.name for measure in self.measures if everything or measure.name in ends} - set(self.taken)
        return self._measure(due) if due else None

    def value(self, measure: str, part: str = "") -> float | None:
        """The last value of a measure's part; None where there is none."""
        return self.latest[measure].values.get(part) if measure in self.latest else None

    def table(self) -> pl.DataFrame:
        """All readings so far, one row a step, measure and part: :meth:`Record.table`."""
        return self.record.table() if self._last_table is None else self._last_table

    def close(self, status: str = "finished") -> None:
        """Let go of the optimizer, and of the record where the monitor made it; :meth:`table` still answers."""
        if self._hook is not None:
            self._hook.remove()
        if self._owned and self._last_table is None:
            if self.record.status == "running":
                self.record.set_status(status)  # type: ignore[arg-type]
            self._last_table = self.record.table()
            self.record.close()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close("finished" if kind is None else "interrupted" if kind is KeyboardInterrupt else "failed")

    def state(self) -> dict[str, Any]:
        """What ``load_state`` needs to continue bit for bit: nested dicts of tensors, numbers and text."""
        return {
            "steps": self.steps,
            "taken": self.taken,
            "diverged": self.diverged,
            "time": self._time,
            "initial": self._initial,
            "latest": {n: {"values": r.values, "errors": r.errors, "note": r.note} for n, r in self.latest.items()},
            "measures": {measure.name: measure.state() for measure in self.measures},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from a state that the monitor of an equal configuration gave."""
        if set(state["measures"]) != {measure.name for measure in self.measures}:
            raise InputError(
                f"a state with the measures {', '.join(sorted(state['measures']))}",
                expected=f"one with {', '.join(sorted(m.name for m in self.measures))}",
            )
        self.steps, self.diverged, self._time = state["steps"], state["diverged"], state["time"]
        self._initial, self.taken = state["initial"], list(state.get("taken", []))
        self.latest = {name: Reading(name, **reading) for name, reading in state["latest"].items()}
        for measure in self.measures:
            measure.load_state(state["measures"][measure.name])

    def _before_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        self.start()
        rates = {float(group.get("lr", math.nan)) for group in optimizer.param_groups}
        self._time = None if self._time is None or len(rates) > 1 else self._time + rates.pop()
        self._due = self._due_at(self.steps + 1)
        if not self.diverged and any(m.needs_previous and m.name in self._due for m in self.measures):
            began, before = time.perf_counter(), self.objective.spent
            gradient = self.objective.gradient()
            self._previous = Previous(self.objective.parameters(), self.objective.loss(), gradient)
            self._paid_before = (self.objective.spent - before, time.perf_counter() - began)

    def _follow(self) -> None:
        if not self.diverged:
            for measure in self.measures:
                measure.follow(self.steps, self.objective)

    def _due_at(self, step: int) -> set[str]:
        """The measures to take at this step. Each schedule is asked once a step, as a budget needs it."""
        usual = self.schedule.due(step)
        return {m.name for m in self.measures if (self._own[m.name].due(step) if m.name in self._own else usual)}

    def _measure(self, due: set[str]) -> dict[str, Reading]:
        began = time.perf_counter()
        measures = [measure for measure in self.measures if measure.name in due]
        moment = self._moment()
        was_diverged = self.diverged
        # The sum is not finite where one of them is not, and costs a tenth of asking each.
        moment.diverged = was_diverged or not math.isfinite(float(moment.parameters.sum()))
        first = [measure for measure in measures if measure.needs in ("products", "gradient")]
        for measure in first:
            moment.shared[measure.name] = measure.take(moment)
        # Only now, since a product or a gradient leaves the loss known.
        moment.diverged = moment.diverged or not math.isfinite(float(self.objective.loss()))
        for measure in measures[len(first) :]:
            moment.shared[measure.name] = measure.take(moment)
        readings = {measure.name: moment.shared[measure.name] for measure in measures}
        cost, seconds = self._paid_before
        for measure in measures:
            if measure.needs_previous:
                found = readings[measure.name]
                readings[measure.name] = replace(found, cost=found.cost + cost, seconds=found.seconds + seconds)
                break
        self._previous, self._paid_before = None, (Cost(), 0.0)
        self.latest, self.diverged = self.latest | readings, moment.diverged
        news = [("diverged", "parameters or loss are not finite")] if self.diverged and not was_diverged else []
        self.record.append(self.steps, readings.values(), news, add=bool(self.taken))
        self.taken = [*self.taken, *readings]
        if news:
            self.record.set_status("diverged")
        if self._release:
            for objective in (self.objective, *self.evaluations.values()):
                objective.release()
        if any(measure.name not in self._own for measure in measures):
            self.schedule.measured(time.perf_counter() - began + seconds)
        return readings

    def _moment(self) -> Moment:
        parameters = self.objective.parameters()
        if self._initial is None:
            self._initial = parameters
        flow = isinstance(self.optimizer, GradientFlow)
        return Moment(
            step=self.steps,
            objective=self.objective,
            optimizer=self.optimizer,
            rule=self._rule,
            parameters=parameters,
            initial=self._initial,
            previous=self._previous,
            time=self.optimizer.time if flow else _finite(self._time),  # type: ignore[union-attr]
            evaluations=self.evaluations,
            why_no_rule=self._why_no_rule,
        )


def in_order(measures: Iterable[str | Measure]) -> tuple[list[Measure], dict[str, Schedule]]:
    """The measures in the order in which they are taken, and the schedules of those that have one of their own.

    Ordered by what they need, and each after those that it uses.
    """
    if isinstance(measures, str):
        raise InputError(f"measures={measures!r}", expected="a list of measures", hint=f"[{measures!r}]")
    given: dict[str, Measure] = {}
    own: dict[str, Schedule] = {}
    for thing in measures:
        text, at, every = thing.rpartition("@") if isinstance(thing, str) else ("", "", "")
        measure = MEASURES.build(text if at else thing) if isinstance(thing, str) else thing
        if not isinstance(measure, Measure):
            raise InputError(f"a measure of type {type(measure).__name__}", expected="a name or a Measure")
        if measure.name in given:
            raise InputError(f"measure '{measure.name}' was given twice", expected="each once")
        given[measure.name] = measure
        if at:
            if every != "end" and (not every.isdecimal() or int(every) < 1):
                raise InputError(f"measure '{thing}'", expected="a number of steps of at least 1 after @, or 'end'")
            own[measure.name] = AtEnd() if every == "end" else Every(int(every))
    placed: dict[str, Measure] = {}

    def place(measure: Measure) -> None:
        for name in measure.uses:
            if name in given:
                place(given[name])
        placed.setdefault(measure.name, measure)

    for measure in sorted(given.values(), key=lambda m: _ORDER.index(m.needs)):
        place(measure)
    return list(placed.values()), own


def _rule(optimizer: torch.optim.Optimizer | None, objective: Objective) -> tuple[UpdateRule | None, str]:
    if optimizer is None:
        return None, "there is no optimizer"
    try:
        return rule_for(optimizer, objective.tensors), ""
    except EdgescopeError as error:
        return None, str(error)


def _what_is_measured(objective: Objective) -> dict[str, Any]:
    return {
        "samples": objective.samples,
        "parameters": objective.size,
        "dtype": str(objective.dtype).removeprefix("torch."),
        "mode": objective.mode,
    }


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None
