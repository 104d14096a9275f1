"""Phases of networks: escape times, minimum-energy paths, hysteresis loops, and the local learning coefficient."""

from edgescope.phases.barrier import Barrier, barrier
from edgescope.phases.escape_times import EscapeTimes, arrhenius
from edgescope.phases.learning_coefficient import learning_coefficient
from edgescope.phases.local_coefficient import HalfStep, LearningCoefficient
from edgescope.phases.rotation import rotation
from edgescope.phases.scan import Jump, Scan, scan
from edgescope.statistics import Estimate

__all__ = [
    "Barrier",
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
]
