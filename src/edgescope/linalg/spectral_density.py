"""A spectrum as nodes and weights, with densities and sums over all eigenvalues, and their standard errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from edgescope.cost import Cost
from edgescope.errors import InputError
from edgescope.linalg.nodes import Nodes, variance_over_probes
from edgescope.notebooks import in_notebooks

Method = Literal["exact", "slq"]

AtPoints = Callable[[Float[Tensor, " n"], Float[Tensor, " x"]], Float[Tensor, "n x"]]
"""A function of nodes and of points."""

_POINTS_AT_A_TIME = 64  # of a density, which limits the memory


@dataclass(frozen=True)
class SpectralSum:
    """A sum over all eigenvalues, with one standard error ``error`` as described in :class:`Spectrum`."""

    value: float
    error: float


@in_notebooks
@dataclass(frozen=True)
class Spectrum:
    """A spectral distribution: n ``nodes`` in ascending order, and ``weights`` that sum to 1.

    The number of eigenvalues in an interval is ``size`` times the weight in it. ``probe`` is the index of the random
    vector (probe) that each node comes from; all are 0 for an exact spectrum, whose nodes are the eigenvalues. All
    probes have the same weight. ``spread`` is the distance within which the eigenvalues lie that a node represents; the
    weights of ``known`` nodes are exact. ``rounding`` is the possible error of an eigenvalue due to the precision of
    the products. All of these but weights have the unit of the eigenvalues. ``member`` is the index of the spectrum
    that each probe belonged to before spectra were merged. ``probes`` and ``steps`` are the numbers of random vectors
    and of Lanczos steps. ``half`` is the spectrum of the same probes after half the steps, which needs no further
    products (None when exact). ``mode`` is that of the operator.

    All results have a standard error with three parts:

    - Probes: the mean of f over probes has the variance 2 sum (f - mean)^2 / (probes size^2), a sum over eigenvalues.
      Estimated from the nodes it has a smaller error than the scatter of a few probes, and it is known for a single
      probe, too. Every node counts as at least one eigenvalue, however small its weight happens to be. Where the
      scatter over merged spectra, times Student's t for 68.3%, is larger, the excess is added; where the scatter over
      all probes is larger still, it is used instead.
    - Depth: the change of the result in the last doubling of the steps; infinite where there was a single step.
    - Rounding: the change of the result when all nodes move independently by ``rounding``. For one exact spectrum this
      is the only part.

    Over 200 small networks one, two and three standard errors covered at least 83, 98 and 99.5% (nominally 68.3, 95.4
    and 99.7%), with 2 and with 4 probes.
    """

    nodes: Float[Tensor, " n"]
    weights: Float[Tensor, " n"]
    probe: Int[Tensor, " n"]
    spread: Float[Tensor, " n"]
    known: Bool[Tensor, " n"]
    member: Int[Tensor, " q"]
    size: int
    method: Method
    probes: int
    steps: int
    rounding: float = 0.0
    half: Spectrum | None = None
    products: int = 0
    cost: Cost = field(default_factory=Cost)
    seconds: float = 0.0
    mode: str | None = None

    def sum(self, function: Callable[[Float[Tensor, " n"]], Float[Tensor, " n"]]) -> SpectralSum:
        """The sum of ``function``, which maps a float64 vector to another of the same length, over all eigenvalues.

        ``spectrum.sum(lambda a: (1 - lr * a).abs().log())`` is the logarithm of the factor by which a step of gradient
        descent changes volumes.
        """

        def checked(nodes: Tensor) -> Tensor:
            values = torch.as_tensor(function(nodes), dtype=torch.float64, device="cpu")
            if values.shape != nodes.shape:
                raise InputError(
                    f"a function that returned shape {tuple(values.shape)} for eigenvalues of shape "
                    f"{tuple(nodes.shape)}",
                    expected="one number for each eigenvalue",
                )
            return values[:, None]

        mean, error = self._mean(checked)
        return SpectralSum(self.size * float(mean), self.size * float(error))

    @property
    def trace(self) -> float:
        """The sum of the eigenvalues."""
        return self.sum(lambda nodes: nodes).value

    @property
    def trace_error(self) -> float:
        """One standard error of the trace, in the unit of the eigenvalues."""
        return self.sum(lambda nodes: nodes).error

    @property
    def log_determinant(self) -> float:
        """The natural logarithm of |det|; minus infinity where an eigenvalue is 0."""
        return self.sum(lambda nodes: nodes.abs().log()).value

    @property
    def log_determinant_error(self) -> float:
        """One standard error of the log-determinant."""
        return self.sum(lambda nodes: nodes.abs().log()).error

    def density(self, x: Float[Tensor, " x"], broadening: float | None = None) -> Float[Tensor, " x"]:
        """The density at the points ``x``, normalised to 1: every node is a Gaussian of width ``broadening``.

        ``broadening`` is its standard deviation, in the unit of the eigenvalues; by default 1% of the range of the
        nodes.
        """
        return self._at(x, self._gaussians(broadening))[0]

    def density_error(self, x: Float[Tensor, " x"], broadening: float | None = None) -> Float[Tensor, " x"]:
        """One standard error of the density at the points ``x``."""
        return self._at(x, self._gaussians(broadening))[1]

    def cumulative(self, x: Float[Tensor, " x"]) -> Float[Tensor, " x"]:
        """The fraction of the eigenvalues that are at most ``x``: a step function between 0 and 1."""
        return self._at(x, _steps)[0]

    def cumulative_error(self, x: Float[Tensor, " x"]) -> Float[Tensor, " x"]:
        """One standard error of the cumulative fraction at the points ``x``."""
        return self._at(x, _steps)[1]

    def merge(self, *others: Spectrum) -> Spectrum:
        """One spectrum of all probes of several spectra of one size, each probe with the same weight.

        It adds probes of one operator (with another seed, since repeated probes would make the error too small), or
        averages over the operators of several mini-batches, exact or sampled. Standard errors are over all of them.
        """
        spectra = (self, *others)
        for name in ("size", "method", "mode"):
            found = list(dict.fromkeys(str(getattr(spectrum, name)) for spectrum in spectra))
            if len(found) > 1:
                raise InputError(f"merging spectra of different {name} ({', '.join(found)})", expected=f"one {name}")
        halves = [spectrum.half for spectrum in spectra if spectrum.half is not None]
        members, before = [], 0
        for spectrum in spectra:
            members.append(spectrum.member + before)
            before += int(spectrum.member.max()) + 1
        merged = from_quadratures(
            [one for s in spectra for one in s.by_probe()], self.size, self.method, min(s.steps for s in spectra)
        )
        return replace(
            merged,
            member=torch.cat(members),
            rounding=max(s.rounding for s in spectra),
            half=halves[0].merge(*halves[1:]) if len(halves) == len(spectra) else None,
            products=sum(s.products for s in spectra),
            cost=sum((s.cost for s in others), self.cost),
            seconds=sum(s.seconds for s in spectra),
            mode=self.mode,
        )

    def measures(self) -> list[tuple[Float[Tensor, " m"], Float[Tensor, " m"]]]:
        """Nodes and weights of each probe; the weights of a probe sum to 1."""
        return [(one.values, one.weights) for one in self.by_probe()]

    def by_probe(self) -> list[Nodes]:
        """The quadrature of each probe."""
        masks = [self.probe == i for i in range(self.probes)]
        return [
            Nodes(self.nodes[mask], self.weights[mask] * self.probes, self.spread[mask], self.known[mask])
            for mask in masks
        ]

    def _gaussians(self, width: float | None) -> AtPoints:
        if width is None:
            reach = float(self.nodes[-1] - self.nodes[0])
            width = 0.01 * (reach or abs(float(self.nodes[0])) or 1.0)
        if not 0 < width < math.inf:
            raise InputError(f"a broadening of {width} for a density", expected="a positive number")
        scale = 1 / (width * math.sqrt(2 * math.pi))
        return lambda nodes, points: scale * torch.exp(-0.5 * ((points - nodes[:, None]) / width) ** 2)

    def _at(self, x: Float[Tensor, " x"], function: AtPoints) -> tuple[Tensor, Tensor]:
        points = torch.as_tensor(x, dtype=torch.float64, device="cpu").flatten()
        if not bool(torch.isfinite(points).all()):
            raise InputError("points of a density that are NaN or infinite", expected="finite numbers")
        parts = [self._mean(_at_points(function, some)) for some in points.split(_POINTS_AT_A_TIME)]
        return torch.cat([mean for mean, _ in parts]), torch.cat([error for _, error in parts])

    def _mean(self, function: Callable[[Tensor], Tensor]) -> tuple[Float[Tensor, " x"], Float[Tensor, " x"]]:
        """The mean of each column of ``function(nodes)`` over the distribution, and its standard error."""
        values = function(self.nodes)
        probe_means = self._probe_means(values)
        mean = probe_means.mean(0)
        square = self._probe_variance(values, probe_means) + self._rounding_error(values, function) ** 2
        if self.half is not None:
            single_step = self.half.steps == self.steps and bool((self.spread > 0).any())
            drift = math.inf if single_step else self.half._probe_means(function(self.half.nodes)).mean(0) - mean
            square = square + drift**2
        return mean, square.sqrt().nan_to_num(nan=math.inf)

    def _probe_means(self, values: Float[Tensor, "n x"]) -> Float[Tensor, "q x"]:
        """The mean of each column over the nodes of each probe."""
        weighted = torch.where(self.weights[:, None] > 0, self.weights[:, None] * values, 0.0)
        sums = torch.zeros(self.probes, values.shape[1], dtype=torch.float64, device="cpu")
        return sums.index_add_(0, self.probe, weighted * self.probes)

    def _probe_variance(self, values: Float[Tensor, "n x"], probe_means: Float[Tensor, "q x"]) -> Float[Tensor, " x"]:
        """The variance of the mean due to the random probes."""
        nodes = Nodes(self.nodes, self.weights, self.spread, self.known)
        variance = variance_over_probes(nodes, values, self.size, self.probes)
        count = int(self.member.max()) + 1
        if count > 1:
            members = torch.stack([probe_means[self.member == i].mean(0) for i in range(count)])
            variance = variance + student_factor(count) ** 2 * (members.var(0) / count - variance).clamp(min=0)
        if self.probes > 1:
            variance = torch.maximum(variance, probe_means.var(0) / self.probes)
        return variance

    def _rounding_error(
        self, values: Float[Tensor, "n x"], function: Callable[[Tensor], Tensor]
    ) -> Float[Tensor, " x"]:
        """The error of the mean when all eigenvalues move independently by ``rounding``."""
        if not self.rounding:
            return torch.zeros(values.shape[1], dtype=torch.float64, device="cpu")
        moves = [(function(self.nodes + move) - values).abs() for move in (-self.rounding, self.rounding)]
        square = torch.where(self.weights[:, None] > 0, self.weights[:, None] * torch.fmax(*moves) ** 2, 0.0)
        return (square.sum(0) / self.size).sqrt()


def _at_points(function: AtPoints, points: Float[Tensor, " x"]) -> Callable[[Tensor], Tensor]:
    return lambda nodes: function(nodes, points)


def _steps(nodes: Float[Tensor, " n"], points: Float[Tensor, " x"]) -> Float[Tensor, "n x"]:
    return (nodes[:, None] <= points).double()


def student_factor(count: int) -> float:
    """The factor by which the standard error of the mean of ``count`` values grows to cover the truth in 68.3%.

    The half-width of Student's t interval. Twice and three times the result cover 95.4 and 99.7% only for many values.
    """
    # Imported here, and not from scipy.stats, since importing that takes longer than all of linalg.
    import scipy.special

    return float(scipy.special.stdtrit(count - 1, scipy.special.ndtr(1.0)))


def from_quadratures(
    quadratures: list[Nodes], size: int, method: Method, steps: int, rounding: float = 0.0
) -> Spectrum:
    """The spectrum of several probes, from the quadrature of each."""
    nodes, order = torch.cat([one.values for one in quadratures]).sort()
    return Spectrum(
        nodes=nodes,
        weights=torch.cat([one.weights for one in quadratures])[order] / len(quadratures),
        probe=torch.cat([torch.full((len(one.values),), i, device="cpu") for i, one in enumerate(quadratures)])[order],
        spread=torch.cat([one.spread for one in quadratures])[order],
        known=torch.cat([one.known for one in quadratures])[order],
        member=torch.zeros(len(quadratures), dtype=torch.int64, device="cpu"),
        size=size,
        method=method,
        probes=len(quadratures),
        steps=steps,
        rounding=rounding,
    )
