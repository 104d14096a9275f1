"""Phases of networks under weight decay: escape times, minimum-energy paths, and hysteresis loops."""

from edgescope.phases.barrier import Barrier, barrier
from edgescope.phases.escape_times import EscapeTimes, arrhenius
from edgescope.phases.rotation import rotation
from edgescope.phases.scan import Jump, Scan, scan
from edgescope.statistics import Estimate

__all__ = ["Barrier", "EscapeTimes", "Estimate", "Jump", "Scan", "arrhenius", "barrier", "rotation", "scan"]
