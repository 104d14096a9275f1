"""The measures of one network of a stack, for studies that train stacks."""

from edgescope.training.measured import measured_at

__all__ = ["measured_at"]
