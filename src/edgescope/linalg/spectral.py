"""A spectrum as nodes and weights, and what is read off it: densities, sums over all eigenvalues, their errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from edgescope.cost import Cost
from edgescope.errors import InputError

Method = Literal["exact", "slq"]

_AT_ONCE = 64  # points of a density that are worked out together


@dataclass(frozen=True)
class SpectralSum:
    """A sum over all eigenvalues, with its standard error over probes (0 where exact, infinite for one probe)."""

    value: float
    error: float


@dataclass(frozen=True)
class Spectrum:
    """A spectral distribution: n ``nodes`` in ascending order, and ``weights`` that sum to 1.

    The number of eigenvalues in a region is ``size`` times the weight there. ``probe`` tells which random vector each
    node comes from (all 0 for an exact spectrum, whose nodes are the eigenvalues); all probes have the same weight, and
    standard errors are over them: 0 for one exact spectrum, infinite for a single probe.

    ``half`` is the spectrum of the same probes after half the steps, at no further product (None when exact): how far a
    figure moves between the two is its drift with depth, which a standard error over probes does not show.
    """

    nodes: Float[Tensor, " n"]
    weights: Float[Tensor, " n"]
    probe: Int[Tensor, " n"]
    size: int
    method: Method
    probes: int
    steps: int
    half: Spectrum | None = None
    products: int = 0
    cost: Cost = field(default_factory=Cost)
    seconds: float = 0.0

    def sum(self, function: Callable[[Float[Tensor, " n"]], Float[Tensor, " n"]]) -> SpectralSum:
        """The sum of ``function`` over all eigenvalues; it takes and returns a float64 vector.

        ``spectrum.sum(lambda a: (1 - lr * a).abs().log())`` is the volume contraction of a step of gradient descent.
        """
        values = torch.as_tensor(function(self.nodes), dtype=torch.float64)
        if values.shape != self.nodes.shape:
            raise InputError(
                f"a function that made {tuple(values.shape)} of eigenvalues of shape {tuple(self.nodes.shape)}",
                expected="one number for each",
            )
        mean, error = self._mean(values[:, None])
        return SpectralSum(self.size * float(mean), self.size * float(error))

    @property
    def trace(self) -> float:
        """The sum of the eigenvalues."""
        return self.sum(lambda nodes: nodes).value

    @property
    def trace_error(self) -> float:
        return self.sum(lambda nodes: nodes).error

    @property
    def log_determinant(self) -> float:
        """The logarithm of |det|, minus infinity where an eigenvalue is 0."""
        return self.sum(lambda nodes: nodes.abs().log()).value

    @property
    def log_determinant_error(self) -> float:
        return self.sum(lambda nodes: nodes.abs().log()).error

    def density(self, x: Float[Tensor, " x"], broadening: float | None = None) -> Float[Tensor, " x"]:
        """The density at the points ``x``, each node a Gaussian of standard deviation ``broadening``; integrates to 1.

        ``broadening`` has the unit of the eigenvalues; by default a hundredth of the range of the nodes.
        """
        return self._at(x, self._bells(broadening))[0]

    def density_error(self, x: Float[Tensor, " x"], broadening: float | None = None) -> Float[Tensor, " x"]:
        """The standard error over probes of the density at the points ``x``."""
        return self._at(x, self._bells(broadening))[1]

    def cumulative(self, x: Float[Tensor, " x"]) -> Float[Tensor, " x"]:
        """The share of the eigenvalues that are at most ``x``: between 0 and 1, in steps."""
        return self._at(x, lambda points: (self.nodes[:, None] <= points).double())[0]

    def cumulative_error(self, x: Float[Tensor, " x"]) -> Float[Tensor, " x"]:
        """The standard error over probes of the cumulative share at the points ``x``."""
        return self._at(x, lambda points: (self.nodes[:, None] <= points).double())[1]

    def merge(self, *others: Spectrum) -> Spectrum:
        """All probes of several spectra of one size as one spectrum, each probe with the same weight.

        Further probes of one operator (of another seed: the same probes twice would only look more certain), or the
        mean over the operators of several mini-batches, exact or sampled. Standard errors are then over all of them.
        """
        spectra = (self, *others)
        for name in ("size", "method"):
            found = list(dict.fromkeys(str(getattr(spectrum, name)) for spectrum in spectra))
            if len(found) > 1:
                raise InputError(f"spectra of different {name} merged ({', '.join(found)})", expected=f"one {name}")
        halves = [spectrum.half for spectrum in spectra if spectrum.half is not None]
        return replace(
            from_measures(
                [m for s in spectra for m in s.measures()], self.size, self.method, min(s.steps for s in spectra)
            ),
            half=halves[0].merge(*halves[1:]) if len(halves) == len(spectra) else None,
            products=sum(s.products for s in spectra),
            cost=sum((s.cost for s in others), self.cost),
            seconds=sum(s.seconds for s in spectra),
        )

    def measures(self) -> list[tuple[Float[Tensor, " m"], Float[Tensor, " m"]]]:
        """Nodes and weights of each probe on its own; the weights of one sum to 1."""
        masks = [self.probe == i for i in range(self.probes)]
        return [(self.nodes[mask], self.weights[mask] * self.probes) for mask in masks]

    def _bells(self, width: float | None) -> Callable[[Tensor], Tensor]:
        if width is None:
            reach = float(self.nodes[-1] - self.nodes[0])
            width = 0.01 * (reach or abs(float(self.nodes[0])) or 1.0)
        if not 0 < width < math.inf:
            raise InputError(f"a broadening of {width} for a density", expected="a positive number")
        scale = 1 / (width * math.sqrt(2 * math.pi))
        return lambda points: scale * torch.exp(-0.5 * ((points - self.nodes[:, None]) / width) ** 2)

    def _at(self, x: Float[Tensor, " x"], function: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        points = torch.as_tensor(x, dtype=torch.float64).flatten()
        if not bool(torch.isfinite(points).all()):
            raise InputError("points of a density that are NaN or infinite", expected="finite numbers")
        parts = [self._mean(function(some)) for some in points.split(_AT_ONCE)]
        return torch.cat([mean for mean, _ in parts]), torch.cat([error for _, error in parts])

    def _mean(self, values: Float[Tensor, "n x"]) -> tuple[Float[Tensor, " x"], Float[Tensor, " x"]]:
        """The mean over the distribution of each column, and its standard error over probes."""
        weighted = torch.where(self.weights[:, None] > 0, self.weights[:, None] * values, 0.0)
        by_probe = torch.zeros(self.probes, values.shape[1], dtype=torch.float64)
        by_probe.index_add_(0, self.probe, weighted * self.probes)
        mean = by_probe.mean(0)
        if self.probes == 1:
            return mean, torch.full_like(mean, 0.0 if self.method == "exact" else math.inf)
        return mean, (by_probe.std(0) / self.probes**0.5).nan_to_num(nan=math.inf)


def from_measures(
    measures: list[tuple[Float[Tensor, " m"], Float[Tensor, " m"]]], size: int, method: Method, steps: int
) -> Spectrum:
    """The spectrum of several probes, given nodes and weights of each (the weights of one sum to 1)."""
    nodes, order = torch.cat([nodes for nodes, _ in measures]).sort()
    return Spectrum(
        nodes=nodes,
        weights=torch.cat([weights for _, weights in measures])[order] / len(measures),
        probe=torch.cat([torch.full((len(nodes),), i) for i, (nodes, _) in enumerate(measures)])[order],
        size=size,
        method=method,
        probes=len(measures),
        steps=steps,
    )
