"""Training runs by name, each known to show an effect: ``SETUPS.build("grok-mlp")`` is a configuration."""

from __future__ import annotations

from edgescope.registry import Registry
from edgescope.training.config import RunConfig
from edgescope.training.setups.grok_mlp import GrokMLP
from edgescope.training.setups.grok_teacher import GrokTeacher
from edgescope.training.setups.grok_transformer import GrokTransformer

SETUPS: Registry[RunConfig] = Registry("setup")
SETUPS.add("grok-mlp", GrokMLP)
SETUPS.add("grok-transformer", GrokTransformer)
SETUPS.add("grok-teacher", GrokTeacher)

__all__ = ["SETUPS"]
