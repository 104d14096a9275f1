"""Optimizers: for each its update rule, preconditioner, threshold and Jacobian; gradient flow; optimizers by name."""

from edgescope.flows.gradient_flow import GradientFlow
from edgescope.optim.adam import AdamRule
from edgescope.optim.jacobian import UpdateJacobian, update_jacobian
from edgescope.optim.joint import JointRule, rule_for
from edgescope.optim.known import add_rule
from edgescope.optim.label_noise import LabelNoiseSGD
from edgescope.optim.langevin import Langevin
from edgescope.optim.muon import MuonRule
from edgescope.optim.named import OPTIMIZERS
from edgescope.optim.rmsprop import RMSPropRule
from edgescope.optim.rule import UpdateRule
from edgescope.optim.sam import SAM
from edgescope.optim.sgd import SGDRule
from edgescope.optim.steepest_descent import SteepestDescent, SteepestDescentRule
from edgescope.optim.threshold import Threshold
from edgescope.optim.unwrap import unwrapped

add_rule(SGDRule)
add_rule(RMSPropRule)
add_rule(AdamRule)
add_rule(MuonRule)
add_rule(SteepestDescentRule)

__all__ = [
    "OPTIMIZERS",
    "SAM",
    "GradientFlow",
    "JointRule",
    "LabelNoiseSGD",
    "Langevin",
    "SteepestDescent",
    "Threshold",
    "UpdateJacobian",
    "UpdateRule",
    "add_rule",
    "rule_for",
    "unwrapped",
    "update_jacobian",
]
