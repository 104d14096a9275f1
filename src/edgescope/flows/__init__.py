"""The time-averaged trajectory of an optimizer past its threshold, and gradient flow, which has no threshold."""

from edgescope.flows.central import CentralFlow, FlowStep
from edgescope.flows.onset import OscillationOnset
from edgescope.flows.two_point import TwoPointFlow, TwoPointStep
from edgescope.optim.gradient_flow import GradientFlow

__all__ = ["CentralFlow", "FlowStep", "GradientFlow", "OscillationOnset", "TwoPointFlow", "TwoPointStep"]
