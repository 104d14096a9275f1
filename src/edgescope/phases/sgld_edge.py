"""The edge of stability of Langevin sampling: its largest step, and what a finite step does to the estimate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Localized:
    """The density exp(-scale L(w) - gamma |w - w*|²/2), with ``scale`` = n β: what the chains sample."""

    scale: float
    gamma: float

    def curvature(self, eigenvalue: float) -> float:
        """The curvature of the negative log density along an eigenvector of the Hessian of L."""
        return self.scale * eigenvalue + self.gamma

    def edge(self, largest: float) -> float:
        """The step above which w - (ε/2) ∇(-log density) + sqrt(ε) ξ diverges, where the largest eigenvalue is this."""
        return 4 / self.curvature(max(largest, 0.0))

    def relaxation(self, step: float) -> float:
        """Steps in which a flat direction, held by gamma alone, forgets where it began: 2/(ε γ)."""
        return 2 / (step * self.gamma)

    def coefficient(self, eigenvalues: Sequence[float] | Float[np.ndarray, " P"], step: float = 0.0) -> float:
        """What SGLD of this step estimates on a quadratic with these eigenvalues h: ½ Σ scale h / [a (1 - ε a/4)].

        a = scale h + gamma; step 0 is the exact average, and gamma 0 beside it half the rank. Infinite above the edge.
        Negative eigenvalues count as 0, since the quadratic has no minimum along their directions.
        """
        h = np.asarray(eigenvalues, dtype=float)
        h = h[h > 0]
        a = self.scale * h + self.gamma
        left = 1 - step * a / 4
        if (left <= 0).any():
            return float("inf")
        return float((0.5 * self.scale * h / (a * left)).sum())

    def step_bias(self, step: float, largest: float) -> float:
        """By which share a step raises the estimate at most, on a quadratic: r/(1 - r), r the step over the edge."""
        r = step / self.edge(largest)
        return r / (1 - r) if r < 1 else float("inf")
