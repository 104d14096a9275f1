"""Closed forms: diagonal and deep linear networks, their learning coefficients, flattest ReLU networks."""

from edgescope.theory import deep_linear, diagonal, reduced_rank, relu

__all__ = ["deep_linear", "diagonal", "reduced_rank", "relu"]
