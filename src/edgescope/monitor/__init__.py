"""Attaching to training loops: the monitor and its schedule; callbacks for Lightning and Transformers."""

from edgescope.monitor.forecast import Forecast
from edgescope.monitor.monitor import Monitor
from edgescope.monitor.schedule import Budget, Every, Schedule, Where
from edgescope.monitor.spikes import SpikeEvent, SpikeOptions

__all__ = ["Budget", "Every", "Forecast", "Monitor", "Schedule", "SpikeEvent", "SpikeOptions", "Where"]
