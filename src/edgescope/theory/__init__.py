"""Closed forms: diagonal networks, deep linear phases, learning coefficients of linear networks, flattest ReLU networks."""

from edgescope.theory import deep_linear, diagonal, reduced_rank, relu

__all__ = ["deep_linear", "diagonal", "reduced_rank", "relu"]
