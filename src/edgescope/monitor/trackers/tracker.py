"""What a monitor asks of an experiment tracker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

LogFunction = Callable[[dict[str, float], int], object]
"""A function of the values by key and the step, such as ``wandb.log``, ``mlflow.log_metrics``, ``accelerator.log``."""


@runtime_checkable
class Tracker(Protocol):
    """Receives the values of each step with a reading; an error in it is noticed once and does not end training."""

    def log(self, values: dict[str, float], step: int) -> None:
        """Keep ``values``, by keys such as ``edgescope/ratio``, at optimizer step ``step``."""

    def close(self) -> None:
        """The run has ended. Called once, also where nothing was logged; what the user opened stays open."""


Log = str | LogFunction | Tracker
