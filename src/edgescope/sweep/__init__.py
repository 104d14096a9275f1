"""Many runs: tasks, where they are run (in this process, in several, on a cluster), and grids of configurations."""

from edgescope.extras import require

require("studies", "sweeps need", "joblib")

from edgescope.sweep.planned_run import PlannedRun
from edgescope.sweep.run_tasks import check_cluster, check_jobs, run_tasks
from edgescope.sweep.runs import TrainTask, grid, rates, run, run_training
from edgescope.sweep.task import Outcome, Tagged, Task, tasks_on
from edgescope.sweep.trainer_task import TrainerRun, TrainerTask, trainer_tasks

__all__ = [
    "Outcome",
    "PlannedRun",
    "Tagged",
    "Task",
    "TrainTask",
    "TrainerRun",
    "TrainerTask",
    "check_cluster",
    "check_jobs",
    "grid",
    "rates",
    "run",
    "run_tasks",
    "run_training",
    "tasks_on",
    "trainer_tasks",
]
