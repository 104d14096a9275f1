"""How far the loss rises at the worst point near the parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.cost import Cost
from edgescope.errors import NotKnownError
from edgescope.geometry import Euclidean, Geometry, Linf
from edgescope.linalg.scaling import lengths_of
from edgescope.measures.average_sharpness import perturbation_scale
from edgescope.measures.base import Measure, Moment, Needs
from edgescope.measures.problem_size import ProblemSize
from edgescope.measures.reading import Reading
from edgescope.memory import require
from edgescope.objective import Objective
from edgescope.options import check_fields, integer, real

_SETTLED = 1e-3  # of the rise: when the linearised loss gains no more within the ball, a climb ends
_GROW, _SHRINK = 2.0, 0.25  # of the step after one that gained, and after one that did not


@dataclass
class WorstCaseSharpness(Measure):
    """The largest L(w + d) - L(w) with ||d / |w||| at most ``rho`` in the norm l2 or linf; adaptive=false: with ||d||.

    Projected gradient ascent from the steepest direction and from ``restarts`` - 1 random ones (``seed``), each of at
    most ``iterations`` gradients; the highest loss found, so a lower bound of the maximum. Its error is what the
    linearised loss there could still gain within the ball, 0 where the ascent has converged (at a maximum, or a
    stationary point that is none). For small rho and l2 it is rho² / 2 times the largest eigenvalue of C H C, C = diag
    |w| (or the identity), plus rho ||C g||. Taken on all data at once, not as a mean over batches; parameters that are
    0 stay 0 in the adaptive one. Usual radii: 0.5 (l2) and 0.002 (linf) adaptive, 0.05 (l2) else.
    Cost: at most ``restarts * iterations`` gradients, and a few more.
    """

    rho: float = 0.5
    norm: Literal["l2", "linf"] = "l2"
    adaptive: bool = True
    iterations: int = 20
    restarts: int = 2
    seed: int = 0

    name: ClassVar[str] = "worst_case_sharpness"
    title: ClassVar[str] = "Worst-case sharpness"
    unit: ClassVar[str] = "unit of the loss function"
    source: ClassVar[str] = (
        "Andriushchenko et al. 2023 (arXiv 2302.07011); adaptive: Kwon et al. 2021 (arXiv 2102.11600)"
    )
    needs: ClassVar[Needs] = "other points"

    def __post_init__(self) -> None:
        check_fields(
            self,
            f"measure '{self.name}'",
            rho=real(above=0),
            iterations=integer(1),
            restarts=integer(1),
        )

    def check_problem(self, size: ProblemSize) -> None:
        # The random starts are drawn together, in float64, and turned to the precision of the parameters.
        needed = self.restarts * size.parameters * (8 + size.itemsize)
        require(needed, f"measure '{self.name}' with {self.restarts:,} restarts", hint="fewer restarts")

    def expected_cost(self, size: ProblemSize) -> Cost:
        return Cost(gradients=self.restarts * self.iterations)

    def read(self, moment: Moment) -> Reading:
        objective, w = moment.objective, moment.parameters
        self.check_problem(ProblemSize(len(w), itemsize=w.element_size()))
        surface = _Surface(objective, w, perturbation_scale(w, self.adaptive))
        ball = _Ball(Linf() if self.norm == "linf" else Euclidean(), self.rho)
        here, slope = surface.at(torch.zeros_like(w))
        generator = torch.Generator().manual_seed(self.seed)
        random = torch.randn(self.restarts, len(w), generator=generator, dtype=torch.float64, device="cpu").to(w)
        starts = [slope, *random[1:]] if bool(slope.any()) else list(random)
        ends = [self._climb(surface, ball, start) for start in starts]
        rise, gain = max((loss - here, gain) for loss, gain in ends)
        return Reading(self.name, {"": rise}, {"": gain})

    def _climb(self, surface: _Surface, ball: _Ball, towards: Float[Tensor, " P"]) -> tuple[float, float]:
        """The loss where a climb from the boundary in this direction ends, and what it could still gain there."""
        place = ball.farthest(towards)
        loss, slope = surface.at(place)
        step = ball.long_step(slope)
        for _ in range(self.iterations - 1):
            if ball.gain(place, slope) <= _SETTLED * abs(loss - surface.centre_loss):
                break
            tried = ball.nearest(place + step * slope)
            tried_loss, tried_slope = surface.at(tried)
            if tried_loss > loss:
                place, loss, slope, step = tried, tried_loss, tried_slope, _GROW * step
            else:
                step *= _SHRINK
        return loss, ball.gain(place, slope)


class _Surface:
    """The loss as a function of perturbations u = d / scale, and its gradient."""

    def __init__(self, objective: Objective, centre: Float[Tensor, " P"], scale: Float[Tensor, " P"]) -> None:
        self._objective, self._centre, self._scale = objective, centre, scale
        self.centre_loss = float(objective.loss())

    def at(self, u: Float[Tensor, " P"]) -> tuple[float, Float[Tensor, " P"]]:
        place = self._centre + self._scale * u
        slope = self._scale * self._objective.gradient(place)
        loss = float(self._objective.loss(place))
        if not (math.isfinite(loss) and bool(torch.isfinite(slope).all())):
            raise NotKnownError("the loss is not finite within rho", hint="a smaller rho")
        return loss, slope


@dataclass(frozen=True)
class _Ball:
    """The ball of radius rho in the maximum or the Euclidean norm."""

    geometry: Geometry
    rho: float

    def farthest(self, direction: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
        """Where a linear function with this slope is largest."""
        return self.rho * self.geometry.steepest(direction)

    def nearest(self, u: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
        """The point of the ball next to ``u``."""
        if isinstance(self.geometry, Linf):
            return u.clamp(-self.rho, self.rho)
        return u * min(1.0, self.rho / max(float(self.geometry.norm(u)), 1e-300))

    def gain(self, u: Float[Tensor, " P"], slope: Float[Tensor, " P"]) -> float:
        """How much larger than at ``u`` a linear function with this slope gets."""
        return max(self.rho * float(self.geometry.dual_norm(slope)) - float(slope @ u), 0.0)

    def long_step(self, slope: Float[Tensor, " P"]) -> float:
        """A step along the slope that crosses the ball several times."""
        across = self.rho * self.geometry.squared_radius(len(slope)) ** 0.5
        return 10 * across / max(float(lengths_of(slope, dim=0)), 1e-300)
