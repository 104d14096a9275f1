"""Whether Langevin chains around a minimum have mixed: the reasons against it, in words."""

from __future__ import annotations

from typing import Final

import numpy as np

from edgescope.phases.sgld_edge import Localized
from edgescope.phases.sgld_run import SampledLosses

R_HAT: Final = {"losses": 1.1, "distances from the start": 1.3}
"""The largest split R-hat of chains that count as mixed. Distances have a few independent values in a chain alone, of
which the larger one allows for."""

CHANCE: Final = 1e-3
"""Halves that differ as much with less probability than this count as different."""

SLACK: Final = 0.02
"""Halves that differ by a smaller share of the estimate are near enough, however small their errors are."""

APART: Final = 0.05
"""Half chains whose means spread by a smaller share are near enough whatever their R-hat is: of thousands of parameters
the distance fluctuates by a percent, beside which no drift is small."""


def why_not_mixed(found: SampledLosses, target: Localized, loss: float) -> str:
    """Why the chains have not mixed, in one line; empty where nothing speaks against it.

    Losses mix long before flat directions do, so that both the losses and the squared distances from the start are
    looked at, and chains shorter than the relaxation time of flat directions are refused whatever they look like.
    """
    relaxation, reasons = target.relaxation(found.step), []
    lengths = ((found.burn_in, found.burn_in_times, "burn-in"), (found.steps, found.steps / relaxation, "chains"))
    for steps, times, name in lengths:
        if times < 0.99:
            reasons.append(f"{name} of {steps:,} steps, below the {relaxation:,.0f} = 2/(εγ) that flat directions need")
    for trace, (name, most) in zip((found.losses, found.distances), R_HAT.items(), strict=True):
        assert trace is not None
        zero = loss if name == "losses" else 0.0
        first, second = (float(half.mean()) - zero for half in trace.halves())
        size = abs(float(trace.means.mean()) - zero)
        if trace.r_hat() > most and float(np.concatenate(trace.halves()).std(ddof=1)) > APART * size:
            reasons.append(f"R-hat of {name} is {trace.r_hat():.3f}, above {most}")
        if trace.drift() < CHANCE and abs(second - first) > SLACK * size:
            reasons.append(f"{name} drift: {first:.4g} over the first half of the chains, {second:.4g} over the second")
    if found.step > target.edge(found.sharpness):
        reasons.append(f"the step {found.step:.3g} is above the edge {target.edge(found.sharpness):.3g} of the sampler")
    return "; ".join(reasons)
