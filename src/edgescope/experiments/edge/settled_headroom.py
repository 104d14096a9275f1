"""Where the headroom of steps settles: the later readings of a run, once the loss rises right behind a step."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from edgescope.claims import Open
from edgescope.experiments.study_run import StudyRun
from edgescope.experiments.threshold_series import AT_LEAST

REACHED = 0.9
"""The loss is said to rise right behind a step where one over the headroom is at least this."""


def settled_headroom(run: StudyRun) -> Float[np.ndarray, " n"] | Open:
    """One over the headroom, in the second half of the readings from the first one that is at least ``REACHED``.

    The first half is left out, since momentum and averages of gradients follow a change of the steps with delay. Steps
    that lead uphill have no headroom, and no reading here.
    """
    steps, values = run.record.series("headroom", "ratio")
    steps, values = steps[np.isfinite(values)], values[np.isfinite(values)]
    reached = np.flatnonzero(values >= REACHED)
    if not reached.size:
        highest = f"{values.max():.3g}" if values.size else "no reading"
        return Open(f"the loss never rises right behind a step (highest 1/s* {highest})", "a larger learning rate")
    after = values[reached[0] :]
    short = 2 * AT_LEAST - after.size
    if short > 0:
        more = short * (float(np.median(np.diff(steps))) if steps.size > 1 else 1.0)
        return Open(
            f"{after.size} readings after arrival, {2 * AT_LEAST} needed",
            f"about {more:,.0f} more steps",
            float(np.median(after[after.size // 2 :])),
        )
    return after[after.size // 2 :]
