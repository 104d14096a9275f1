"""Phases of deep linear networks under weight decay: one mode in closed form, and several together."""

from edgescope.theory.deep_linear.mode import Mode
from edgescope.theory.deep_linear.phase_diagram import PhaseDiagram, State

__all__ = ["Mode", "PhaseDiagram", "State"]
