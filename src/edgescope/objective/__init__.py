"""Loss, gradient and curvature products of a model on data; chunked, sharded, checked."""

from edgescope.objective.objective import Objective, Slot
from edgescope.objective.plan import Plan

__all__ = ["Objective", "Plan", "Slot"]
