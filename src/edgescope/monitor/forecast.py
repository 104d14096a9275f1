"""What a reading is expected to take, from one timed gradient, before any is taken."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from edgescope.arithmetic import in_plain_arithmetic
from edgescope.cost import Cost
from edgescope.measures import Measure
from edgescope.measures.problem_size import ProblemSize
from edgescope.notebooks import in_notebooks
from edgescope.objective import Objective

PREPARATION: Final = 5
"""Gradients that an objective takes once, to check second derivatives and to choose how to compute them."""

FROM_NOTHING: Final = 12
"""Products that a measure of eigenvalues takes beyond those along a run where it has nothing to start from.

In 18 first updates of trackers of 1, 3 and 6 pairs (a perceptron, a convolutional network and a transformer, at the
start and 20 steps later) they were -4 to 18, with means of 12, 12 and 9: in all 13 to 24, 19 to 28, and 27 to 36.
"""

LONG = 1.0
"""Seconds above which a gradient is timed only once."""


@in_notebooks
@dataclass(frozen=True)
class Forecast:
    """The expected cost of a reading of each measure that the monitor takes on its usual schedule.

    ``gradient_seconds`` is what one gradient over all data took; all else follows from the numbers of gradients that
    the measures usually need, within a factor of 2 or so. ``gradients`` are those of a reading along the run, by the
    name of the measure; one that takes over what another has found costs nothing. ``first`` are those of the first
    reading, which prepares the objective and starts every eigenvector from nothing.
    """

    gradient_seconds: float
    gradients: dict[str, float]
    first: float

    @property
    def seconds(self) -> float:
        """Of one reading along the run."""
        return self.gradient_seconds * sum(self.gradients.values())

    @property
    def first_seconds(self) -> float:
        """Of the first reading."""
        return self.gradient_seconds * self.first

    def __str__(self) -> str:
        along = sum(self.gradients.values())
        return (
            f"a reading is expected to take {_time(self.seconds)} ({along:.2g} times a gradient, which takes"
            f" {_time(self.gradient_seconds)}), and the first one {_time(self.first_seconds)}"
        )


@in_plain_arithmetic
def forecast_reading(objective: Objective, measures: Sequence[Measure], prepared: bool = False) -> Forecast:
    """Time one gradient, and multiply it with what the ``measures`` are expected to need.

    ``prepared`` says that the objective has given a product before. Cost: one loss, and two gradients, the first of
    which may have to load something; or one that takes longer than ``LONG``.
    """
    objective.loss()  # the first evaluation of a process takes longer
    seconds = _gradient_seconds(objective)
    if seconds < LONG:
        seconds = min(seconds, _gradient_seconds(objective))
    size = ProblemSize(objective.size, objective.samples)
    names = {measure.name for measure in measures}
    gradients, first = {}, 0.0
    for measure in measures:
        shared = names.intersection(measure.uses)
        each = 0.0 if shared else measure.expected_cost(size).in_gradients()
        gradients[measure.name] = each
        first += each
        if measure.needs == "products" and not shared:
            first += Cost(products=FROM_NOTHING).in_gradients()
    if not prepared and any(measure.needs == "products" for measure in measures):
        first += PREPARATION
    return Forecast(seconds, gradients, first)


def _gradient_seconds(objective: Objective) -> float:
    """What a gradient takes, whatever is known of this place."""
    objective.release()
    began = time.perf_counter()
    objective.gradient()
    return time.perf_counter() - began


def _time(seconds: float) -> str:
    """Seconds in a unit in which they are easy to read, to two digits or so."""
    if seconds < 0.1:
        return f"{1000 * seconds:.{0 if seconds >= 0.01 else 1}f} ms"
    return f"{seconds:.{1 if seconds < 10 else 0}f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
