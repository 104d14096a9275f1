"""Sending readings to an experiment tracker as they are taken: by its name, or by a function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from edgescope.errors import InputError, one_of
from edgescope.measures import Reading
from edgescope.monitor.trackers.csv_file import CSVFile
from edgescope.monitor.trackers.mlflow_run import MLflowRun
from edgescope.monitor.trackers.tensorboard_log import TensorBoardLog
from edgescope.monitor.trackers.tracker import Log, LogFunction, Tracker
from edgescope.monitor.trackers.trackio_run import TrackioRun
from edgescope.monitor.trackers.wandb_run import WandbRun

__all__ = ["TRACKERS", "Log", "LogFunction", "Tracker", "tracker_from", "values_of"]

TRACKERS: Final[dict[str, Callable[[Path | None], Tracker]]] = {
    "csv": CSVFile,
    "mlflow": MLflowRun,
    "tensorboard": TensorBoardLog,
    "trackio": TrackioRun,
    "wandb": WandbRun,
}
"""A tracker by its name, made from the folder of the record (None: a record in memory). Making it opens nothing."""


class FunctionTracker:
    """A function of the user's as a tracker, which has nothing to close."""

    def __init__(self, function: LogFunction) -> None:
        self._function = function

    def log(self, values: dict[str, float], step: int) -> None:
        self._function(values, step)

    def close(self) -> None:
        pass


def tracker_from(log: Log | None, folder: Path | None) -> Tracker | None:
    """The tracker that ``log`` describes: a name in ``TRACKERS``, a function of values and step, or a tracker.

    Raises :class:`InputError` for anything else, and :class:`MissingExtraError` where its package is not installed.
    """
    if log is None or isinstance(log, Tracker):
        return log
    if isinstance(log, str):
        one_of(log, tuple(TRACKERS), "tracker")
        return TRACKERS[log](folder)
    if not callable(log):
        raise InputError(
            f"log= is of type {type(log).__name__}",
            expected=f"a function of values and step, or one of {', '.join(TRACKERS)}",
        )
    try:
        inspect.signature(log).bind({}, 0)
    except TypeError as error:
        raise InputError(f"log= is a function that cannot take values and step ({error})") from None
    except ValueError:
        pass  # what is written in C need not have a signature
    return FunctionTracker(log)


def values_of(readings: Mapping[str, Reading]) -> dict[str, float]:
    """The values of readings by key: ``edgescope/ratio``, ``edgescope/loss/train``."""
    found: dict[str, Any] = {}
    for name, reading in readings.items():
        for part, value in reading.values.items():
            found[f"edgescope/{name}/{part}" if part else f"edgescope/{name}"] = value
    return found
