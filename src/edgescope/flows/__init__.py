"""The time-averaged trajectory of an optimizer past its threshold, and gradient flow, which has no threshold."""

from edgescope.flows.central import CentralFlow, FlowStep
from edgescope.flows.gap import GapTerms, sharpness_gap
from edgescope.flows.onset import OscillationOnset
from edgescope.flows.stable import StableFlow, StableStep
from edgescope.flows.two_point import TwoPointFlow, TwoPointStep
from edgescope.optim.gradient_flow import GradientFlow

__all__ = [
    "CentralFlow",
    "FlowStep",
    "GapTerms",
    "GradientFlow",
    "OscillationOnset",
    "StableFlow",
    "StableStep",
    "TwoPointFlow",
    "TwoPointStep",
    "sharpness_gap",
]
