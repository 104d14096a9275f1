"""One training run from a configuration: build, train, measure, checkpoint, resume."""

from edgescope.training.config import RunConfig
from edgescope.training.parts import Parts
from edgescope.training.run import RunResult, train

__all__ = ["Parts", "RunConfig", "RunResult", "train"]
