"""Readings in a run of Trackio."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from edgescope.extras import load, require


class TrackioRun:
    """Logs to the run that is active, else to a new one of the project "edgescope", on this machine.

    Values that are not finite are left out, as Trackio cannot keep them.
    """

    def __init__(self, folder: Path | None) -> None:
        require("trackio", "log='trackio' needs", "trackio")
        self._run: Any = None
        self._own = False

    def log(self, values: dict[str, float], step: int) -> None:
        if self._run is None:
            self._open(load("trackio"))
        finite = {key: value for key, value in values.items() if math.isfinite(value)}
        self._run.log(finite, step=step)

    def close(self) -> None:
        if self._run is not None and self._own:
            self._run.finish()

    def _open(self, trackio: Any) -> None:
        current = getattr(getattr(trackio, "context_vars", None), "current_run", None)
        active = None if current is None else current.get()
        self._own = active is None
        self._run = trackio.init(project="edgescope") if active is None else active
