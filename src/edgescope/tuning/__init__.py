"""Before a training run: the learning rate finder, and checks of a model, its loss, its data and its optimizer."""

from edgescope.tuning.critical_percentiles import CriticalRates
from edgescope.tuning.doctor import doctor
from edgescope.tuning.find_lr import find_lr
from edgescope.tuning.problem_report import CheckRow, MeasureRow, ProblemReport
from edgescope.tuning.suggestion import LearningRateSuggestion

__all__ = [
    "CheckRow",
    "CriticalRates",
    "LearningRateSuggestion",
    "MeasureRow",
    "ProblemReport",
    "doctor",
    "find_lr",
]
