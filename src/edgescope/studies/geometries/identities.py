"""The claims that are identities: the loss change of every step, and descent on quadratics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float

from edgescope.statistics.estimate import Estimate
from edgescope.store import Record
from edgescope.studies.selection import Item, tagged
from edgescope.studies.sources import ISLAMOV
from edgescope.studies.study_run import StudyRun
from edgescope.studies.tables import steps_of
from edgescope.studies.tested_claim import Measured, Open, claim

PRECISION = {"float64": 2.0**-52, "float32": 2.0**-23}
ROUNDINGS = 100.0
"""Units of rounding of η|g|*² (normalized: η|g|*) that a predicted loss change may be off: sums of thousands of
products round by some tens."""


@dataclass(frozen=True, eq=False)
class Steps:
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
    def of(cls, run: StudyRun) -> Steps | None:
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
        return cls(
            run, first, second, actual, rounding, (table["note"] == "by differences").fill_null(False).to_numpy()
        )

    @property
    def precision(self) -> float:
        """Half a unit in the last place of 1, in the precision of the run."""
        return PRECISION[self.run.record.config["dtype"]]


@claim(
    "geometries.descent-identity",
    sentence="A step of descent changes the loss by -η(1 - ηD/2)|g|*², a normalized one by -η(|g|* - ηD/2)",
    source=ISLAMOV,
    quantity="largest miss over η|g|*² (normalized: η|g|*) of any step, beyond the rounding of the two losses",
    region=(0.0, 1e-8),
    origin="derived: an identity, to the tolerance given with the claim in float64",
    status="derived",
    each=tagged(role=("descent", "chen"), precision="float64").map(Steps.of),
    how="Every step whose D is resolved by differences of losses. D, the dual norm and the loss change are each "
    "measured by themselves, so that a step that is not the steepest one would break the identity.",
)
def descent_identity(steps: Steps) -> Measured | Open:
    kept = steps.by_differences
    if not kept.any():
        return Open("no step whose D is resolved by differences of losses", "larger steps")
    miss = np.abs(steps.first + steps.second - steps.actual)[kept]
    relative = np.maximum(miss - steps.rounding[kept], 0.0) / np.abs(steps.first[kept])
    return Measured(Estimate.exact(relative.max()), {"steps": float(kept.sum())})


@claim(
    "geometries.rises-exactly-above",
    sentence="The loss falls in a step exactly when D is at most the threshold",
    source=ISLAMOV,
    quantity="steps whose loss change has the wrong sign beyond rounding",
    region=(0, 0),
    origin="derived: an identity, for exact arithmetic",
    status="derived",
    unit="steps",
    each=tagged(role=("descent", "chen")).map(Steps.of),
    how="Steps whose measured change is lost in the rounding of the losses are left out. A wrong sign counts where the "
    f"predicted and the measured change differ by more than the rounding of the losses and {ROUNDINGS:g} units of "
    "rounding of η|g|*² (normalized: η|g|*), the term that nearly cancels at the threshold. The threshold of "
    "normalized methods is 2|g|*/η with the gradient of that step.",
)
def rises_exactly_above(steps: Steps) -> Measured | Open:
    clear = np.abs(steps.actual) > steps.rounding
    if not clear.any():
        return Open("every loss change is lost in rounding", "steps earlier in training")
    predicted = steps.first + steps.second
    wrong = clear & ((steps.actual > 0) != (predicted > 0))
    beyond = np.abs(predicted - steps.actual) > steps.rounding + ROUNDINGS * steps.precision * np.abs(steps.first)
    rose = float((clear & (steps.actual > 0)).sum())
    beside = {
        "steps compared": float(clear.sum()),
        "of them rises": rose,
        "wrong within rounding": float((wrong & ~beyond).sum()),
    }
    return Measured(Estimate.exact((wrong & beyond).sum()), beside)


@dataclass(frozen=True, eq=False)
class QuadraticRun:
    """Descent on one quadratic, just above and just below 2/S: norms and losses by step, over those of the start."""

    above: Float[np.ndarray, " n"]
    line: Float[np.ndarray, " n"]
    below: Float[np.ndarray, " n"]


def _quadratics(run: StudyRun) -> Sequence[Item[QuadraticRun]]:
    record: Record = run.record
    table = record.table().filter(pl.col("measure") == "quadratic").drop_nulls("value")
    names = sorted({part.partition("/")[2] for part in table["part"]})
    found = []
    for name in names:
        series = (record.series("quadratic", f"{kind}/{name}")[1] for kind in ("above", "line", "below"))
        geometry, _, draw = name.partition("/")
        found.append(Item(f"{geometry}, draw {draw}", QuadraticRun(*series), {"geometry": geometry}))
    return found


FORMS = "Random positive definite forms of 26 variables in two layers, 300 steps."
ABOVE = f"{FORMS} η is 2% above 2/d'Hd at the maximiser d that was found, where the run starts."
BELOW = (
    f"{FORMS} η is 2% below 2 over the certified upper end of S, so that it is below 2/S whatever the search missed."
)
EXACT = "exact in the paper"
EACH = tagged(role="quadratics").expand(_quadratics)


@claim(
    "geometries.quadratic-growth",
    sentence="On a quadratic, descent from the maximiser's line grows as |1 - ηS|^t where η exceeds 2/S",
    source=ISLAMOV,
    quantity="largest relative difference of the norm from |1 - ηS|^t",
    region=(0.0, 1e-6),
    origin=f"{EXACT}; 1e-6 for rounding after 300 steps",
    status="second hand",
    each=EACH,
    figure="quadratics",
    how=ABOVE,
)
def quadratic_growth(run: QuadraticRun) -> Estimate:
    return Estimate.exact(np.max(np.abs(run.above - run.line) / run.line))


@claim(
    "geometries.quadratic-diverges",
    sentence="On a quadratic, descent diverges from the maximiser's line where η exceeds 2/S",
    source=ISLAMOV,
    quantity="norm after 300 steps over the first",
    region=(100.0, np.inf),
    origin=f"{EXACT}: 1.04^300 is 130,000",
    status="second hand",
    each=EACH,
    figure="quadratics",
    how=ABOVE,
)
def quadratic_diverges(run: QuadraticRun) -> Estimate:
    return Estimate.exact(run.above[-1])


@claim(
    "geometries.quadratic-falls",
    sentence="On a quadratic, the loss falls at every step where η is below 2/S",
    source=ISLAMOV,
    quantity="largest rise of the loss in a step, over the first loss",
    region=(-np.inf, 0.0),
    origin=EXACT,
    status="second hand",
    each=EACH,
    figure="quadratics",
    how=BELOW,
)
def quadratic_falls(run: QuadraticRun) -> Estimate:
    return Estimate.exact(np.diff(run.below).max())


@claim(
    "geometries.quadratic-converges",
    sentence="On a quadratic, descent converges where η is below 2/S",
    source=ISLAMOV,
    quantity="loss after 300 steps over the first",
    region=(0.0, 0.01),
    origin=f"{EXACT}; 300 steps are enough for 1%",
    status="second hand",
    each=EACH,
    figure="quadratics",
    how=BELOW,
)
def quadratic_converges(run: QuadraticRun) -> Estimate:
    return Estimate.exact(run.below[-1])


IDENTITIES = (descent_identity, rises_exactly_above)
QUADRATICS = (quadratic_growth, quadratic_diverges, quadratic_falls, quadratic_converges)
