"""Every figure that states an error, taken of a random network: the value, its error and the truth.

The truth is read off the dense float64 Hessian, or off the loss in float64, at the same parameters.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from random_networks import RandomNetwork, moment, networks
from scipy.stats import binom
from torch import Tensor, nn
from torch.func import grad, vmap

import edgescope as es
from edgescope.dimension import kaplan_yorke
from edgescope.linalg import EigenTracker, Spectrum, frobenius, spectrum, top_eigenpairs, trace
from edgescope.phases.chain_options import ChainOptions
from edgescope.phases.learning_coefficient import local_coefficient
from edgescope.phases.sgld_edge import Localized

NOMINAL = {1: 0.683, 2: 0.954, 3: 0.997}
LEVEL = 0.01  # of the one-sided test of each share


@dataclass(frozen=True)
class Trial:
    value: float
    error: float
    truth: float

    @property
    def off(self) -> float:
        return abs(self.value - self.truth)


@dataclass(frozen=True)
class Coverage:
    """How many of ``trials`` lie inside one, two and three errors, and the median of error over deviation."""

    trials: int
    inside: dict[int, int]
    ratio: float

    @classmethod
    def of(cls, trials: Iterable[Trial]) -> Coverage:
        trials = list(trials)
        inside = {times: sum(one.off <= times * one.error for one in trials) for times in NOMINAL}
        ratios = [one.error / one.off if one.off else math.inf for one in trials]
        return cls(len(trials), inside, float(np.median(ratios)))

    def share(self, times: int) -> float:
        return self.inside[times] / self.trials

    def least(self, times: int) -> int:
        """The least count that the nominal share does not rule out, by a one-sided binomial test at ``LEVEL``."""
        return int(binom.ppf(LEVEL, self.trials, NOMINAL[times]))

    def short(self) -> list[str]:
        """What is below nominal, in words; empty where the errors cover."""
        return [
            f"{self.inside[times]} of {self.trials} inside {times} errors, at least {self.least(times)} expected"
            for times in NOMINAL
            if self.inside[times] < self.least(times)
        ]


Figure = Callable[[RandomNetwork], Trial | None]
"""None: there is no such figure of this network."""


def coverage(figure: Figure, count: int = 200, tiny: bool = False) -> Coverage:
    return Coverage.of(trial for trial in map(figure, networks(count, tiny=tiny)) if trial is not None)


# Traces and norms


def of_trace(probes: int) -> Figure:
    def figure(network: RandomNetwork) -> Trial:
        found = trace(network.objective, num_matvecs=3 * probes, seed=network.number)
        return Trial(found.value, found.error, float(network.hessian.trace()))

    return figure


def of_trace_measure(network: RandomNetwork) -> Trial:
    found = es.MEASURES.build(f"hessian_trace:seed={network.number}").take(moment(network))
    return Trial(found.values[""], found.errors[""], float(network.hessian.trace()))


def of_frobenius(probes: int) -> Figure:
    def figure(network: RandomNetwork) -> Trial:
        found = frobenius(network.objective, num_matvecs=3 * probes, seed=network.number)
        return Trial(found.value, found.error, float(network.hessian.norm()))

    return figure


# Quadrature


@functools.cache
def quadrature(network: RandomNetwork, probes: int, steps: int, l2: float = 0.0) -> Spectrum:
    return spectrum(network.measured_in(network.dtype, l2), probes=probes, steps=steps, seed=network.number)


SUMS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "eigenvalues": lambda a, top: a,
    "squares": lambda a, top: a**2,
    "ln abs(1 - a / 2 top)": lambda a, top: (1 - a / (2 * top)).abs().log(),
    "smoothed step": lambda a, top: torch.sigmoid(20 * a / top - 2),
    "ln(abs(a) + top / 100)": lambda a, top: (a.abs() + top / 100).log(),
}


def of_sum(name: str, probes: int, steps: int) -> Figure:
    def figure(network: RandomNetwork) -> Trial:
        top = float(network.eigenvalues.abs().max())
        found = quadrature(network, probes, steps).sum(lambda a: SUMS[name](a, top))
        return Trial(found.value, found.error, float(SUMS[name](network.eigenvalues, top).sum()))

    return figure


def of_log_determinant(probes: int, steps: int) -> Figure:
    """Of H + 0.1, since null eigenvalues leave only rounding of ln|det H|."""

    def figure(network: RandomNetwork) -> Trial:
        found = quadrature(network, probes, steps, l2=0.1)
        truth = float((network.eigenvalues + 0.1).abs().log().sum())
        return Trial(found.log_determinant, found.log_determinant_error, truth)

    return figure


def of_density(probes: int, steps: int) -> Figure:
    """Near an eigenvalue at random, smoothed by a twentieth of their range."""

    def figure(network: RandomNetwork) -> Trial:
        values = network.eigenvalues
        width = 0.05 * float(values[-1] - values[0])
        x = values[[int(np.random.default_rng(network.number).integers(network.size))]] + width / 3
        found = quadrature(network, probes, steps)
        truth = (torch.exp(-0.5 * ((x - values) / width) ** 2) / (width * math.sqrt(2 * math.pi))).mean()
        return Trial(float(found.density(x, width)), float(found.density_error(x, width)), float(truth))

    return figure


def of_cumulative(probes: int, steps: int) -> Figure:
    def figure(network: RandomNetwork) -> Trial:
        values = network.eigenvalues
        x = values[[0]] + float(values[-1] - values[0]) * float(np.random.default_rng(network.number).beta(1, 4))
        found = quadrature(network, probes, steps)
        return Trial(float(found.cumulative(x)), float(found.cumulative_error(x)), float((values <= x).double().mean()))

    return figure


# Eigenvalues


def of_eigenvalue(tol: float) -> Figure:
    def figure(network: RandomNetwork) -> Trial:
        place = network.number % 3
        found = top_eigenpairs(network.objective, 3, tol=tol, seed=network.number)
        return Trial(float(found.values[place]), float(found.error[place]), float(network.eigenvalues[-1 - place]))

    return figure


def of_tracked_eigenvalue(updates: int) -> Figure:
    """One of two values that a tracker has followed along gradient descent, at 1.2 times the stable rate."""

    def figure(network: RandomNetwork) -> Trial:
        objective, begin = network.objective, network.objective.parameters()
        tracker = EigenTracker(objective, k=2, seed=network.number)
        rate = 2.4 / max(float(network.eigenvalues[-1]), 1e-3)
        found = tracker.update()
        for _ in range(updates):
            objective.assign(objective.parameters() - rate * objective.gradient())
            found = tracker.update()
        truth = torch.linalg.eigvalsh(network.present_hessian())
        objective.assign(begin)
        place = network.number % 2
        return Trial(float(found.values[place]), float(found.error[place]), float(truth[-1 - place]))

    return figure


# The sharpness dimension


def learning_rate(network: RandomNetwork) -> float:
    """From 0.4 to 3.1 over the largest eigenvalue."""
    return (0.4, 0.8, 1.3, 2.05, 3.1)[network.number % 5] / float(network.eigenvalues.abs().max())


def of_dimension(method: str, probes: int, steps: int) -> Figure:
    def figure(network: RandomNetwork) -> Trial:
        lr = learning_rate(network)
        found = es.sharpness_dimension(quadrature(network, probes, steps), lr, method=method)
        return Trial(found.dimension, found.error, kaplan_yorke((1 - lr * network.eigenvalues).abs().log()))

    return figure


def of_exact_dimension(network: RandomNetwork) -> Trial | None:
    """From all eigenvalues in float32, whose rounding is the only error."""
    if network.dtype != torch.float32:
        return None
    lr = learning_rate(network)
    found = es.sharpness_dimension(network.objective, lr, method="exact", dtype=None)
    return Trial(found.dimension, found.error, kaplan_yorke((1 - lr * network.eigenvalues).abs().log()))


def of_deepened_dimension(network: RandomNetwork) -> Trial:
    """From products, at a depth that it chooses by itself, at the edge of stability."""
    lr = 2.05 / float(network.eigenvalues.abs().max())
    found = es.sharpness_dimension(network.objective, lr, method="slq", probes=4, steps=8, seed=network.number)
    return Trial(found.dimension, found.error, kaplan_yorke((1 - lr * network.eigenvalues).abs().log()))


# Directional smoothness


def of_smoothness(method: str) -> Figure:
    """Of a step near the gradient, between 1e-6 and 1 long; by products alone where there are no kinks."""

    def figure(network: RandomNetwork) -> Trial | None:
        if method == "products" and network.activation is nn.ReLU:
            return None
        draw = np.random.default_rng(network.number)
        w, gradient, loss = network.objective.parameters(), network.objective.gradient(), network.objective.loss()
        direction = gradient / gradient.norm() + torch.as_tensor(draw.normal(size=network.size)).to(w) / network.size
        step = 10 ** float(draw.uniform(-6, 0)) * direction / direction.norm()
        found = es.directional_smoothness(network.objective, w, w + step, loss_w=loss, method=method)
        return Trial(found.value, found.error, true_smoothness(network, w.double(), (w + step).double()))

    return figure


def true_smoothness(network: RandomNetwork, w: Tensor, to: Tensor) -> float:
    """By the integral of Hessians; by the definition where kinks or a long way make that inexact."""
    step = to - w
    half = float(step @ step) / 2
    losses = [float(network.exact.loss(place)) for place in (w, to)]
    slope = float(network.exact.gradient(w) @ step)
    by_losses = (losses[1] - losses[0] - slope) / half

    inputs, targets = network.data[0].double(), network.data[1]

    def form_at(t: Tensor) -> Tensor:
        return grad(grad(lambda t: network.loss_at(w + t * step, inputs, targets)))(t)

    def integral(count: int) -> float:
        nodes, weights = (torch.from_numpy(x) / 2 for x in np.polynomial.legendre.leggauss(count))
        places = nodes + 0.5
        forms = vmap(form_at)(places)
        return float((2 * weights * (1 - places)) @ forms) / (2 * half)

    coarse, by_forms = integral(11), integral(16)
    rounding = 1e-14 * (abs(losses[0]) + abs(losses[1]) + abs(slope)) / half
    kinks = network.activation is nn.ReLU and abs(by_losses - by_forms) > rounding
    return by_losses if kinks or abs(coarse - by_forms) > rounding + 1e-12 * abs(by_forms) else by_forms


# The learning coefficient


def of_learning_coefficient(chains: int) -> Figure:
    """Of the quadratic with the eigenvalues of the network, against the closed form at the same step and gamma."""

    def figure(network: RandomNetwork) -> Trial | None:
        h = network.eigenvalues.clamp(min=0).double()
        w = nn.Parameter(torch.zeros_like(h))
        model = nn.ParameterDict({"w": w})
        quadratic = es.Objective(
            model, lambda m, batch: (0.5 * h * m["w"] ** 2).sum() + 0 * batch.sum(), torch.zeros(2, 1)
        )
        options = ChainOptions(n=2, beta=5 / max(float(h.max()), 1e-9), chains=chains, seed=network.number)
        found = local_coefficient(quadratic, options)
        truth = Localized(found.n * found.beta, found.gamma).coefficient(h.numpy(), found.step)
        return None if found.status != "mixed" else Trial(found.value, found.error, truth)

    return figure


SAMPLED: dict[str, Figure] = {
    "trace, 4 probes": of_trace(4),
    "trace, 16 probes": of_trace(16),
    "Frobenius norm, 4 probes": of_frobenius(4),
    **{f"sum of {name}, 4 probes of 16 steps": of_sum(name, 4, 16) for name in SUMS},
    "density, 4 probes of 16 steps": of_density(4, 16),
    "cumulative share, 4 probes of 16 steps": of_cumulative(4, 16),
}
DIMENSIONS: dict[str, Figure] = {
    **{f"dimension by {method}, 4 probes of 16 steps": of_dimension(method, 4, 16) for method in ("slq", "ps", "kde")},
    "dimension by slq, depth chosen": of_deepened_dimension,
}
BOUNDED: dict[str, Figure] = {
    "eigenvalue, tol 1e-3": of_eigenvalue(1e-3),
    "tracked eigenvalue": of_tracked_eigenvalue(2),
    "dimension, exact, float32": of_exact_dimension,
    "directional smoothness": of_smoothness("auto"),
}
FURTHER: dict[str, Figure] = {
    "Frobenius norm, 16 probes": of_frobenius(16),
    "measure hessian_trace": of_trace_measure,
    "trace, 2 probes of 20 steps": of_sum("eigenvalues", 2, 20),
    "cumulative share, 2 probes of 20 steps": of_cumulative(2, 20),
    "log-determinant, 4 probes of 16 steps": of_log_determinant(4, 16),
    **{f"dimension by {method}, 4 probes of 10 steps": of_dimension(method, 4, 10) for method in ("slq", "ps", "kde")},
    **{f"dimension by {method}, 2 probes of 30 steps": of_dimension(method, 2, 30) for method in ("slq", "ps", "kde")},
    "eigenvalue, tol 1e-2": of_eigenvalue(1e-2),
    "directional smoothness by products": of_smoothness("products"),
    "learning coefficient, 8 chains": of_learning_coefficient(8),
}
"""Of other sizes, for the benchmark: the tests leave them out for the time they take."""
