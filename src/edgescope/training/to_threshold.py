"""Runs from one initialization to one training loss, by gradient descent and by gradient flow, and their results."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from edgescope.errors import InputError
from edgescope.extras import Optional
from edgescope.notebooks import in_notebooks
from edgescope.store import Record
from edgescope.training.config import RunConfig

if TYPE_CHECKING:
    import polars as pl
else:
    pl = Optional("polars")

Regime = Literal[
    "flow-aligned", "edge of stability", "below the edge", "above the edge", "above critical", "diverged", "not known"
]

AT_THE_EDGE: Final = 0.10
"""How far from 2/lr, relatively, sharpness at the edge of stability may end: the tolerance of the study `tradeoff`."""

AT_THE_END: Final = ("loss", "sharpness@end", "norms@end", "accuracy@end")
"""Measured of a descent; the loss on the way too."""

FOR_A_VERDICT: Final = (*AT_THE_END, "ratio", "headroom", "effective_sharpness@end")
"""Measured of a descent whose regime does not follow from gradient flow: what its verdict rests on."""

ALONG_THE_FLOW: Final = ("loss", "sharpness@5", "norms@end", "accuracy@end")
"""Measured of gradient flow, whose sharpness has to be resolved: its maximum sets the critical rate."""

FLOW: Final = "gradient-flow:max_step=10,safety=2"
"""Steps of at most 2/S in time; the pair is stable up to 2.5/S, and its error control chooses within."""


def descent_at(base: RunConfig, lr: float, measures: tuple[str, ...] = AT_THE_END) -> RunConfig:
    """Gradient descent on ``base`` at ``lr``, to its ``stop_loss`` or for its ``steps``, measured at the end.

    Cost: the steps, and about 30 Hessian products at the end. Raises :class:`InputError` for a ``base`` that has no
    ``stop_loss``.
    """
    _has_threshold(base)
    return replace(base, lr=lr, measures=measures)


def flow_of(base: RunConfig, measures: tuple[str, ...] = ALONG_THE_FLOW) -> RunConfig:
    """Gradient flow from the initialisation of ``base`` to its ``stop_loss``, on the full batch.

    Cost: per step 3 gradients, and 3 to 10 Hessian products at every fifth; as many steps as gradient descent at
    the critical learning rate, or more if the error control requires them.
    """
    _has_threshold(base)
    plain: dict[str, Any] = {"batch": None, "clip": None, "schedule": "constant", "decay_schedule": "constant"}
    return replace(base, optimizer=FLOW, lr=1.0, measures=measures, **plain)


def _has_threshold(base: RunConfig) -> None:
    if base.stop_loss is None:
        raise InputError("a run to a threshold without stop_loss", expected="the training loss at which to stop")


@in_notebooks
@dataclass(frozen=True)
class End:
    """The final state of a run. ``sharpness`` is the largest eigenvalue of the Hessian of the training loss, ``l1`` and
    ``l2`` are norms of all parameters. NaN where nothing was measured, as after divergence.

    ``sharpness_error`` is an estimated bound on the error of the eigenvalue, that of
    :class:`~edgescope.linalg.Eigenpairs`.

    ``reached`` says whether the training loss came down to the threshold; a run that did not and has not ``diverged``
    was stopped by its number of steps.
    """

    lr: float
    steps: int
    reached: bool
    diverged: bool
    sharpness: float
    sharpness_error: float
    l1: float
    l2: float
    train_loss: float
    test_loss: float
    test_accuracy: float

    @classmethod
    def of(cls, record: Record) -> End:
        """Read it from the record of a run that has ended."""
        table = record.table().filter(step=record.last_step)
        values = {(m, p): v for m, p, v in table.select("measure", "part", "value").iter_rows()}
        errors = {(m, p): e for m, p, e in table.select("measure", "part", "error").iter_rows()}
        diverged = record.status == "diverged"

        def found(measure: str, part: str, among: dict[tuple[str, str], float | None] = values) -> float:
            value = among.get((measure, part))
            return math.nan if value is None or diverged else float(value)

        return cls(
            lr=float(record.config["lr"]),
            steps=int(record.info.get("steps", record.last_step or 0)),
            reached="stopped" in record.events()["kind"].to_list(),
            diverged=diverged,
            sharpness=found("sharpness", "1"),
            sharpness_error=found("sharpness", "1", errors),
            l1=found("norms", "l1"),
            l2=found("norms", "l2"),
            train_loss=found("loss", "train"),
            test_loss=found("loss", "test"),
            test_accuracy=found("accuracy", "test"),
        )


@in_notebooks
@dataclass(frozen=True)
class FlowEnd:
    """The final state of gradient flow, and the largest ``sharpness`` along it (Matveev, Fojtik et al. 2025: s_GF).

    ``error`` is an estimated bound on the error of that eigenvalue; what the way between two measurements hides is not
    in it. ``initial`` is the sharpness before the first step: without an increase from
    there, there is no progressive sharpening.

    The sharpness is the largest eigenvalue, which is what descent is stable or unstable by: along an eigenvector of
    negative curvature it moves away at every rate. The paper's is the largest absolute value, which is another number
    only where the most negative eigenvalue is larger in size, as it may be early; a maximum over the way that is
    larger than that is the same for both.
    """

    end: End
    sharpness: float
    error: float
    initial: float

    @property
    def critical_lr(self) -> float:
        """2 / s_GF: the largest learning rate at which gradient descent can follow the flow to its end."""
        return self.critical_for(2.0)

    def critical_for(self, factor: float) -> float:
        """The same of an optimizer whose threshold is factor/lr, as with momentum."""
        return factor / self.sharpness

    @classmethod
    def of(cls, record: Record) -> FlowEnd:
        """Read it from the record of a :func:`flow_of` run; :class:`InputError` where no sharpness is positive."""
        rows = record.table().filter(measure="sharpness", part="1").drop_nulls("value")
        values = rows["value"].to_numpy()
        if not (np.isfinite(values).any() and np.nanmax(values) > 0):
            raise InputError(
                f"gradient flow in {record.folder} has no positive sharpness, and so no critical learning rate",
                hint="another stop_loss or initialization",
            )
        top = int(np.nanargmax(values))
        error = rows["error"][top]
        return cls(End.of(record), float(values[top]), math.nan if error is None else float(error), float(values[0]))


def regime_of(
    lr: float, critical_lr: float | None, diverged: bool, sharpness: float | None = None, factor: float = 2.0
) -> Regime:
    """The regime of a run, from its learning rate, the critical one, and its final ``sharpness``.

    Below the critical learning rate gradient descent is "flow-aligned". Above it a run ends at the "edge of stability"
    if its sharpness is within 10% of 2/lr; "below the edge" if it is smaller, as when the loss has no curvature left or
    a flat region was found early; "above the edge" if it is larger, so that the run was still unstable when it reached
    its threshold; and "above critical" if the sharpness is not known (None or NaN). ``factor`` is that of an optimizer
    whose threshold is factor/lr in place of 2/lr (:func:`~edgescope.training.stability_factor.stability_factor`).
    """
    if diverged:
        return "diverged"
    if critical_lr is None:
        return "not known"
    if lr < critical_lr:
        return "flow-aligned"
    if sharpness is None or math.isnan(sharpness):
        return "above critical"
    over = sharpness * lr / factor
    if abs(over - 1) <= AT_THE_EDGE:
        return "edge of stability"
    return "below the edge" if over < 1 else "above the edge"


def tradeoff_table(ends: Iterable[End], critical_lr: float | None, factor: float = 2.0) -> pl.DataFrame:
    """One row per learning rate, in order: lr, regime, and the fields of :class:`End`.

    The measurements of a run that diverged are null. ``factor`` is as in :func:`regime_of`.
    """
    rows = [
        {"lr": end.lr, "regime": regime_of(end.lr, critical_lr, end.diverged, end.sharpness, factor)}
        | {name: None if isinstance(v, float) and math.isnan(v) else v for name, v in vars(end).items() if name != "lr"}
        for end in sorted(ends, key=lambda end: end.lr)
    ]
    kinds = {"int": pl.Int64, "bool": pl.Boolean, "float": pl.Float64}
    types = {name: kinds[str(kind)] for name, kind in End.__annotations__.items()}
    return pl.DataFrame(rows, schema={"lr": pl.Float64, "regime": pl.String} | types)
