"""How far the loss rises on average when the parameters are disturbed at random."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import InputError, NotKnownError
from edgescope.measures.measure import Measure, Moment, Needs, Reading


@dataclass
class AverageSharpness(Measure):
    """E L(w + d) - L(w) for d normal of standard deviation ``rho`` times |w|, or ``rho`` itself with adaptive=false.

    The mean over ``pairs`` of disturbances d and -d, in which the slope of the loss cancels, drawn from ``seed`` anew
    at every step; its error is the standard error over pairs. For small rho it is rho² / 2 tr(C H C) with C = diag |w|
    (or the identity). The adaptive one does not change when weights are rescaled and the function is not.
    Cost: 2 ``pairs`` losses.
    """

    rho: float = 0.05
    adaptive: bool = True
    pairs: int = 10
    seed: int = 0

    name: ClassVar[str] = "average_sharpness"
    title: ClassVar[str] = "Average-case sharpness"
    unit: ClassVar[str] = "unit of the loss function"
    source: ClassVar[str] = "Andriushchenko et al. 2023 (arXiv 2302.07011)"
    needs: ClassVar[Needs] = "other points"

    def __post_init__(self) -> None:
        check_radius(self.name, self.rho)
        if self.pairs < 2:
            raise InputError(f"pairs={self.pairs} of average_sharpness", expected="at least 2, for a standard error")

    def read(self, moment: Moment) -> Reading:
        objective, w = moment.objective, moment.parameters
        here = float(objective.loss())
        scale = self.rho * disturbance_scale(w, self.adaptive)
        generator = torch.Generator().manual_seed(self.seed)
        rises = []
        for _ in range(self.pairs):
            d = scale * torch.randn(len(w), generator=generator, dtype=torch.float64).to(w)
            rises.append((float(objective.loss(w + d)) + float(objective.loss(w - d))) / 2 - here)
        if not all(map(math.isfinite, rises)):
            raise NotKnownError(f"the loss is not finite within rho={self.rho:g}", hint="a smaller rho")
        found = torch.tensor(rises, dtype=torch.float64)
        return Reading(self.name, {"": float(found.mean())}, {"": float(found.std()) / self.pairs**0.5})


def disturbance_scale(w: Float[Tensor, " P"], adaptive: bool) -> Float[Tensor, " P"]:
    """What a disturbance of each parameter is measured by: its own size, or 1."""
    return w.abs() if adaptive else torch.ones_like(w)


def check_radius(name: str, rho: float) -> None:
    if not (rho > 0 and math.isfinite(rho)):
        raise InputError(f"rho={rho} of {name}", expected="a positive finite number")
