"""Phases of any network under weight decay: escape times, paths over barriers, hysteresis loops."""

from edgescope.phases.escape_times import EscapeTimes, Estimate, arrhenius

__all__ = ["EscapeTimes", "Estimate", "arrhenius"]
