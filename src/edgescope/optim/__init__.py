"""Optimizers: for each its update rule, preconditioner, threshold and Jacobian; gradient flow; optimizers by name."""

from edgescope.optim.adam import AdamRule
from edgescope.optim.gradient_flow import GradientFlow
from edgescope.optim.jacobian import UpdateJacobian, update_jacobian
from edgescope.optim.label_noise import LabelNoiseSGD
from edgescope.optim.langevin import Langevin
from edgescope.optim.muon import MuonRule
from edgescope.optim.named import OPTIMIZERS
from edgescope.optim.rmsprop import RMSPropRule
from edgescope.optim.rule import Threshold, UpdateRule, add_rule, rule_for
from edgescope.optim.sam import SAM
from edgescope.optim.sgd import SGDRule
from edgescope.optim.steepest_descent import SteepestDescent, SteepestDescentRule

add_rule(SGDRule)
add_rule(RMSPropRule)
add_rule(AdamRule)
add_rule(MuonRule)
add_rule(SteepestDescentRule)

__all__ = [
    "OPTIMIZERS",
    "SAM",
    "GradientFlow",
    "LabelNoiseSGD",
    "Langevin",
    "SteepestDescent",
    "Threshold",
    "UpdateJacobian",
    "UpdateRule",
    "add_rule",
    "rule_for",
    "update_jacobian",
]
