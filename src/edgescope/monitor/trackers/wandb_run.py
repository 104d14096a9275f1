"""Readings in a run of Weights & Biases."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from edgescope.extras import load, require

STEP: Final = "edgescope/step"


class WandbRun:
    """Logs to the run that is active, else to a new one, which is offline unless ``WANDB_MODE`` says otherwise.

    A new run has the optimizer steps as its own. One that is active counts steps in its own way, and refuses those that
    lie behind: there the steps are the values of ``edgescope/step``, which is made the axis of these charts.
    """

    def __init__(self, folder: Path | None) -> None:
        require("wandb", "log='wandb' needs", "wandb")
        self._folder = folder
        self._run: Any = None
        self._own = False

    def log(self, values: dict[str, float], step: int) -> None:
        if self._run is None:
            self._open(load("wandb"))
        if self._own:
            self._run.log(values, step=step)
        else:
            self._run.log({**values, STEP: step})

    def close(self) -> None:
        if self._run is not None and self._own:
            self._run.finish()

    def _open(self, wandb: Any) -> None:
        active = wandb.run
        if active is not None:
            active.define_metric("edgescope/*", step_metric=STEP)
            self._run = active
            return
        mode = os.environ.get("WANDB_MODE", "offline")
        place = None if self._folder is None else str(self._folder)
        self._run, self._own = wandb.init(project="edgescope", mode=mode, dir=place), True
