"""Whether Langevin chains around a minimum have mixed: the reasons against it, in words."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import scipy

from edgescope.phases.sgld_edge import Localized
from edgescope.phases.sgld_run import SampledLosses

SHORTEST: Final = 0.99
"""The shortest burn-in and chains in relaxation times of flat directions: 1, less what rounding to steps takes."""

R_HAT: Final = 1.1
"""The largest split R-hat of the loss along chains that count as mixed (Gelman et al. 2013, sec. 11.5). The 1.01 of
Vehtari et al. 2021 needs 50 independent draws of half a chain, and refused all calls of the default length on a
quadratic with the spectrum of a network, whose values were all within their errors."""

CHANCE: Final = 1e-3
"""What mixed chains show with less probability than this, they are not taken to have shown by chance."""

SLACK: Final = 0.02
"""Halves that differ by a smaller share of the estimate are near enough, however small their errors are. This and
``APART`` were set after first runs had been refused; docs/learning_coefficient.md says on which problems all of these
limits were set, and how they did on others."""

APART: Final = 0.05
"""Half chains whose means spread by a smaller share are near enough whatever their R-hat is: the mean of 16 of them has
an error of 1.3% then. Distances of thousands of parameters fluctuate by a percent, beside which no drift is small."""


def largest_r_hat_of_distances(times: float, chains: int) -> float:
    """The split R-hat of squared distances that mixed chains exceed with a probability near ``CHANCE``.

    Of chains of ``times`` relaxation times of flat directions, which the distances forget in half of one: their
    autocorrelation is exp(-2 t), so that a mean over H = times/2 keeps the share c = (1 - (1 - exp(-2 H))/(2 H))/H of
    the variance, and R-hat² - 1 is c/(1 - c) times a chi-squared variable over its 2 ``chains`` - 1 degrees of freedom.
    At 8 times and 8 chains this is 1.30, and it is never below the limit of losses. Half chains are less normal than
    that: of simulated chains 0.3% exceed it there, with one flat direction alone 1%, and 1 to 3% with 2 times.
    """
    half, freedom = max(times, SHORTEST) / 2, 2 * chains - 1
    share = (1 - (1 - math.exp(-2 * half)) / (2 * half)) / half
    return max(R_HAT, math.sqrt(1 + share / (1 - share) * float(scipy.special.chdtri(freedom, CHANCE)) / freedom))


def why_not_mixed(found: SampledLosses, target: Localized, loss: float) -> str:
    """Why the chains have not mixed, in one line; empty where nothing speaks against it.

    Losses mix long before flat directions do, so that both the losses and the squared distances from the start are
    looked at, and chains shorter than the relaxation time of flat directions are refused whatever they look like.
    """
    relaxation, reasons = target.relaxation(found.step), []
    edge_share = found.step / target.edge(found.sharpness)
    slowest = max(relaxation, 0.5 / (1 - edge_share)) if edge_share < 1 else relaxation  # oscillations near the edge
    lengths = ((found.burn_in, found.burn_in_times, "burn-in"), (found.steps, found.steps / relaxation, "chains"))
    for steps, times, name in lengths:
        if times < SHORTEST:
            reasons.append(f"{name} of {steps:,} steps, below the {relaxation:,.0f} = 2/(εγ) that flat directions need")
    for trace, name in ((found.losses, "losses"), (found.distances, "distances from the start")):
        assert trace is not None
        chains = trace.means.shape[1]
        most = R_HAT if name == "losses" else largest_r_hat_of_distances(found.steps / slowest, chains)
        zero = loss if name == "losses" else 0.0
        first, second = (float(half.mean()) - zero for half in trace.halves())
        size = abs(float(trace.means.mean()) - zero)
        if trace.r_hat() > most and float(np.concatenate(trace.halves()).std(ddof=1)) > APART * size:
            reasons.append(f"R-hat of {name} is {trace.r_hat():.3f}, above {most:.3g}")
        if trace.drift() < CHANCE and abs(second - first) > SLACK * size:
            reasons.append(f"{name} drift: {first:.4g} over the first half of the chains, {second:.4g} over the second")
    if edge_share > 1:
        reasons.append(f"the step {found.step:.3g} is above the edge {target.edge(found.sharpness):.3g} of the sampler")
    return "; ".join(reasons)
