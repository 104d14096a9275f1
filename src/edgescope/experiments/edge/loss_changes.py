"""The loss of a run before and after arrival at its threshold, and its changes in single steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float

from edgescope.claims import Open
from edgescope.experiments.study_run import StudyRun
from edgescope.experiments.tables import steps_of
from edgescope.experiments.threshold_series import AT_LEAST, ThresholdSeries

STEPS_NEEDED = 10 * AT_LEAST
"""Steps after arrival without which nothing is said of the loss at the threshold."""


@dataclass(frozen=True, eq=False)
class LossAtEdge:
    """The training loss at every step before arrival at the threshold, and from then on."""

    before: Float[np.ndarray, " n"]
    after: Float[np.ndarray, " m"]

    @classmethod
    def of(cls, run: StudyRun) -> LossAtEdge:
        """The loss of a run, divided at its arrival."""
        series = ThresholdSeries.of(run)
        steps, loss = run.record.series("training_loss")
        place = len(loss) if series.arrival is None else int(np.searchsorted(steps, series.arrival_step))
        return cls(loss[:place], loss[place:])

    @property
    def missing(self) -> Open | None:
        """Why nothing is said of the loss at the threshold, None where there are steps enough."""
        short = STEPS_NEEDED - len(self.after)
        if not len(self.after):
            return Open("never arrived at 2/η", "more steps")
        return Open(f"{len(self.after)} steps after arrival", f"about {short:,} more steps") if short > 0 else None


def loss_changes(run: StudyRun) -> pl.DataFrame | None:
    """Loss changes of single steps, predicted and measured, beyond the rounding of the losses; None where there are
    none. Columns: predicted, measured, smoothness (over 2/η)."""
    table = steps_of({run.name: run.record})
    if "predicted" not in table.columns:
        return None
    rate = float(run.record.config["lr"])
    compared = table.filter(pl.col("actual").abs() > pl.col("rounding")).drop_nulls(["predicted", "smoothness"])
    return compared.select("predicted", measured="actual", smoothness=pl.col("smoothness") * rate / 2)
