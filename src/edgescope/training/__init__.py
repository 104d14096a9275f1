"""One training run from a configuration: build, train, measure, checkpoint, resume; and many small networks at once."""

from edgescope.training.config import RunConfig
from edgescope.training.parts import Parts
from edgescope.training.run import RunResult, train
from edgescope.training.stacked import Member, Stack

__all__ = ["Member", "Parts", "RunConfig", "RunResult", "Stack", "train"]
