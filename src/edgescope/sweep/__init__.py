"""Many runs: the tasks, where they are carried out (here, in processes, on a cluster), and grids of them."""

from edgescope.sweep.run_tasks import check_cluster, check_jobs, run_tasks
from edgescope.sweep.runs import TrainTask, carry_out, grid, rates, run
from edgescope.sweep.task import Outcome, Task

__all__ = [
    "Outcome",
    "Task",
    "TrainTask",
    "carry_out",
    "check_cluster",
    "check_jobs",
    "grid",
    "rates",
    "run",
    "run_tasks",
]
