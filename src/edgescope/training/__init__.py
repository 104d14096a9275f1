"""Training runs from configurations: build, train, measure, checkpoint, resume; and batched training."""

from edgescope.training.config import RunConfig
from edgescope.training.parts import Parts
from edgescope.training.run import RunResult, train
from edgescope.training.setups import SETUPS
from edgescope.training.stack import Member, Stack
from edgescope.training.to_threshold import End, FlowEnd, descent_at, flow_of, regime_of, tradeoff_table

__all__ = [
    "SETUPS",
    "End",
    "FlowEnd",
    "Member",
    "Parts",
    "RunConfig",
    "RunResult",
    "Stack",
    "descent_at",
    "flow_of",
    "regime_of",
    "tradeoff_table",
    "train",
]
