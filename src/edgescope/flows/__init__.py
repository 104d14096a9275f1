"""Continuous-time limits of training, integrated with adaptive steps: gradient flow."""

from edgescope.flows.gradient_flow import GradientFlow

__all__ = ["GradientFlow"]
