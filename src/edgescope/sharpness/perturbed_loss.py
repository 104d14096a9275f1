"""The loss at perturbed weights: rounded to few bits, and with noise in proportion to each tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.arithmetic import in_plain_arithmetic
from edgescope.cost import Cost
from edgescope.errors import InputError
from edgescope.notebooks import in_notebooks
from edgescope.objective import Objective
from edgescope.options import checked, each, integer, real
from edgescope.statistics import Estimate
from edgescope.statistics.means import sample_mean

MOST_BITS = 16
"""More bits than these resolve less than single precision does."""


@in_notebooks
@dataclass(frozen=True)
class PerturbedLoss:
    """The loss at perturbed weights, and by how much it exceeds that at the weights themselves.

    ``kind`` is "rounding" or "noise", and ``amount`` the bits of a weight, or the noise relative to the root mean
    square of each tensor. ``increase`` is exact for rounding, where ``draws`` is 1; for noise it is a mean over
    ``draws`` pairs of opposite perturbations with the 95% interval of Student's t. ``distance`` is the length of the
    perturbation over that of the weights. ``mode`` is that of the objective.
    """

    kind: Literal["rounding", "noise"]
    amount: float
    loss: float
    increase: Estimate
    distance: float
    draws: int
    cost: Cost
    mode: str | None = None


@checked(bits=each(integer(2, MOST_BITS)), noise=each(real(above=0)), draws=integer(2), seed=integer(0))
@in_plain_arithmetic
def perturbed_losses(
    objective: Objective,
    *,
    bits: Sequence[int] = (4,),
    noise: Sequence[float] = (0.01, 0.05),
    draws: int = 8,
    seed: int = 0,
) -> tuple[PerturbedLoss, ...]:
    """The loss where weights are rounded to ``bits``, and where ``noise`` is added, beside that at the weights.

    Rounding is to the nearest of 2^bits - 1 equally spaced values, symmetric about zero, with one scale for each output
    (the largest weight of a row); biases and gains, tensors of one dimension, stay as they are, as is usual where
    only weights are quantized. Noise is Gaussian, with a standard deviation of ``noise`` times the root mean square of
    each tensor, so that rescaling a layer changes nothing, in which it differs from the Hessian's sharpness; half of
    it is drawn, and the other half is its opposite, so that the slope drops out of the mean.

    Cost: one loss, one for each of ``bits``, and 2 ``draws`` losses for each of ``noise``. Model and objective are
    left as they are. Raises :class:`InputError` for numbers that cannot be used, and a loss that is not finite at the
    weights themselves; where it is not finite at perturbed ones, the increase is infinite.
    """
    spent = objective.spent
    weights = objective.parameters()
    before = float(objective.loss())
    if not math.isfinite(before):
        raise InputError(f"at these weights the loss is {before:g}", expected="a finite loss")
    norm, found = float(weights.double().norm()), []
    for number in bits:
        rounded = objective.layout.join([round_rows(piece, number) for piece in objective.layout.split(weights)])
        loss = _loss(objective, rounded)
        distance = _relative(rounded - weights, norm)
        cost, spent = objective.spent - spent, objective.spent
        increase = Estimate.exact(loss - before)
        found.append(PerturbedLoss("rounding", float(number), loss, increase, distance, 1, cost, objective.mode))
    for size in noise:
        generator = torch.Generator().manual_seed(seed)
        losses, lengths = [], []
        for _ in range(draws):
            shift = size * scaled_noise(objective, weights, generator)
            losses.append((_loss(objective, weights + shift) + _loss(objective, weights - shift)) / 2)
            lengths.append(_relative(shift, norm))
        cost, spent = objective.spent - spent, objective.spent
        increase = _mean_increase(losses, before)
        loss, distance = before + increase.value, float(np.mean(lengths))
        found.append(PerturbedLoss("noise", size, loss, increase, distance, draws, cost, objective.mode))
    return tuple(found)


def round_rows(weights: Float[Tensor, "*shape"], bits: int) -> Float[Tensor, "*shape"]:
    """Each row of a tensor of two or more dimensions, rounded to 2^bits - 1 values about zero; others as they are."""
    if weights.ndim < 2 or not weights.numel():
        return weights
    rows = weights.flatten(1)
    most = 2 ** (bits - 1) - 1
    scale = rows.abs().amax(dim=1, keepdim=True) / most
    nearest = torch.where(scale > 0, (rows / scale).round(), 0.0)
    return (nearest * scale).view(weights.shape)


def scaled_noise(objective: Objective, weights: Float[Tensor, " P"], generator: torch.Generator) -> Float[Tensor, " P"]:
    """Gaussian noise, in each tensor of the size of its root mean square."""
    drawn = torch.randn(len(weights), generator=generator, dtype=weights.dtype, device="cpu").to(weights.device)
    sizes = [piece.double().square().mean().sqrt() for piece in objective.layout.split(weights)]
    pieces = objective.layout.split(drawn)
    return objective.layout.join([piece * size.to(piece.dtype) for piece, size in zip(pieces, sizes, strict=True)])


def _loss(objective: Objective, weights: Float[Tensor, " P"]) -> float:
    loss = float(objective.loss(weights))
    return loss if math.isfinite(loss) else math.inf


def _relative(shift: Float[Tensor, " P"], norm: float) -> float:
    return float(shift.double().norm()) / norm if norm > 0 else math.nan


def _mean_increase(losses: list[float], before: float) -> Estimate:
    if not all(map(math.isfinite, losses)):
        return Estimate(math.inf, samples=len(losses), sampled="draws")
    return sample_mean([loss - before for loss in losses], "draws")
