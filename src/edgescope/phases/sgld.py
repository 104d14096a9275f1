"""Chains of stochastic gradient Langevin dynamics (SGLD) around a point, with a step set by their own edge."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import NotKnownError
from edgescope.linalg import top_eigenpairs
from edgescope.objective import Objective
from edgescope.objective.several_points import SeveralPoints
from edgescope.phases.sgld_edge import Localized
from edgescope.statistics.markov_chains import ChainTrace
from edgescope.transfers import send

PIECES: Final = 400
"""Pieces of a chain, of which means are kept: enough to see the autocorrelation of what moves slowly."""

ROUGH: Final = 0.05
"""The tolerance of eigenvalues that set a step."""

RESTARTS: Final = 30

LOOKED_AT: Final = 2
"""Chains at whose places eigenvalues are measured."""

Gradients = Callable[[Float[Tensor, "k P"]], tuple[Float[Tensor, " k"], Float[Tensor, "k P"]]]
Report = Callable[[int], None]


@dataclass(eq=False)
class Chains:
    """``k`` chains from ``start`` (float64), and what has been seen of them.

    ``gradients`` are others than those of all data, None for these. ``sharpness`` has the largest eigenvalues of the
    Hessian that were measured on the way, the largest over chains each time, of which the last ``recent`` set the step.
    ``lowest`` is the lowest loss of any draw, and ``passed`` the relaxation times of flat directions since the start.
    """

    objective: Objective
    target: Localized
    start: Float[Tensor, " P"]
    k: int
    seed: int
    gradients: Gradients | None = None
    sharpness: list[float] = field(default_factory=list)
    step: float = 0.0
    recent: int = 4
    lowest: float = math.inf
    passed: float = 0.0
    W: Float[Tensor, "k P"] = field(init=False)

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(self.seed)  # of the CPU, for the same chains on any device
        self._several = SeveralPoints(self.objective, self.k)
        self.restart()

    def restart(self) -> None:
        """All chains at the start again."""
        self.passed = 0.0
        self.W = self.start.repeat(self.k, 1)

    def largest_eigenvalue(self) -> float:
        """The largest eigenvalue of the Hessian of the loss at the places of the chains; cost: some products each."""
        found = -math.inf
        for w in torch.unique(self.W[:LOOKED_AT], dim=0):
            operator = self.objective.operator(w.to(self.objective.dtype))
            found = max(found, float(top_eigenpairs(operator, 1, tol=ROUGH).values[0]))
        self.sharpness.append(found)
        return found

    def burn_in(
        self, share: float, times: float, largest: float, check: Callable[[float], None], report: Report
    ) -> int:
        """Move for ``times`` relaxation times, at ``share`` of the edge; the number of steps this has taken.

        The eigenvalue that sets the step is measured after 1, 4, 16, ... steps and then twice a relaxation time, at the
        chains' own places: at a singular point the curvature is far below that where the chains go. Where they diverge,
        or meet a curvature of which their step was above the edge, they start again. The step that is left is that of
        the last ``recent`` measurements. ``check`` is called with every step and may raise.

        Raises :class:`NotKnownError` where no step is small enough.
        """
        floor, seen = max(largest, 0.0), [max(largest, 0.0)]
        taken, restarts, pace = 0, 0, 1
        while self.passed < times:
            kept = floor if self.passed < times / 2 else 0.0
            self.step = share * self.target.edge(max(*seen[-self.recent :], largest, kept))
            check(self.step)
            relaxation = self.target.relaxation(self.step)
            steps = max(1, min(pace, math.ceil(relaxation / 2), math.ceil((times - self.passed) * relaxation)))
            finite = self._move(steps)
            taken += steps
            report(steps)
            now = self.largest_eigenvalue() if finite else math.inf
            if not finite or self.step > self.target.edge(now):
                restarts += 1
                if restarts > RESTARTS:
                    raise NotKnownError(
                        f"the chains diverge at a step of {self.step:.3g}", hint="a larger gamma, or step= by hand"
                    )
                floor = now if finite else max(4 * floor, self.target.gamma / self.target.scale)
                self.restart()
                seen, pace = [floor], 1
                continue
            seen.append(now)
            pace *= 4
        self.step = share * self.target.edge(max(*seen[-self.recent :], largest))
        check(self.step)
        return taken

    def skip(self, steps: int, report: Report) -> bool:
        """Move with the step that is set; False where a chain diverges."""
        for piece in _pieces(steps):
            if not self._move(piece):
                return False
            report(piece)
        return True

    def draw(self, steps: int, report: Report) -> tuple[ChainTrace, ChainTrace] | None:
        """Losses and squared distances from the start along the chains, piece by piece; None where a chain diverges.

        The pieces are equally long: the number of steps is rounded up to a multiple of theirs.
        """
        length = max(1, steps // PIECES)
        number = math.ceil(steps / length)
        sums: list[list[Tensor]] = []
        for _ in range(number):
            kept = [torch.zeros(self.k, dtype=torch.float64, device=self.W.device) for _ in range(4)]
            if not self._move(length, kept):
                return None
            sums.append([one / length for one in kept])
            report(length)
        means = [np.stack([piece[part].cpu().numpy() for piece in sums]) for part in range(4)]
        return ChainTrace(means[0], means[1]), ChainTrace(means[2], means[3])

    def _move(self, steps: int, kept: list[Tensor] | None = None) -> bool:
        """Some steps of all chains; losses, distances and their squares before each are added to ``kept``."""
        half, size, dtype = self.step / 2, math.sqrt(self.step), self.objective.dtype
        gradients: Gradients = self.gradients or self._several
        lowest = torch.full((), math.inf, dtype=torch.float64, device=self.W.device)
        with self._several.ready(), torch.no_grad():
            for _ in range(steps):
                losses, found = gradients(self.W.to(dtype))
                away = self.W - self.start
                if kept is not None:
                    distance = away.square().sum(1)
                    for total, new in zip(kept, (losses, losses**2, distance, distance**2), strict=True):
                        total += new
                lowest = torch.minimum(lowest, losses.min())
                noise = torch.randn(self.W.shape, generator=self.generator, dtype=torch.float64, device="cpu")
                noise = self.objective._problem.masked(send(noise, self.W))
                self.W = self.W - half * (self.target.scale * found.double() + self.target.gamma * away) + size * noise
        self.passed += steps / self.target.relaxation(self.step)
        if not bool(torch.isfinite(self.W).all()) or not bool(torch.isfinite(lowest)):
            return False
        if kept is not None:
            self.lowest = min(self.lowest, float(lowest))
        return True


def _pieces(steps: int) -> Iterator[int]:
    whole, rest = divmod(steps, max(1, steps // PIECES))
    yield from (max(1, steps // PIECES) for _ in range(whole))
    if rest:
        yield rest
