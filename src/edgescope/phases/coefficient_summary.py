"""The learning coefficient that sampled losses give, with its errors, or the reason why they give none."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.cost import Cost
from edgescope.linalg import Spectrum
from edgescope.objective import Objective
from edgescope.phases.chain_options import ChainOptions
from edgescope.phases.local_coefficient import HalfStep, LearningCoefficient, Status
from edgescope.phases.mixing import why_not_mixed
from edgescope.phases.sgld_edge import Localized
from edgescope.phases.sgld_run import SampledLosses
from edgescope.statistics import Estimate
from edgescope.statistics.markov_chains import ChainTrace

TELLING: Final = 0.05
"""The share of an estimate above which a loss that is not at a minimum is said."""


def summarize(
    objective: Objective,
    found: SampledLosses,
    target: Localized,
    options: ChainOptions,
    n: int,
    loss: float,
    gradient: Float[Tensor, " P"],
    spectrum: Spectrum | None,
    cost: Cost,
) -> LearningCoefficient:
    """The result of chains that began where the loss and its gradient are these."""
    losses, distances = found.losses, found.distances
    reason = "a chain diverged" if losses is None else why_not_mixed(found, target, loss)
    status: Status = "diverged" if losses is None else "not mixed" if reason else "mixed"
    value, error = Estimate(math.nan), math.nan
    between = within = drift = r_hat = r_hat_distance = distance = math.nan
    halves, independent = (math.nan, math.nan), 0.0
    chains = np.full(options.chains, math.nan)
    gain = float(gradient.double().square().sum()) / (2 * found.sharpness) if found.sharpness > 0 else 0.0
    if math.isfinite(found.lowest):
        gain = max(gain, loss - found.lowest)
    if losses is not None and distances is not None:
        between, within = target.scale * losses.error_between(), target.scale * losses.error_within()
        drift, r_hat, r_hat_distance = min(losses.drift(), distances.drift()), losses.r_hat(), distances.r_hat()
        first, second = (target.scale * (float(half.mean()) - loss) for half in losses.halves())
        halves, independent = (first, second), losses.independent()
        chains = target.scale * (losses.chain_means() - loss)
        distance = math.sqrt(float(distances.means.mean()))
        if status == "mixed":
            value, error = _coefficient(losses, target, loss), np.nanmax([between, within])
            reason = _caveats(value.value, float(error), target.scale * gain)
    elif options.step is not None:
        reason += f" at a step of {found.step:.3g}, where the edge is {target.edge(found.sharpness):.3g} or less"
    return LearningCoefficient(
        value=value.value,
        error=float(error),
        interval=value,
        status=status,
        reason=reason,
        error_between=between,
        error_within=within,
        half_step=_half_step(found, target, loss, value.value, float(error)),
        halves=halves,
        drift=drift,
        r_hat=r_hat,
        r_hat_distance=r_hat_distance,
        step_bias=target.step_bias(found.step, found.sharpness),
        quadratic=None if spectrum is None else _on(spectrum, target, found.step),
        quadratic_exact=None if spectrum is None else _on(spectrum, Localized(target.scale, 0.0), 0.0),
        batch_bias=found.batch_bias,
        above_minimum=target.scale * gain,
        independent=independent,
        steps=found.steps,
        burn_in=found.burn_in,
        relaxation=target.relaxation(found.step),
        step=found.step,
        edge=target.edge(found.sharpness),
        sharpness=found.sharpness,
        gamma=target.gamma,
        beta=target.scale / n,
        n=n,
        loss=loss,
        distance=distance,
        chains=chains,
        cost=cost,
        mode=objective.mode,
    )


def _coefficient(losses: ChainTrace, target: Localized, loss: float) -> Estimate:
    mean = losses.mean()
    low, value, high = (target.scale * (one - loss) for one in (mean.low, mean.value, mean.high))
    return Estimate(value, low, high, mean.samples, mean.sampled)


def _half_step(found: SampledLosses, target: Localized, loss: float, value: float, error: float) -> HalfStep | None:
    """None too where the first estimate has no value."""
    if found.half_step is None or math.isnan(value):
        return None
    second = _coefficient(found.half_step, target, loss).value
    its_error = target.scale * float(np.nanmax([found.half_step.error_between(), found.half_step.error_within()]))
    return HalfStep(second, its_error, 2 * second - value, math.hypot(2 * its_error, error))


def _on(spectrum: Spectrum, target: Localized, step: float) -> float:
    """The closed form of a quadratic with this spectrum; eigenvalues within its rounding of 0 count as 0."""
    nodes = spectrum.nodes
    tiny = 1e-6 * float(nodes.abs().max())

    def share(h: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return torch.tensor(
            [target.coefficient([one], step) if one > tiny else 0.0 for one in h.flatten().tolist()],
            dtype=h.dtype,
            device=h.device,
        ).reshape(h.shape)

    return float(spectrum.sum(share).value)


def _caveats(value: float, error: float, above: float) -> str:
    """What lets the number mean something else than a learning coefficient; empty where nothing does."""
    caveats = []
    if above > max(TELLING * abs(value), error):
        caveats.append(
            f"the loss is not at a minimum: n β times what it can fall by is {above:.3g} or more, which lowers the "
            "estimate; try to train on first"
        )
    if value < 0:
        caveats.append("the estimate is negative: the chains found lower losses on average than where they began")
    return "; ".join(caveats)
