"""The plan of a study on the terminal: a table of its runs, the totals, and what is not known of them."""

from __future__ import annotations

import dataclasses

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgescope.memory import available, readable
from edgescope.report.numbers import MISSING, number
from edgescope.studies.dry_run import StudyPlan
from edgescope.sweep.plan import TaskPlan


def print_plan(plan: StudyPlan, jobs: int, console: Console) -> None:
    """Print the plan; ``jobs`` is the number of runs at the same time."""
    count = len(plan.tasks)
    console.print(
        Text(f"study {plan.study}, preset {plan.preset}, on {plan.device}: {count} tasks; nothing has been run", "bold")
    )
    notes: dict[str, int] = {}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("task", overflow="fold", ratio=1)
    for title in ("steps", "gradients", "parameters", "memory", "time"):
        table.add_column(title, justify="right", no_wrap=True)
    for task in plan.tasks:
        mark = f" [{notes.setdefault(task.note, len(notes) + 1)}]" if task.note else ""
        table.add_row(task.name + mark, *_cells(task, task.cost / sum(one.cost for one in plan.tasks)))
    console.print(table)
    for note, place in notes.items():
        console.print(Text(f"[{place}] {note}"))
    for line in _totals(plan, jobs):
        console.print(Text(line))
    if plan.unknown:
        console.print()
        console.print(Text(" ".join(plan.unknown)))


def plan_as_dict(plan: StudyPlan, jobs: int) -> dict[str, object]:
    """The plan for scripts; seconds are those of one task, and of all tasks one after the other and ``jobs`` at a time.

    Keys that are not known are None.
    """
    return dataclasses.asdict(plan) | {"seconds": plan.seconds, "jobs": jobs, "seconds_jobs": plan.seconds_with(jobs)}


def _cells(task: TaskPlan, share: float) -> list[str]:
    """The cells of a task, which has this ``share`` of the cost of its study."""
    gradients, time = MISSING, f"({share:.0%})" if share >= 0.005 else "(< 1%)"
    if task.gradients is not None:
        gradients = number(_three_digits(task.gradients))
    elif task.gradient_seconds is not None:
        gradients = f"{_each(task.gradient_seconds)} each"
    if task.seconds is not None:
        time = _rough(task.seconds)
    return [
        MISSING if task.steps is None else number(task.steps),
        gradients,
        MISSING if task.parameters is None else number(task.parameters),
        MISSING if task.bytes is None else readable(task.bytes),
        time,
    ]


def _each(seconds: float) -> str:
    """The time of one gradient, to two digits."""
    short = seconds < 1
    return f"{number(float(f'{1000 * seconds if short else seconds:.2g}'))} {'ms' if short else 's'}"


def _three_digits(value: float) -> int:
    return round(float(f"{value:.3g}"))


def _rough(seconds: float) -> str:
    """A time in one unit, as exact as an estimate deserves."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 1 else "< 1 s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{number(float(f'{seconds / 3600:.3g}'))} h"


def _totals(plan: StudyPlan, jobs: int) -> list[str]:
    known = [task for task in plan.tasks if task.seconds is not None]
    lines = []
    if known:
        steps, gradients = sum(task.steps or 0 for task in known), sum(task.gradients or 0 for task in known)
        counted = f"{number(steps)} steps, {number(_three_digits(gradients))} gradients, " if steps else ""
        lines.append(
            f"Estimated for {len(known)} of {len(plan.tasks)} tasks: {counted}{_rough(plan.seconds)} one after the "
            f"other, {_rough(plan.seconds_with(jobs))} with --jobs {jobs}."
        )
    if missing := plan.not_estimated:
        lines.append(
            f"Not estimated: {len(missing)} of {len(plan.tasks)} tasks; in brackets their share of the cost of the "
            "study, by the weights that it gives to its tasks."
        )
    largest = max((task.bytes or 0 for task in plan.tasks), default=0)
    if largest:
        lines.append(
            f"Largest task: {readable(largest)} for data, parameters and gradient, plus the memory of activations and "
            f"measures; free on {plan.device}: {readable(available(plan.device))}."
        )
    if known:
        lines.append(
            "Steps are the maximum of a run. Gradients are over all training data and include the expected ones of the "
            "measures. Times are extrapolated from one timed gradient of each kind, and are rough."
        )
    return lines
