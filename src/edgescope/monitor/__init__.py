"""Attaching to training loops: the monitor and its schedule; callbacks for Lightning and Transformers."""

from edgescope.monitor.monitor import Monitor
from edgescope.monitor.schedule import Budget, Every, Schedule, Where

__all__ = ["Budget", "Every", "Monitor", "Schedule", "Where"]
