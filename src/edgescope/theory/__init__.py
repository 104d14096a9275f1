"""Closed forms: diagonal networks, deep linear phases, flattest ReLU networks."""

from edgescope.theory import deep_linear, relu

__all__ = ["deep_linear", "relu"]
