"""The time-averaged trajectory of an optimizer past its threshold, and gradient flow, which has no threshold."""

from edgescope.flows.central import CentralFlow, FlowStep
from edgescope.optim.gradient_flow import GradientFlow

__all__ = ["CentralFlow", "FlowStep", "GradientFlow"]
