"""A training run that a task is going to do, as far as it is known before the task runs."""

from __future__ import annotations

from dataclasses import dataclass

from edgescope.training import RunConfig


@dataclass(frozen=True)
class PlannedRun:
    """``count`` runs like ``config``, each of ``steps`` optimizer steps at most; None where that is not known before.

    ``note`` says in a few words what a reader of the plan should know.
    """

    config: RunConfig
    steps: int | None
    count: int = 1
    note: str = ""
