"""Diagonal linear networks f(x) = <w*w, x>: minimisers of norm and sharpness, and the trade-off between them."""

from edgescope.theory.diagonal.descent import Descent
from edgescope.theory.diagonal.flow import Flow
from edgescope.theory.diagonal.problem import Optimum, Problem

__all__ = ["Descent", "Flow", "Optimum", "Problem"]
