"""The mean rise of the loss under random perturbations of the parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.cost import Cost
from edgescope.errors import NotKnownError
from edgescope.measures.base import Measure, Moment, Needs
from edgescope.measures.problem_size import ProblemSize
from edgescope.measures.reading import Reading
from edgescope.options import check_fields, integer, real


@dataclass
class AverageSharpness(Measure):
    """E L(w + d) - L(w) for d normal of standard deviation ``rho`` times |w|, or ``rho`` itself with adaptive=false.

    The mean over ``pairs`` of perturbations d and -d, in which the slope of the loss cancels, the same draws from
    ``seed`` at every step; its error is the standard error over pairs. For small rho it is rho² / 2 tr(C H C) with C =
    diag |w| (or the identity). The adaptive one does not change when weights are rescaled and the function is not.
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
        check_fields(self, f"measure '{self.name}'", rho=real(above=0), pairs=integer(2))

    def expected_cost(self, size: ProblemSize) -> Cost:
        return Cost(losses=2 * self.pairs)

    def read(self, moment: Moment) -> Reading:
        objective, w = moment.objective, moment.parameters
        here = float(objective.loss())
        scale = self.rho * perturbation_scale(w, self.adaptive)
        generator = torch.Generator().manual_seed(self.seed)
        rises = []
        for _ in range(self.pairs):
            d = scale * torch.randn(len(w), generator=generator, dtype=torch.float64, device="cpu").to(w)
            rises.append((float(objective.loss(w + d)) + float(objective.loss(w - d))) / 2 - here)
        if not all(map(math.isfinite, rises)):
            raise NotKnownError(f"the loss is not finite within rho={self.rho:g}", hint="a smaller rho")
        found = torch.tensor(rises, dtype=torch.float64, device="cpu")
        return Reading(self.name, {"": float(found.mean())}, {"": float(found.std()) / self.pairs**0.5})


def perturbation_scale(w: Float[Tensor, " P"], adaptive: bool) -> Float[Tensor, " P"]:
    """The unit in which a perturbation of each parameter is measured: its own size, or 1."""
    return w.abs() if adaptive else torch.ones_like(w)
