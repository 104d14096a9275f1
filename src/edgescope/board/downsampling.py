"""Long series made short for the page: the lowest and the highest reading of each stretch, so that no spike is lost."""

from __future__ import annotations

from typing import Final

import numpy as np
from jaxtyping import Float, Int

MOST_POINTS: Final = 800
"""Points of a line at most: about two for each pixel of its width."""


def downsample(
    steps: Int[np.ndarray, " n"], values: Float[np.ndarray, " n"], most: int = MOST_POINTS
) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """At most ``most`` (at least 8) readings of a series that is sorted by step, each as it was measured.

    Kept are the first and the last reading, and of each of some stretches of consecutive readings the lowest, the
    highest, and one that is not finite if there is any, so that the line has a gap there. A series that is short enough
    is returned whole. Cost: one pass.
    """
    if len(steps) <= most:
        return steps, values
    stretches = (most - 2) // 3
    edges = np.linspace(0, len(steps), stretches + 1).round().astype(np.int64)[:-1]
    finite = np.isfinite(values)
    stretch = np.repeat(np.arange(stretches), np.diff([*edges, len(steps)]))
    kept = [np.array([0, len(steps) - 1])]
    for extreme, fill in ((np.minimum, np.inf), (np.maximum, -np.inf)):
        filled = np.where(finite, values, fill)
        found = np.flatnonzero(finite & (filled == extreme.reduceat(filled, edges)[stretch]))
        kept.append(found[np.unique(stretch[found], return_index=True)[1]])
    lost = np.flatnonzero(~finite)
    kept.append(lost[np.unique(stretch[lost], return_index=True)[1]])
    chosen = np.unique(np.concatenate(kept))
    return steps[chosen], values[chosen]
