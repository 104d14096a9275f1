"""Loss, gradient and curvature products of a model on data; chunked, sharded, checked."""

from edgescope.objective.layout import Slot
from edgescope.objective.minibatches import in_mode, in_precision, mini_batches, on_batch
from edgescope.objective.objective import Objective
from edgescope.objective.plan import Plan
from edgescope.objective.remembered import forget_choices

__all__ = ["Objective", "Plan", "Slot", "forget_choices", "in_mode", "in_precision", "mini_batches", "on_batch"]
