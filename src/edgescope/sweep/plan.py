"""What tasks would cost, found without running them: sizes, gradients, memory and time of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgescope.errors import EdgescopeError
from edgescope.measures.problem_size import ProblemSize
from edgescope.monitor.order import in_order
from edgescope.monitor.schedule import Every
from edgescope.optim import plan_optimizers
from edgescope.progress import Progress
from edgescope.sweep.planned_run import PlannedRun
from edgescope.sweep.task import Tagged, Task
from edgescope.training import RunConfig
from edgescope.training.gradient_time import GradientTime, time_gradient

USUAL_EVERY = 10
"""Steps between measurements of a run that does not say how many."""


@dataclass(frozen=True)
class TaskPlan:
    """What one task is expected to cost; None for what is not known before it runs.

    ``steps`` are those of all its runs, at most. ``gradients`` are the gradients of these steps and what the measures
    are expected to ask for, in gradients over all training data. ``bytes`` are those of the data, and of parameters and
    gradient. ``seconds`` are extrapolated from one timed gradient, which takes ``gradient_seconds`` over all training
    data, or are what the task expects of itself. ``cost`` is the weight that the study itself gives to the task.
    ``note`` says what the estimate leaves out.
    """

    name: str
    cost: float
    steps: int | None = None
    gradients: float | None = None
    parameters: int | None = None
    bytes: int | None = None
    seconds: float | None = None
    gradient_seconds: float | None = None
    note: str = ""


def plan_tasks(tasks: Sequence[Task], device: str | None, progress: Progress) -> list[TaskPlan]:
    """Plan tasks without running, writing or downloading anything.

    One gradient is timed for each different combination of data, model, loss, batch size and precision, in the
    ``device``'s own time on this machine; data that would be downloaded are replaced by random ones of their shape.
    A task that cannot be planned says why in its note.
    """
    timer = _Timer()
    plans = []
    for number, task in enumerate(tasks):
        progress(number / len(tasks), f"timing gradients, {task.name}")
        plans.append(_plan(task, device, timer))
    progress(1.0, "")
    return plans


class _Timer:
    """Times a gradient once for all runs whose gradients are alike."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], GradientTime | EdgescopeError] = {}

    def time(self, config: RunConfig, samples: int | None) -> GradientTime:
        """Of a gradient over so many samples, None for all."""
        own = (config.data, config.train, config.test, config.model, config.loss, config.function)
        key = (*own, config.dtype, config.threads, config.device, samples)
        if key not in self._known:
            try:
                self._known[key] = time_gradient(config, samples)
            except EdgescopeError as error:
                self._known[key] = error
        found = self._known[key]
        if isinstance(found, EdgescopeError):
            raise found
        return found


def _plan(task: Task, device: str | None, timer: _Timer) -> TaskPlan:
    if not isinstance(task, Tagged):
        return TaskPlan(task.name, task.cost, note="not estimated")
    moved = task if device is None else task.on_device(device)
    on_cpu = device is not None and moved is task and not device.startswith("cpu")
    notes = ["computes on the CPU"] if on_cpu else []
    try:
        runs = moved.planned_runs()
        plan = _plan_of_runs(task, runs, timer, notes) if runs else TaskPlan(task.name, task.cost)
        if plan.seconds is not None:
            return plan
        expected = moved.expected_seconds
        said = "a simulation, not estimated" if expected is None else "the time is the study's own guess for one core"
        notes = [plan.note, said, *([] if runs else notes)]
        return replace(plan, seconds=expected, note="; ".join(filter(None, notes)))
    except EdgescopeError as error:
        return TaskPlan(task.name, task.cost, note=f"not estimated: {error}")


def _plan_of_runs(task: Task, runs: Sequence[PlannedRun], timer: _Timer, notes: list[str]) -> TaskPlan:
    steps, gradients, seconds, parameters, size = 0, 0.0, 0.0, 0, 0
    for run in runs:
        full = timer.time(run.config, None)
        step = full if run.config.batch is None else timer.time(run.config, run.config.batch)
        parameters = max(parameters, full.parameters)
        size = max(size, full.data_bytes + 2 * full.parameter_bytes * run.count)
        notes += [run.note] if run.note and run.note not in notes else []
        if run.steps is None:
            continue
        training, measuring = gradients_of(run.config, run.steps, full, step)
        steps += run.count * run.steps
        share = 1.0 if run.config.batch is None else min(1.0, run.config.batch / full.samples)
        gradients += run.count * (share * training + measuring)
        seconds += run.count * (training * step.seconds + measuring * full.seconds)
    known = all(run.steps is not None for run in runs)
    return TaskPlan(
        task.name,
        task.cost,
        steps=steps if known else None,
        gradients=gradients if known else None,
        parameters=parameters,
        bytes=size,
        seconds=seconds if known else None,
        gradient_seconds=timer.time(runs[0].config, None).seconds,
        note="; ".join(notes),
    )


def gradients_of(config: RunConfig, steps: int, full: GradientTime, step: GradientTime) -> tuple[float, float]:
    """The gradients of ``steps`` training steps, each over a batch, and of their measures, each over all data.

    ``full`` and ``step`` are the times of a gradient over all data and over a batch. What measures ask for is expected,
    not known: it depends on how fast they converge.
    """
    training = float(steps * plan_optimizers(config.optimizer).gradients_per_step)
    if config.budget is not None:
        return training, config.budget * training * step.seconds / full.seconds
    measures, own = in_order(config.measures)
    size = ProblemSize(full.parameters, full.samples)
    readings = {}
    for measure in measures:
        schedule = own.get(measure.name, Every(config.every or USUAL_EVERY))
        readings[measure.name] = 1 + steps // schedule.steps if isinstance(schedule, Every) else 1
    spent = 0.0
    for measure in measures:
        count = readings[measure.name]
        if any(readings.get(used, 0) >= count for used in measure.uses):
            continue  # it takes over what another has found at the same steps
        spent += count * measure.expected_cost(size).in_gradients()
    return training, spent
