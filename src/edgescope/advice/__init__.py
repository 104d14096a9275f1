"""The written diagnosis of a training run or of several, from their records, or of a problem before training."""

from edgescope.advice.of_problem import advise_problem
from edgescope.advice.of_run import advise_run
from edgescope.advice.of_runs import advise_runs
from edgescope.advice.section import Section, as_data

__all__ = ["Section", "advise_problem", "advise_run", "advise_runs", "as_data"]
