"""Phases of any network under weight decay: escape times, paths over barriers, hysteresis loops."""

from edgescope.phases.barrier import Barrier, barrier
from edgescope.phases.escape_times import EscapeTimes, Estimate, arrhenius
from edgescope.phases.rotation import rotation
from edgescope.phases.scan import Jump, Scan, scan

__all__ = ["Barrier", "EscapeTimes", "Estimate", "Jump", "Scan", "arrhenius", "barrier", "rotation", "scan"]
