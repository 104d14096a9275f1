"""Phases under weight decay: escape times, minimum-energy paths, hysteresis loops, and schedules that follow."""

from edgescope.phases.barrier import Barrier, barrier
from edgescope.phases.decay_schedule import DecaySchedule, DecayTransitions
from edgescope.phases.escape_times import EscapeTimes, arrhenius
from edgescope.phases.rotation import rotation
from edgescope.phases.scan import Jump, Scan, scan
from edgescope.phases.schedule import schedule
from edgescope.statistics import Estimate

__all__ = [
    "Barrier", "DecaySchedule", "DecayTransitions", "EscapeTimes", "Estimate", "Jump", "Scan", "arrhenius", "barrier",
    "rotation", "scan", "schedule",
]  # fmt: skip
