"""Readings as scalars of a TensorBoard log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgescope.extras import load, require


class TensorBoardLog:
    """Writes scalars to ``tensorboard/`` in the folder of the record, or to torch's default ``runs/``."""

    def __init__(self, folder: Path | None) -> None:
        require("trackers", "log='tensorboard' needs", "tensorboard")
        self._folder = folder
        self._writer: Any = None

    def log(self, values: dict[str, float], step: int) -> None:
        if self._writer is None:
            place = None if self._folder is None else str(self._folder / "tensorboard")
            self._writer = load("torch.utils.tensorboard").SummaryWriter(place)
        for key, value in values.items():
            self._writer.add_scalar(key, value, global_step=step)
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
