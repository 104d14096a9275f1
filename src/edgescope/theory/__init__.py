"""Closed forms: diagonal networks, deep linear phases, flattest ReLU networks."""

from edgescope.theory import deep_linear, diagonal, relu

__all__ = ["deep_linear", "diagonal", "relu"]
