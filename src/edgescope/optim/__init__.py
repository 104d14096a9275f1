"""Optimizers: for each its update rule, preconditioner, threshold and Jacobian; gradient flow; optimizers by name."""

from edgescope.optim.adadelta import AdadeltaRule
from edgescope.optim.adafactor import AdafactorRule
from edgescope.optim.adagrad import AdagradRule
from edgescope.optim.adam import AdamRule
from edgescope.optim.adamax import AdamaxRule
from edgescope.optim.asgd import ASGDRule
from edgescope.optim.eight_bit import BitsAndBytesAdamRule, TorchAOAdamRule
from edgescope.optim.gradient_flow import GradientFlow
from edgescope.optim.jacobian import UpdateJacobian, update_jacobian
from edgescope.optim.joint import JointRule, rule_for
from edgescope.optim.known import add_rule
from edgescope.optim.label_noise import LabelNoiseSGD
from edgescope.optim.langevin import Langevin
from edgescope.optim.lion import Lion
from edgescope.optim.muon import MuonRule
from edgescope.optim.nadam import NAdamRule
from edgescope.optim.named import OPTIMIZERS
from edgescope.optim.pairs import OptimizerPlan, plan_optimizers
from edgescope.optim.radam import RAdamRule
from edgescope.optim.rmsprop import RMSPropRule
from edgescope.optim.rule import UpdateRule
from edgescope.optim.sam import SAM
from edgescope.optim.sam_rule import SAMRule
from edgescope.optim.scalar_rmsprop import ScalarRMSProp, ScalarRMSPropRule
from edgescope.optim.schedule_free import ScheduleFreeAdamWRule, ScheduleFreeRule
from edgescope.optim.sgd import SGDRule
from edgescope.optim.shampoo import ShampooRule
from edgescope.optim.signs import LionRule, RpropRule, SignumRule
from edgescope.optim.soap import SOAPRule
from edgescope.optim.sophia import SophiaHRule, SophiaRule
from edgescope.optim.steepest_descent import SteepestDescent, SteepestDescentRule
from edgescope.optim.threshold import Threshold
from edgescope.optim.unwrap import unwrapped

add_rule(SGDRule)
add_rule(ASGDRule)
add_rule(RMSPropRule)
add_rule(ScalarRMSPropRule)
add_rule(AdagradRule)
add_rule(AdadeltaRule)
add_rule(AdafactorRule)
add_rule(AdamRule)
add_rule(AdamaxRule)
add_rule(NAdamRule)
add_rule(RAdamRule)
add_rule(MuonRule)
add_rule(SteepestDescentRule)
add_rule(SAMRule)
add_rule(RpropRule)
add_rule(LionRule)
add_rule(SignumRule)
add_rule(ScheduleFreeRule)
add_rule(ScheduleFreeAdamWRule)
add_rule(ShampooRule)
add_rule(SOAPRule)
add_rule(SophiaRule)
add_rule(SophiaHRule)
add_rule(BitsAndBytesAdamRule)
add_rule(TorchAOAdamRule)

__all__ = [
    "OPTIMIZERS",
    "SAM",
    "GradientFlow",
    "JointRule",
    "LabelNoiseSGD",
    "Langevin",
    "Lion",
    "OptimizerPlan",
    "ScalarRMSProp",
    "SteepestDescent",
    "Threshold",
    "UpdateJacobian",
    "UpdateRule",
    "add_rule",
    "plan_optimizers",
    "rule_for",
    "unwrapped",
    "update_jacobian",
]
