"""What a study would cost, found without running it."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

from edgescope.objective.checks import check_device
from edgescope.progress import Progress, no_progress
from edgescope.studies.study import Preset, Study
from edgescope.sweep.plan import TaskPlan, plan_tasks


@dataclass(frozen=True)
class StudyPlan:
    """The plan of a study: its tasks, the device they were timed for, and what is not known of the paper's runs."""

    study: str
    preset: str
    device: str
    tasks: tuple[TaskPlan, ...]
    unknown: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Of all tasks that are estimated, one after the other."""
        return sum(task.seconds for task in self.tasks if task.seconds is not None)

    @property
    def not_estimated(self) -> list[TaskPlan]:
        """The tasks whose time is not known."""
        return [task for task in self.tasks if task.seconds is None]

    def seconds_with(self, jobs: int) -> float:
        """Of all tasks that are estimated, ``jobs`` at a time, the most costly first, each as fast as alone."""
        ends = [0.0] * jobs
        for task in sorted(self.tasks, key=lambda one: -one.cost):
            heapq.heapreplace(ends, ends[0] + (task.seconds or 0.0))
        return max(ends)


def plan_study(
    study: Study,
    *,
    preset: Preset = "quick",
    seed: int = 0,
    device: str | None = None,
    progress: Progress | None = None,
) -> StudyPlan:
    """Plan the runs of a study without running, writing or downloading anything.

    How each task is planned is said at :func:`edgescope.sweep.plan.plan_tasks`. Raises :class:`InputError` for a device
    that is not here.
    """
    check_device("a study", device)
    plans = plan_tasks(study.tasks(preset, seed), device, progress or no_progress)
    unknown = study.unknown if preset == "paper" else ()
    return StudyPlan(study.spec, preset, device or "cpu", tuple(plans), tuple(unknown))
