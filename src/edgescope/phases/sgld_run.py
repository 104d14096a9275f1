"""One run of Langevin chains around a minimum: burn-in, draws, and a second run with half the step where asked."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from edgescope.errors import NotKnownError
from edgescope.objective import Objective
from edgescope.phases.chain_options import ChainOptions
from edgescope.phases.sgld import Chains
from edgescope.phases.sgld_batches import BatchGradients
from edgescope.phases.sgld_edge import Localized
from edgescope.progress import Progress
from edgescope.statistics.markov_chains import ChainTrace


@dataclass(frozen=True, eq=False)
class SampledLosses:
    """Losses and squared distances from the start along chains; both None where a chain diverged.

    ``half_step`` are the losses of the second run. ``burn_in_times`` is the length of the burn-in in relaxation times
    of flat directions. ``sharpness`` is the largest eigenvalue of the Hessian where the chains went, ``lowest`` the
    lowest loss of a draw (infinite for mini-batches, whose losses are not those of the data), and ``batch_bias`` what
    the noise of mini-batches adds to the estimate at most.
    """

    losses: ChainTrace | None
    distances: ChainTrace | None
    half_step: ChainTrace | None
    step: float
    steps: int
    burn_in: int
    burn_in_times: float
    sharpness: float
    lowest: float
    batch_bias: float | None


def sample(
    objective: Objective,
    target: Localized,
    start: Float[Tensor, " P"],
    loss: float,
    largest: float,
    options: ChainOptions,
    progress: Progress,
) -> SampledLosses:
    """Chains from ``start``, where the loss is ``loss`` and its largest curvature ``largest``."""
    batches = None
    if options.batch is not None:
        batches = BatchGradients(objective, options.batch, options.seed, start, loss)
    chains = Chains(objective, target, start.double(), options.chains, options.seed, batches, [largest])
    taken = 0

    def refuse_long(step: float) -> None:
        """Raise where the whole run takes more steps than it may."""
        needed = math.ceil((options.times + options.burn_in) * target.relaxation(step))
        if needed > options.max_steps:
            raise NotKnownError(_too_long(needed, step, target, options), hint=_shorter(needed, target, options))

    def tell(total: int, phase: str) -> Callable[[int], None]:
        def one(steps: int) -> None:
            nonlocal taken
            taken += steps
            progress(min(taken / total, 1.0), phase)

        return one

    def length(times: float) -> int:
        return math.ceil(times * target.relaxation(chains.step))

    def result(losses: ChainTrace | None, distances: ChainTrace | None, half: ChainTrace | None) -> SampledLosses:
        if batches is not None:
            batches.settle()
        return SampledLosses(
            losses,
            distances,
            half,
            step,
            steps,
            burned,
            burn_in_times,
            max(chains.sharpness[-chains.recent :]),
            chains.lowest if batches is None else math.inf,
            None if batches is None else batches.bias(target, step),
        )

    total = options.max_steps
    if options.step is None:
        burned = chains.burn_in(options.share, options.burn_in, largest, refuse_long, tell(total, "burn-in"))
        step, moved = chains.step, True
    else:
        step = chains.step = options.step
        refuse_long(step)
        burned = length(options.burn_in)
        moved = chains.skip(burned, tell(total, "burn-in"))
    burn_in_times = chains.passed
    steps = length(options.times)
    total = taken + (steps if not options.half_step else 3 * steps)
    drawn = chains.draw(steps, tell(total, "draws")) if moved else None
    if drawn is None:
        return result(None, None, None)
    chains.largest_eigenvalue()
    half = None
    if options.half_step:
        lowest = chains.lowest
        chains.step = step / 2
        if chains.skip(length(1.0), tell(total, "half the step")):
            second = chains.draw(length(options.times), tell(total, "half the step"))
            half = None if second is None else second[0]
        chains.lowest = min(lowest, chains.lowest)
    return result(*drawn, half)


def _too_long(needed: int, step: float, target: Localized, options: ChainOptions) -> str:
    return (
        f"{needed:,} steps of {options.chains} chains ({options.burn_in:g} + {options.times:g} times the "
        f"{target.relaxation(step):,.0f} = 2/(εγ) that flat directions need) are more than max_steps="
        f"{options.max_steps:,}"
    )


def _shorter(needed: int, target: Localized, options: ChainOptions) -> str:
    """A gamma with which the steps are as many as they may be, where the step is a share of the edge."""
    if options.step is not None:
        return f"max_steps={needed}"
    least = (options.times + options.burn_in) / (2 * options.share)
    curvature = (needed / least - 1) * target.gamma
    left = options.max_steps / least - 1
    gamma = f"gamma={1.01 * curvature / left:.3g}, which lowers the estimate, or " if left > 0 else ""
    return f"{gamma}max_steps={needed}"
