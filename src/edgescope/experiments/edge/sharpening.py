"""How the sharpness rises on the way to the threshold, and gradient flow from the same parameters beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from edgescope.experiments.selection import Item, run_tagged, tagged
from edgescope.experiments.study_run import Runs, StudyRun
from edgescope.experiments.threshold_series import ThresholdSeries


def rising_sharpness(run: StudyRun) -> Float[np.ndarray, " n"]:
    """The readings of the sharpness from the lowest one before arrival at the threshold up to arrival."""
    _, sharpness = run.record.series("sharpness", "1")
    end = ThresholdSeries.of(run).arrival
    before = sharpness[: end + 1] if end is not None else sharpness
    return before[int(np.argmin(before)) :]


@dataclass(frozen=True)
class BesideFlow:
    """A run of gradient descent, and gradient flow from the same parameters."""

    descent: StudyRun
    flow: StudyRun


def beside_flow(runs: Runs) -> list[Item[BesideFlow]]:
    """Every run of gradient descent on the network of the flow, one case each."""
    flow = run_tagged(runs, method="flow")
    if flow is None:
        return []
    found = tagged(method="gd", network=flow.tags["network"])(runs)
    return [Item(item.name, BesideFlow(item.value, flow), item.factors) for item in found]
