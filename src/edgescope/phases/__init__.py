"""Phases of networks: escape times, minimum-energy paths, hysteresis loops, schedules, learning coefficient."""

from edgescope.phases.barrier import Barrier, barrier
from edgescope.phases.decay_schedule import DecaySchedule, DecayTransitions
from edgescope.phases.escape_times import EscapeTimes, arrhenius
from edgescope.phases.learning_coefficient import learning_coefficient
from edgescope.phases.local_coefficient import HalfStep, LearningCoefficient
from edgescope.phases.rotation import rotation
from edgescope.phases.scan import Jump, Scan, scan
from edgescope.phases.schedule import schedule
from edgescope.statistics import Estimate

__all__ = [
    "Barrier",
    "DecaySchedule",
    "DecayTransitions",
    "EscapeTimes",
    "Estimate",
    "HalfStep",
    "Jump",
    "LearningCoefficient",
    "Scan",
    "arrhenius",
    "barrier",
    "learning_coefficient",
    "rotation",
    "scan",
    "schedule",
]
