"""Attaching to training loops: the monitor, its schedule and verdict; callbacks for Lightning and Transformers."""

from edgescope.monitor.forecast import Forecast
from edgescope.monitor.monitor import Monitor
from edgescope.monitor.reasons import CitedFigure, Reason, Verdict
from edgescope.monitor.regimes import EarlyStopping, RegimeEvent
from edgescope.monitor.schedule import Budget, Every, Schedule, Where
from edgescope.monitor.spikes import SpikeEvent, SpikeOptions
from edgescope.monitor.verdict import verdict_of
from edgescope.monitor.watch import WatchingMonitor, watch

__all__ = [
    "Budget",
    "CitedFigure",
    "EarlyStopping",
    "Every",
    "Forecast",
    "Monitor",
    "Reason",
    "RegimeEvent",
    "Schedule",
    "SpikeEvent",
    "SpikeOptions",
    "Verdict",
    "WatchingMonitor",
    "Where",
    "verdict_of",
    "watch",
]
