"""The steps of a run of descent with their loss changes, as predicted from directional smoothness and as measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from edgescope.experiments.study_run import StudyRun
from edgescope.experiments.tables import steps_of


@dataclass(frozen=True, eq=False)
class StepLossChanges:
    """Every step of a run whose directional smoothness is known.

    ``first`` and ``second`` are the terms of the predicted loss change, ``actual`` the measured one with the rounding
    of the two losses; ``by_differences`` marks steps whose D is resolved by differences of losses.
    """

    run: StudyRun
    first: Float[np.ndarray, " n"]
    second: Float[np.ndarray, " n"]
    actual: Float[np.ndarray, " n"]
    rounding: Float[np.ndarray, " n"]
    by_differences: np.ndarray

    @classmethod
    def of(cls, run: StudyRun) -> StepLossChanges | None:
        """None where the run has no such step."""
        table = steps_of({run.name: run.record})
        if not {"ratio", "dual_norm"} <= set(table.columns):
            return None
        table = table.drop_nulls(["ratio", "actual", "dual_norm"])
        if table.is_empty():
            return None
        lr = float(run.record.config["lr"])
        dual, smooth = table["dual_norm"].to_numpy(), table["smoothness"].to_numpy()
        if run.tags.get("normalized") == "yes":
            first, second = -lr * dual, lr**2 * smooth / 2
        else:
            first, second = -lr * dual**2, (lr * dual) ** 2 * smooth / 2
        actual, rounding = table["actual"].to_numpy(), table["rounding"].to_numpy()
        by_differences = (table["note"] == "by differences").fill_null(False).to_numpy()
        return cls(run, first, second, actual, rounding, by_differences)

    @property
    def precision(self) -> float:
        """The unit in the last place of 1, in the precision of the run."""
        return float(np.finfo(self.run.record.config["dtype"]).eps)
