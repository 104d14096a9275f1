"""Brackets of generalized sharpness of tiny random networks, with the truth by enumeration."""

from __future__ import annotations

from collections.abc import Callable

import torch
from error_trials import Figure, Trial
from quadratic_forms import over_faces
from random_networks import RandomNetwork

import edgescope as es

Truth = Callable[[RandomNetwork], float]


def _largest_eigenvalue(network: RandomNetwork) -> float:
    return float(network.eigenvalues[-1])


def _largest_in_metric(network: RandomNetwork) -> float:
    metric = es.geometry.Diagonal(seed=2).bind(network.objective.shapes).metric()
    return float(torch.linalg.eigvalsh(metric.inverse_root(metric.inverse_root(network.hessian).T))[-1])


def _over_the_cube(network: RandomNetwork) -> float:
    return over_faces(network.hessian)


def _of_bracket(geometry: str, truth_of: Truth) -> Figure:
    """Inside one error is inside the bracket."""

    def figure(network: RandomNetwork) -> Trial:
        found = es.generalized_sharpness(network.objective, geometry, restarts=3, seed=network.number)
        return Trial((found.upper + found.lower) / 2, (found.upper - found.lower) / 2, truth_of(network))

    return figure


BRACKETS: dict[str, Figure] = {
    "Euclidean bracket": _of_bracket("euclidean", _largest_eigenvalue),
    "diagonal bracket": _of_bracket("diagonal:seed=2", _largest_in_metric),
    "Linf bracket": _of_bracket("linf", _over_the_cube),
}
